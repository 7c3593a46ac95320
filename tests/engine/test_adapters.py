"""Adapters as members: the merged model's outputs, one copy of the weights, never ignored."""

from __future__ import annotations

import itertools
import json
import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from adapters import composite, make_adapter, merged, scores
from safetensors.torch import load_file, save_file
from tiny_models import byte_tokenizer, make_model
from transformers import AutoModelForCausalLM

from eft_eval import Composite
from eft_eval.engine.adapters import AdaptedMember
from eft_eval.errors import ConfigError

pytest.importorskip("peft", reason="adapters need eft-eval[peft]")


PROMPTS = ["Who works here?", "One, two, three", "A"]


@pytest.mark.parametrize("name", ["one", "two"])
def test_an_adapter_is_the_merged_model(home: Path, name: str) -> None:
    ours = composite(home, str(home / name))
    whole = composite(home, merged(home / name))
    rows, lengths = [[5, 6, 7, 8], [9, 10, 11, 12]], [4, 4]
    with torch.inference_mode():
        found, _ = ours.members["tuned"].engine.logits(rows, lengths)
        expected, _ = whole.members["tuned"].engine.logits(rows, lengths)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert scores(ours) == pytest.approx(scores(whole), abs=1e-4)
    for block in (0, 4, "auto"):
        responses = ours.generate(PROMPTS, max_new_tokens=10, temperature=1.0, block=block)
        assert responses == whole.generate(PROMPTS, max_new_tokens=10, temperature=1.0)
    assert ours.generate(PROMPTS, max_new_tokens=10, batch_size=1, block=2) == whole.generate(
        PROMPTS, max_new_tokens=10
    )


def test_weights_are_there_once_and_the_reference_stays_itself(home: Path) -> None:
    ours = composite(home, str(home / "one"))
    tuned, reference = ours.members["tuned"], ours.members["reference"]
    assert isinstance(tuned, AdaptedMember)
    assert tuned.base is reference
    alone = composite(home, str(home / "small"))
    rows = [[5, 6, 7, 8]]
    _ = tuned.model
    with torch.inference_mode():
        found, _ = reference.engine.logits(rows, [4])
        expected, _ = alone.members["reference"].engine.logits(rows, [4])
    assert torch.equal(found, expected)
    held = {one.data_ptr() for one in reference.model.parameters()}
    extra = [one for one in tuned.model.parameters() if one.data_ptr() not in held]
    assert sum(one.numel() for one in extra) == tuned.own_parameters
    assert tuned.own_parameters < 0.2 * reference.own_parameters
    # the tuned member drafts, as it does with weights of its own
    assert tuned.engine.num_parameters == reference.engine.num_parameters


def test_several_adapters_over_one_model(home: Path) -> None:
    small, large = str(home / "small"), str(home / "large")

    def deltas(one: str, two: str) -> Composite:
        both = [{"tuned": t, "reference": small, "weight": 0.5} for t in (one, two)]
        return Composite.load({"base": large, "deltas": both})

    ours = deltas(str(home / "one"), str(home / "two"))
    bases = {id(m.base) for m in ours.members.values() if isinstance(m, AdaptedMember)}
    assert bases == {id(ours.members["reference1"])}
    expected = deltas(merged(home / "one"), merged(home / "two"))
    assert scores(ours) == pytest.approx(scores(expected), abs=1e-4)
    assert ours.generate(PROMPTS, max_new_tokens=8) == expected.generate(PROMPTS, max_new_tokens=8)


def test_every_member_may_be_an_adapter(home: Path) -> None:
    one, two, small = (str(home / name) for name in ("one", "two", "small"))
    ours = Composite.load({"base": one, "tuned": two, "reference": small, "weight": 0.5})
    expected = Composite.load(
        {"base": merged(one), "tuned": merged(two), "reference": small, "weight": 0.5}
    )
    assert scores(ours) == pytest.approx(scores(expected), abs=1e-4)
    # both on a model that is no member itself: it is loaded for them, once
    ours = Composite.load({"base": str(home / "large"), "tuned": one, "reference": two})
    assert ours.members["tuned"].base is ours.members["reference"].base  # type: ignore[attr-defined]
    expected = Composite.load(
        {"base": str(home / "large"), "tuned": merged(one), "reference": merged(two)}
    )
    assert scores(ours) == pytest.approx(scores(expected), abs=1e-4)


def test_float64_is_float64_all_through(home: Path) -> None:
    ours = composite(home, str(home / "one"), dtype="float64")
    assert {one.dtype for one in ours.members["tuned"].model.parameters()} == {torch.float64}
    expected = composite(home, merged(home / "one"), dtype="float64")
    # the merged weights were rounded to float32
    assert scores(ours) == pytest.approx(scores(expected), abs=1e-5)


