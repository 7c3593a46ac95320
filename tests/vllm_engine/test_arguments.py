"""From a composite to vLLM's arguments, without vLLM."""

from __future__ import annotations

import json
import shlex
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_models import make_model
from typer.testing import CliRunner

from eft_eval.cli.app import app
from eft_eval.composite.model import CompositeModel
from eft_eval.errors import ConfigError
from eft_eval.recipe import split_recipe
from eft_eval.vllm.arguments import (
    ARCHITECTURE,
    draft_length,
    engine_arguments,
    with_scored_token,
)
from eft_eval.vllm.engine import decoding_statistics
from eft_eval.vllm.server import check_port, serve_command

Loader = Callable[..., CompositeModel]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("members")
    return {
        "base": make_model(root / "base", hidden=96, layers=4, vocabulary=272, positions=512),
        "tuned": make_model(root / "tuned", vocabulary=264, seed=1),
        "reference": make_model(root / "reference", seed=2, vocabulary=264),
        "other": make_model(root / "other", seed=3, vocabulary=261),
    }


@pytest.fixture
def load(folders: dict[str, str]) -> Loader:
    def loaded(**recipe: Any) -> CompositeModel:
        roles = {role: folders[role] for role in ("base", "tuned", "reference")}
        if "deltas" in recipe:
            roles = {"base": folders["base"]}
        return CompositeModel.load(roles | recipe, device="cpu")

    return loaded


def test_the_sum_stands_in_the_overrides(load: Loader, folders: dict[str, str]) -> None:
    values = engine_arguments(load(weight=0.5, block=0)).values
    overrides = values["hf_overrides"]
    assert values["model"] == folders["base"]
    assert values["tokenizer"] == folders["tuned"]
    assert values["max_model_len"] == 256  # the shortest member's
    assert "speculative_config" not in values
    assert overrides["architectures"] == [ARCHITECTURE]
    # 259 tokens of the tokenizer: what pads each member's vocabulary is cut
    assert (overrides["vocab_size"], overrides["eft_vocabulary"]) == (259, 259)
    assert [one["model"] for one in overrides["eft_members"]] == [
        folders[role] for role in ("base", "reference", "tuned")
    ]
    assert overrides["eft_views"] == [[0, 1.0], [1, -0.5], [2, 0.5]]
    json.dumps(values)


def test_equal_members_are_one(load: Loader, folders: dict[str, str]) -> None:
    deltas = [
        {"tuned": folders["tuned"], "reference": folders["reference"], "weight": 0.25},
        {"tuned": folders["other"], "reference": folders["reference"], "weight": 0.75},
    ]
    overrides = engine_arguments(load(deltas=deltas, block=0)).values["hf_overrides"]
    found = {
        Path(overrides["eft_members"][number]["model"]).name: factor
        for number, factor in overrides["eft_views"]
    }
    assert found == {"base": 1.0, "reference": -1.0, "tuned": 0.25, "other": 0.75}


def test_a_base_that_is_the_reference(load: Loader, folders: dict[str, str]) -> None:
    values = engine_arguments(load(reference=folders["base"], block=0)).values
    # base - reference vanishes: the tuned model alone
    assert values["model"] == folders["tuned"]
    assert values["hf_overrides"]["eft_views"] == [[0, 1.0]]


def test_the_filter_keeps_three_views(load: Loader, folders: dict[str, str]) -> None:
    composite = load(reference=folders["base"], weight_top_p=0.9, block=0)
    overrides = engine_arguments(composite).values["hf_overrides"]
    assert overrides["eft_weight_top_p"] == 0.9
    assert overrides["eft_views"] == [[0, 1.0], [0, -1.0], [1, 1.0]]


@pytest.mark.parametrize(("block", "drafted"), [(3, 3), ("auto", 4)])
def test_the_draft_has_the_targets_size(
    load: Loader, folders: dict[str, str], block: int | str, drafted: int
) -> None:
    values = engine_arguments(load(block=block)).values
    assert values["speculative_config"] == {
        "method": "draft_model",
        "model": folders["tuned"],
        "num_speculative_tokens": drafted,
    }
    assert values["hf_overrides"]["vocab_size"] == 264  # the draft's own
    assert values["hf_overrides"]["eft_vocabulary"] == 259


