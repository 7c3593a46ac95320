"""Which model an adapter belongs to: found, told, refused, or out of reach."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import huggingface_hub
import pytest
import torch
from adapters import composite, make_adapter, merged, rewrite, scores
from safetensors.torch import load_file, save_file
from tiny_models import byte_tokenizer, make_model

from eft_eval import Composite
from eft_eval.engine.adapters import read_adapter
from eft_eval.errors import ConfigError
from eft_eval.recipe import MemberSpec

pytest.importorskip("peft", reason="adapters need eft-eval[peft]")


def test_a_base_that_is_found_by_chance_is_told(
    home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config: dict = {"init_lora_weights": "pissa_niter_4", "target_modules": ["q_proj"]}
    adapter = make_adapter(tmp_path / "pissa", str(home / "small"), **config)
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        with caplog.at_level(logging.WARNING, logger="eft_eval"):
            found.append(scores(composite(home, adapter)))
    assert "not quite what was trained" in caplog.text
    assert found[0] == found[1]


def test_a_model_that_is_not_here_is_the_reference(
    home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(home / "one", moved)
    rewrite(moved, base_model_name_or_path="/gone/with/the/model")
    with caplog.at_level(logging.WARNING, logger="eft_eval"):
        ours = composite(home, str(moved))
    assert "was made on '/gone/with/the/model'" in caplog.text
    assert ours.members["tuned"].base is ours.members["reference"]  # type: ignore[attr-defined]


def test_another_model_than_the_reference_is_told_and_loaded(
    home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = make_model(tmp_path / "other", seed=8)
    adapter = make_adapter(tmp_path / "adapter", other)
    with caplog.at_level(logging.WARNING, logger="eft_eval"):
        ours = composite(home, adapter)
    assert "is no other member: it is loaded as well" in caplog.text
    assert scores(ours) == pytest.approx(scores(composite(home, merged(adapter))), abs=1e-4)


def test_an_adapter_beside_whole_weights_is_refused(home: Path, tmp_path: Path) -> None:
    both = tmp_path / "both"
    shutil.copytree(home / "small", both)
    for file in (home / "one").glob("adapter_*"):
        shutil.copy(file, both)
    for role in ("base", "tuned", "reference"):
        with pytest.raises(ConfigError, match=f"^{role} member .* beside the weights of a whole"):
            composite(home, **{"tuned": str(home / "small"), role: str(both)})


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda w: dict(list(w.items())[1:]), "missing"),
        (lambda w: {**w, "base_model.model.extra.lora_A.weight": torch.zeros(1, 1)}, "unknown"),
        (lambda w: {key: torch.zeros(3, 3) for key in w}, "cannot read its adapter"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused(
    home: Path, tmp_path: Path, change: object, match: str
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(home / "one", broken)
    weights = load_file(broken / "adapter_model.safetensors")
    save_file(change(weights), broken / "adapter_model.safetensors")  # type: ignore[operator]
    with pytest.raises(ConfigError, match=f"^tuned member .*{match}") as caught:
        _ = composite(home, str(broken)).members["tuned"].model
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"peft_type": "NO_SUCH"}, "cannot read its adapter"),
        ({"task_type": "SEQ_CLS"}, "for SEQ_CLS; expected CAUSAL_LM"),
        ({"alora_invocation_tokens": [1, 2]}, "of kind LORA changes the prompt"),
    ],
)
def test_adapters_of_other_kinds_are_refused(
    home: Path, tmp_path: Path, values: dict, match: str
) -> None:
    other = tmp_path / "other"
    shutil.copytree(home / "one", other)
    rewrite(other, **values)
    with pytest.raises(ConfigError, match=match):
        composite(home, str(other))


def test_prompt_tuning_is_refused(home: Path, tmp_path: Path) -> None:
    from peft import PromptTuningConfig

    PromptTuningConfig(
        task_type="CAUSAL_LM", num_virtual_tokens=4, base_model_name_or_path=str(home / "small")
    ).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="PROMPT_TUNING changes the prompt"):
        composite(home, str(tmp_path))


def test_no_adapter_and_no_weights_are_told(home: Path, tmp_path: Path) -> None:
    small = str(home / "small")
    with pytest.raises(ConfigError, match="is no adapter: it has no adapter_config"):
        composite(home, small, **{"tuned.adapter": str(tmp_path)})
    shutil.copy(home / "one" / "adapter_config.json", tmp_path)
    with pytest.raises(ConfigError, match=r"has no adapter_model\.safetensors or"):
        composite(home, str(tmp_path))


def test_a_copy_of_its_model_is_the_model_that_an_adapter_names(
    home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copied = str(shutil.copytree(home / "small", tmp_path / "copied"))
    made = Composite.load({"base": copied, "tuned": str(home / "one"), "reference": copied})
    assert made.recipe.deltas[0].tuned.model == copied
    assert "was made on" not in caplog.text


@pytest.fixture
def unreachable_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub at a port where nobody listens; its cache is the test's folder."""
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE",
        "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}",
    )  # fmt: skip