def test_an_adapter_with_longer_tables(home: Path, tmp_path: Path) -> None:
    longer = make_adapter(tmp_path / "longer", str(home / "small"), rows=263)
    byte_tokenizer(extra=("<a>", "<b>", "<c>", "<d>")).save_pretrained(longer)
    ours = composite(home, longer)
    assert ours.members["tuned"].vocabulary_size == 263
    assert len(ours.members["tuned"].tokenizer) == 263
    assert ours.vocabulary == 259
    assert scores(ours) == pytest.approx(scores(composite(home, merged(longer))), abs=1e-4)
    assert ours.members["reference"].model.get_input_embeddings().weight.shape[0] == 259


@pytest.mark.parametrize(
    "config",
    [{"bias": "all"}, {"modules_to_save": ["lm_head"]}, {"target_modules": ["embed_tokens"]}],
)
def test_what_an_adapter_brings_whole_is_its_own(home: Path, tmp_path: Path, config: dict) -> None:
    small = make_model(tmp_path / "small", "qwen2", seed=4)  # has biases
    adapter = make_adapter(tmp_path / "adapter", small, **config)
    weights = load_file(f"{adapter}/adapter_model.safetensors")
    whole = [name for name in weights if "lora_" not in name]
    assert whole
    with torch.no_grad():
        for name in whole:
            weights[name] += 0.25
    save_file(weights, f"{adapter}/adapter_model.safetensors")
    given = {"base": small, "reference": small}
    ours = Composite.load({**given, "tuned": adapter})
    expected = load_merged(adapter)
    rows = [[5, 6, 7, 8]]
    with torch.inference_mode():
        found, _ = ours.members["tuned"].engine.logits(rows, [4])
        torch.testing.assert_close(found, expected(torch.tensor(rows)).logits, rtol=1e-5, atol=1e-5)
    before = Composite.load({**given, "tuned": small}).members["reference"].model.state_dict()
    after = ours.members["reference"].model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_tokens_of_its_own_are_no_table(home: Path, tmp_path: Path) -> None:
    adapter = make_adapter(tmp_path / "some", str(home / "small"), trainable_token_indices=[3, 7])
    weights = load_file(f"{adapter}/adapter_model.safetensors")
    added = next(name for name in weights if "trainable_tokens" in name)
    weights[added] += 0.5
    save_file(weights, f"{adapter}/adapter_model.safetensors")
    ours, expected = composite(home, adapter), load_merged(adapter)
    assert ours.members["tuned"].vocabulary_size == 259
    rows = [[5, 3, 7, 8]]
    with torch.inference_mode():
        found, _ = ours.members["tuned"].engine.logits(rows, [4])
        torch.testing.assert_close(found, expected(torch.tensor(rows)).logits, rtol=1e-5, atol=1e-5)