@pytest.mark.parametrize("share", [0.01, 0.05, 0.1, 0.2, 0.3, 0.45])
def test_the_length_of_drafts_is_near_the_best_at_any_acceptance(share: float) -> None:
    def speed(length: int, acceptance: float) -> float:
        return (1 - acceptance ** (length + 1)) / (1 - acceptance) / (1 + length * share)

    chosen = draft_length(share)
    for acceptance in (0.5, 0.6, 0.7, 0.8, 0.9):
        best = max(speed(length, acceptance) for length in range(1, 5))
        assert speed(chosen, acceptance) >= 0.88 * best
        assert speed(chosen, acceptance) > 1  # plain decoding
    lengths = [draft_length(one / 100) for one in range(1, 50)]
    assert lengths == sorted(lengths, reverse=True)  # the dearer, the fewer
    assert (lengths[0], lengths[-1]) == (4, 1)


def test_auto_drafts_nothing_where_the_draft_is_no_smaller(
    load: Loader, folders: dict[str, str]
) -> None:
    found = engine_arguments(load(base=folders["other"], tuned=folders["base"], block="auto"))
    assert "speculative_config" not in found.values
    assert len(found.notes) == 1
    assert "plain" in found.notes[0]


@pytest.mark.parametrize(
    ("recipe", "extra", "word"),
    [
        ({}, {"pipeline_parallel_size": 2}, "tensor_parallel_size"),
        ({}, {"pipeline_parallel_size": "x"}, "tensor_parallel_size"),
        ({}, {"quantization": "awq"}, "members"),
        ({}, {"revision": "main"}, "base.revision"),
        ({}, {"enable_lora": True}, "merge the adapter"),
        ({}, {"model_impl": "transformers"}, "auto or vllm"),  # would be the base alone
        ({}, {"load_format": "dummy"}, "auto or hf"),
        ({}, {"logprobs_mode": "processed_logprobs"}, "raw_logprobs"),
        ({}, {"disable_sliding_window": True}, "max_model_len"),
        ({}, {"tensor_parallel_size": 3}, "cannot be cut into 3 equal ranks"),
        ({}, {"tensor_parallel_size": "all"}, "number of devices"),
        ({}, {"tensor_parallel_size": "0"}, "number of devices"),
        ({}, {"tensor_parallel_size": 0}, "number of devices"),
        ({}, {"hf_overrides": {}}, "recipe"),
        ({}, {"tokenizer": "x"}, "tuned member"),
        ({}, {"max_model_len": 512}, "up to 256"),
        ({}, {"max_model_len": "1k"}, "up to 256"),
        ({}, {"max_model_len": "9" * 5000}, "up to 256"),
        ({}, {"max_model_len": "²"}, "up to 256"),
        ({"reference.prompt": "{{ prompt }}"}, {}, "prompt of its own"),
        ({"sampling": "coupled"}, {}, "in distribution"),
        ({"tuned.quantization": "8bit"}, {}, "bitsandbytes"),
        ({"base.placement": "cpu"}, {}, "placement"),
    ],
)
def test_what_cannot_run_is_refused_in_one_line(
    load: Loader, recipe: dict[str, Any], extra: dict[str, Any], word: str
) -> None:
    with pytest.raises(ConfigError, match=word) as caught:
        engine_arguments(load(**recipe), extra)
    assert "\n" not in str(caught.value)


def changed(source: str, folder: Path, **settings: Any) -> str:
    """Copy a model with other settings; its weights are never read."""
    shutil.copytree(source, folder)
    for name, values in settings.items():
        file = folder / f"{name}.json"
        file.write_text(
            json.dumps((json.loads(file.read_text()) if file.exists() else {}) | values)
        )
    return str(folder)


def test_rows_may_have_one_token_more_than_members_read(load: Loader) -> None:
    values = engine_arguments(load(), {"max_model_len": "100"}).values
    found = with_scored_token(values)
    assert found["max_model_len"] == 101
    assert found["hf_overrides"]["model_max_length"] == 101
    assert found["hf_overrides"].keys() - {"model_max_length"} == values["hf_overrides"].keys()
    assert values["max_model_len"] == "100"