@pytest.mark.usefixtures("unreachable_hub")
def test_an_adapter_that_may_lie_on_a_hub_out_of_reach_is_told(home: Path) -> None:
    recipe = {
        "base": str(home / "small"),
        "tuned": str(home / "small"),
        "tuned.adapter": "lab/adapter",
        "reference": str(home / "small"),
    }
    with pytest.raises(ConfigError, match="the Hugging Face hub cannot be reached") as told:
        Composite.load(recipe, device="cpu")
    assert "tuned member 'lab/adapter': cannot read its adapter: " in str(told.value)
    assert "is no adapter" not in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.usefixtures("unreachable_hub")
def test_an_adapter_in_the_cache_needs_no_hub(home: Path, tmp_path: Path) -> None:
    place, commit = tmp_path / "models--lab--adapter", "a" * 40
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(commit)
    shutil.copytree(home / "one", place / "snapshots" / commit)
    found = read_adapter("lab/adapter")
    assert found is not None
    assert (found.base, found.beside_weights) == (str(home / "small"), False)


def test_both_ways_to_name_an_adapter_are_one(home: Path) -> None:
    short = composite(home, str(home / "one"))
    long = composite(home, str(home / "small"), **{"tuned.adapter": str(home / "one")})
    assert short.name == long.name
    assert "+one-vs-small_" in short.name
    assert short.name != composite(home, str(home / "two")).name
    assert short.recipe.deltas[0].tuned == MemberSpec(
        model=str(home / "small"), adapter=str(home / "one")
    )


_TOKENIZER_CODE = """
from transformers import PreTrainedTokenizerFast

class OwnTokenizer(PreTrainedTokenizerFast):
    pass
"""


def test_code_of_an_adapters_tokenizer_runs_only_when_asked(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = tmp_path / "adapter"
    shutil.copytree(home / "one", adapter)
    byte_tokenizer().save_pretrained(adapter)
    file = adapter / "tokenizer_config.json"
    own = {"auto_map": {"AutoTokenizer": ["own.OwnTokenizer"] * 2}}
    own["tokenizer_class"] = "OwnTokenizer"  # type: ignore[assignment]
    file.write_text(json.dumps({**json.loads(file.read_text()), **own}))
    (adapter / "own.py").write_text(_TOKENIZER_CODE)
    with pytest.raises(ConfigError, match=r"tuned member .* cannot read its tokenizer"):
        composite(home, str(adapter))
    assert "Do you wish to run" not in capsys.readouterr().out
    recipe = {"base": str(home / "large"), "reference": str(home / "small")}
    made = Composite.load({**recipe, "tuned": str(adapter)}, trust_remote_code=True)
    assert type(made.tokenizer).__name__ == "OwnTokenizer"