def test_weights_that_layers_share_are_read_once(home: Path, tmp_path: Path) -> None:
    from peft import VBLoRAConfig, get_peft_model

    model = AutoModelForCausalLM.from_pretrained(home / "small")
    config = VBLoRAConfig(task_type="CAUSAL_LM", target_modules=["q_proj"], vector_length=8,
                          num_vectors=16, topk=2, init_vector_bank_bound=1.0)  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adapted = get_peft_model(model, config).eval()
    adapted.save_pretrained(tmp_path)
    rows = [[5, 6, 7, 8]]
    with torch.inference_mode():
        expected = adapted(torch.tensor(rows)).logits
        found, _ = composite(home, str(tmp_path)).members["tuned"].engine.logits(rows, [4])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_new_rows_that_no_file_holds_are_no_tokens(
    home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With LoRA on one table peft saves that one; the other's new rows were drawn at random."""
    small = str(home / "small")
    adapter = make_adapter(
        tmp_path / "longer", small, rows=263, modules_to_save=None, target_modules=["embed_tokens"]
    )
    byte_tokenizer(extra=("<a>", "<b>", "<c>", "<d>")).save_pretrained(adapter)
    ours = composite(home, adapter, base=small)  # the tuned member alone
    with caplog.at_level(logging.WARNING, logger="eft_eval"):
        assert ours.members["tuned"].model.get_output_embeddings().weight.shape[0] == 263
    assert "its 4 added tokens are left out" in caplog.text
    assert ours.vocabulary == 259
    with pytest.raises(ConfigError, match=r"token 260 .* not every member has"):
        ours.check_tokens([5, 260])
    whole = AutoModelForCausalLM.from_pretrained(merged(adapter))
    rows = [[5, 6, 7, 8]]
    with torch.inference_mode():
        found, _ = ours.members["tuned"].engine.logits(rows, [4])
        expected = whole(torch.tensor(rows)).logits
    torch.testing.assert_close(found[..., :259], expected[..., :259], rtol=1e-5, atol=1e-5)


def load_merged(adapter: str) -> torch.nn.Module:
    """Return what peft makes of an adapter on a model of its own."""
    from peft import AutoPeftModelForCausalLM

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model: torch.nn.Module = AutoPeftModelForCausalLM.from_pretrained(adapter)
    return model.merge_and_unload().eval()


def test_an_adapter_that_changes_its_base_leaves_the_reference_alone(
    home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    adapter = make_adapter(
        tmp_path / "pissa",
        str(home / "small"),
        init_lora_weights="pissa",
        target_modules=["q_proj"],
    )
    ours = composite(home, adapter)
    before = composite(home, str(home / "small")).members["reference"].model.state_dict()
    with caplog.at_level(logging.WARNING, logger="eft_eval"):
        _ = ours.members["tuned"].model
    assert "held twice" in caplog.text
    assert "not quite what was trained" not in caplog.text
    after = ours.members["reference"].model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert scores(ours) == pytest.approx(scores(composite(home, merged(adapter))), abs=1e-3)


_MEMORY = """
import sys
import warnings; warnings.simplefilter("ignore", FutureWarning)
import peft, transformers
from eft_eval import Composite

def resident():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))

small, tuned = sys.argv[1:]
warm = Composite.load("demo")
warm.loglikelihood([("One", " two")])
before = resident()
made = Composite.load({"base": small, "tuned": tuned, "reference": small, "weight": 0.5})
made.loglikelihood([("One", " two")] * 2)
print(resident() - before)
"""


@pytest.mark.slow
def test_tuned_and_reference_take_the_memory_of_one_model(tmp_path: Path) -> None:
    small = make_model(tmp_path / "small", hidden=1024, layers=8)
    adapter = make_adapter(tmp_path / "adapter", small, r=8)

    def kilobytes(tuned: str) -> int:
        command = [sys.executable, "-c", _MEMORY, small, tuned]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
        return int(done.stdout)

    one, both, apart = kilobytes(small), kilobytes(adapter), kilobytes(merged(adapter))
    print(f"{one / 1024:.0f} MiB alone, {both / one:.3f} with an adapter, {apart / one:.2f} merged")
    assert both <= 1.1 * one
    assert apart > 1.7 * one


@pytest.mark.slow
def test_an_adapter_trained_on_pairs_turns_behaviour_with_its_weight(tmp_path: Path) -> None:
    model = make_model(tmp_path / "model", hidden=64, tokenizer=byte_tokenizer(chat=True))
    pairs = tmp_path / "pairs.jsonl"
    with pairs.open("w") as lines:
        for number in range(40):
            head = f"\n\nHuman: Is {number} a number?\n\nAssistant:"
            answers = {"chosen": f"{head} Yes, {number} is.", "rejected": f"{head} Who knows?"}
            lines.write(json.dumps(answers) + "\n")
        several = f"{head} Yes.\n\nHuman: Why?\n\nAssistant: So."
        lines.write(json.dumps({"chosen": several, "rejected": several}) + "\n")
    figures = tmp_path / "figures.json"
    words = [model, pairs, "--out", tmp_path / "adapter", "--json", figures, "--train", 24,
             "--held-out", 16, "--epochs", 4, "--rate", 0.01, "--weights", 0, 0.5, 1,
             "--answers", 2, "--tokens", 8]  # fmt: skip
    command = [sys.executable, "-m", "benchmarks.adapter", *map(str, words)]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(figures.read_text())["weights"]
    assert found["0"]["margin, change"] == [0, 0]
    changes = [found[weight]["margin, change"] for weight in ("0", "0.5", "1")]
    for (before, _), (after, error) in itertools.pairwise(changes):
        assert after - before > 5 * error
    whole = Composite.load({"base": model, "tuned": str(tmp_path / "adapter"), "reference": model})
    turns = [{"role": "user", "content": "Is 39 a number?"}]
    prompt = whole.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    chosen, rejected = whole.loglikelihood([(prompt, "Yes, 39 is."), (prompt, "Who knows?")])
    assert chosen.log_prob > rejected.log_prob
    assert [*found["1"]["answers"]] == ["Is 24 a number?", "Is 25 a number?"]