@pytest.mark.parametrize("asked", ["-1", "1k", 0, "x"])
def test_a_length_is_a_number_where_no_member_says_one(
    load: Loader, folders: dict[str, str], tmp_path: Path, asked: Any
) -> None:
    bloom = {"model_type": "bloom", "architectures": ["BloomForCausalLM"], "n_head": 4}
    bloom["max_position_embeddings"] = None  # it has none
    roles = {
        role: changed(folders[role], tmp_path / role, config=bloom)
        for role in ("base", "tuned", "reference")
    }
    composite = load(**roles)
    assert "max_model_len" not in engine_arguments(composite).values
    assert engine_arguments(composite, {"max_model_len": "100"}).values["max_model_len"] == "100"
    with pytest.raises(ConfigError, match=r"expected a number of tokens$"):
        engine_arguments(composite, {"max_model_len": asked})


def test_rotary_factors_of_long_rows_are_never_reached(
    load: Loader, folders: dict[str, str], tmp_path: Path
) -> None:
    """vLLM takes them for all rows, once any may be long."""
    rope: dict[str, Any] = {"rope_theta": 10000.0, "rope_type": "longrope", "factor": 2.0}
    rope |= {"short_factor": [1.0] * 8, "long_factor": [2.0] * 8}
    rope["original_max_position_embeddings"] = 64
    long = changed(folders["base"], tmp_path / "long", config={"rope_parameters": rope})
    assert engine_arguments(load(base=long)).values["max_model_len"] == 63
    with pytest.raises(ConfigError, match="up to 63"):
        engine_arguments(load(base=long), {"max_model_len": 128})
    rope = {"rope_theta": 10000.0, "rope_type": "dynamic", "factor": 2.0}
    other = changed(folders["base"], tmp_path / "dynamic", config={"rope_parameters": rope})
    with pytest.raises(ConfigError, match="dynamic rotary embeddings"):
        engine_arguments(load(base=other))


def test_members_with_windows(load: Loader, folders: dict[str, str], tmp_path: Path) -> None:
    window = {"model_type": "mistral", "architectures": ["MistralForCausalLM"]}
    base = changed(folders["base"], tmp_path / "base", config=window | {"sliding_window": 16})
    found = engine_arguments(load(base=base, block="auto"))
    assert "speculative_config" not in found.values
    assert "several sizes" in found.notes[0]
    with pytest.raises(ConfigError, match=r"block=3: .*; set block=0"):
        engine_arguments(load(base=base, block=3))
    qwen = {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "layer_types": None}
    some = {"sliding_window": 16, "use_sliding_window": True, "max_window_layers": 1}
    roles = {
        role: changed(folders[role], tmp_path / f"qwen-{role}", config=qwen | more)
        for role, more in (("base", some), ("tuned", {}), ("reference", {}))
    }
    with pytest.raises(ConfigError, match="some of its layers"):
        engine_arguments(load(**roles))


def test_model_args_fall_into_two_parts() -> None:
    recipe, rest = split_recipe("base=a,tuned.dtype=float32,weight2=0.5,tensor_parallel_size=8")
    assert recipe == {"base": "a", "tuned.dtype": "float32", "weight2": "0.5"}
    assert rest == {"tensor_parallel_size": "8"}


def test_the_servers_command(load: Loader, folders: dict[str, str]) -> None:
    words = serve_command(load(block=2), ["--port", "8001", "--max-model-len=128"]).words
    assert words[:2] == ["serve", folders["base"]]
    assert words[-3:] == ["--port", "8001", "--max-model-len=128"]
    assert words.count("--max-model-len") == 0  # the user's wins
    values = dict(zip(words[2:-3:2], words[3:-3:2], strict=True))
    assert json.loads(values["--hf-overrides"])["architectures"] == [ARCHITECTURE]
    assert json.loads(values["--speculative-config"])["num_speculative_tokens"] == 2
    with pytest.raises(ConfigError, match="stages"):
        serve_command(load(), ["-pp", "2"])
    with pytest.raises(ConfigError, match="up to 256"):
        serve_command(load(), ["--max-model-len", "512"])


def test_a_server_answers_as_eft_does(
    load: Loader, folders: dict[str, str], tmp_path: Path
) -> None:
    """A tuned checkpoint's penalty would change greedy answers, and not every end is read."""
    composite = load()
    words, notes = serve_command(composite)
    override = words[words.index("--override-generation-config") + 1]
    assert json.loads(override) == {"repetition_penalty": 1.0}
    assert notes == ()
    end = composite.tokenizer.eos_token_id
    tuned = changed(
        folders["tuned"], tmp_path / "tuned",
        config={"eos_token_id": [end, 65]}, generation_config={"eos_token_id": end},
    )  # fmt: skip
    mine = ["--override-generation-config", '{"top_k": 5}', "--port", "8001"]
    words = serve_command(composite, mine).words
    assert words[-6:-2] == mine
    assert json.loads(words[-1]) == {"repetition_penalty": 1.0, "top_k": 5}
    dotted = "--override-generation-config.top_k=5"
    assert serve_command(composite, [dotted]).words[-3:] == [
        "--override-generation-config.repetition_penalty", "1.0", dotted,
    ]  # fmt: skip
    with pytest.raises(ConfigError, match="expected a JSON object"):
        serve_command(composite, ["--override-generation-config", "5"])
    (note,) = serve_command(load(tuned=tuned)).notes
    assert '"stop_token_ids": [65]' in note
    for flags in (["--hf-overrides.vocab_size", "7"], ["-sc", "{}"], ["--spec-tokens", "2"]):
        with pytest.raises(ConfigError, match="leave it out"):
            serve_command(composite, flags)
    for flags in (["--enable-lora"], ["--enable-lora", "--port", "1"]):
        with pytest.raises(ConfigError, match="merge the adapter"):
            serve_command(composite, flags)
    with pytest.raises(ConfigError, match="number of devices"):
        serve_command(composite, ["-tp", "0"])


def test_shortened_flags_and_those_of_a_file_are_checked(load: Loader, tmp_path: Path) -> None:
    composite = load()
    for flags in (["--hf-over", "{}"], ["--max-model", "512"], ["--spec-tok=3"], ["--enable-lor"]):
        with pytest.raises(ConfigError):
            serve_command(composite, flags)
    settings = tmp_path / "vllm.yaml"
    for text, message in (
        ("enable-lora: true\n", "merge the adapter"),
        ("max_model_len: 512\n", "up to 256"),
        ("- port\n", "expected lines such as"),
        ("a: [\n", "cannot be read as YAML"),
    ):
        settings.write_text(text, "utf-8")
        with pytest.raises(ConfigError, match=message):
            serve_command(composite, ["--config", str(settings)])
    settings.write_text("override-generation-config: {top_k: 5}\nport: 8001\n", "utf-8")
    words = serve_command(composite, ["--config", str(settings)]).words
    assert json.loads(words[-1]) == {"repetition_penalty": 1.0, "top_k": 5}
    assert "--model-impl" not in words
    serve_command(composite, ["--model-impl", "vllm", "--max-num-seqs", "8"])


def test_a_port_in_use_is_said_before_anything_starts() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        with pytest.raises(ConfigError, match=f"--port {port} is in use"):
            check_port(["--port", port, "--host=127.0.0.1"])
    check_port(["--port", port, "--host=127.0.0.1"])
    check_port(["--uds", "/tmp/x", "--port", "1"])


def test_serve_dry_run_prints_the_plain_command(folders: dict[str, str]) -> None:
    recipe = ",".join(f"{role}={folders[role]}" for role in ("base", "tuned", "reference"))
    done = CliRunner().invoke(app, ["serve", recipe, "--dry-run", "--port", "8001"])
    assert done.exit_code == 0, done.output
    words = shlex.split(done.stdout)
    assert words[:3] == ["vllm", "serve", folders["base"]]
    assert words[-2:] == ["--port", "8001"]


def test_metrics_of_drafts() -> None:
    class Counter:
        def __init__(self, name: str, value: int) -> None:
            self.name, self.value = name, value

    class Vector:
        name, values = "vllm:spec_decode_num_accepted_tokens_per_pos", [8, 6, 3]

    metrics = [
        Counter("vllm:spec_decode_num_drafts", 10),
        Counter("vllm:spec_decode_num_draft_tokens", 30),
        Counter("vllm:spec_decode_num_accepted_tokens", 17),
        Vector(),
    ]
    record = decoding_statistics(metrics, requests=2, tokens=27, seconds=3.0).record()
    assert record.acceptance == 17 / (10 + 8 + 6)
    assert record.accepted_share == 17 / 30
    assert record.tokens_per_second == 9.0
