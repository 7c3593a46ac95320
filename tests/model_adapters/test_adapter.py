"""The lm-eval model ``eft``: what users of HFLM rely on, and equality with ``--model hf``."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

import lm_eval
import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import CacheHook
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from tiny_models import byte_tokenizer, make_model

from eft_eval.errors import ConfigError
from eft_eval.model_adapters.eft import EFTLM

Paths = dict[str, str]


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> Paths:
    folder = tmp_path_factory.mktemp("family")
    return {
        "base": make_model(folder / "base", seed=11, layers=3, vocabulary=264),
        "tuned": make_model(folder / "tuned", seed=12, tokenizer=byte_tokenizer(chat=True)),
        "reference": make_model(folder / "reference", seed=13),
    }


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> TaskManager:
    """A multiple-choice, a generation and a perplexity task on local data."""
    folder = tmp_path_factory.mktemp("tasks")
    rows = [
        {"q": f"What is {a} plus {b}?", "choices": [str(a + b), "7", "many"], "gold": 0, "a": "x"}
        for a in range(4)
        for b in range(3)
    ]
    data = folder / "data.json"
    data.write_text(json.dumps(rows))
    source = f"dataset_path: json\ndataset_kwargs: {{data_files: {{test: {data}}}}}\n"
    source += "test_split: test\n"
    (folder / "mc.yaml").write_text(
        "task: local_mc\noutput_type: multiple_choice\n" + source + "doc_to_text: '{{q}}'\n"
        "doc_to_choice: '{{choices}}'\ndoc_to_target: gold\nmetric_list: [{metric: acc}, "
        "{metric: acc_norm}]\n"
    )
    (folder / "gen.yaml").write_text(
        "task: local_gen\noutput_type: generate_until\n" + source + "doc_to_text: '{{q}}'\n"
        "doc_to_target: a\ngeneration_kwargs: {until: ['e'], max_gen_toks: 12, do_sample: false}\n"
        "metric_list: [{metric: exact_match}]\n"
    )
    (folder / "ppl.yaml").write_text(
        "task: local_ppl\noutput_type: loglikelihood_rolling\n" + source + "doc_to_text: ''\n"
        "doc_to_target: '{{q}}'\nmetric_list: [{metric: word_perplexity}]\n"
    )
    return TaskManager(include_path=str(folder), include_defaults=False)


def evaluate(tasks: TaskManager, model: str, args: dict[str, Any], **options: Any) -> Any:
    results = lm_eval.simple_evaluate(
        model=model,
        model_args=args,
        tasks=["local_mc", "local_gen", "local_ppl"],
        task_manager=tasks,
        batch_size=options.pop("batch_size", 4),
        bootstrap_iters=0,
        device="cpu",
        **options,
    )
    return {
        name: [(s["doc_id"], s["resps"]) for s in samples]
        for name, samples in results["samples"].items()
    }, results


def assert_same(ours: Any, theirs: Any) -> None:
    assert ours["local_gen"] == theirs["local_gen"]
    for name in ("local_mc", "local_ppl"):
        for (_, our), (_, their) in zip(ours[name], theirs[name], strict=True):
            flat = [torch.tensor(_numbers(x)) for x in (our, their)]
            torch.testing.assert_close(*flat, atol=1e-4, rtol=1e-6)


def _numbers(value: Any) -> list[float]:
    if isinstance(value, (list, tuple)):
        return [number for part in value for number in _numbers(part)]
    return [float(value)]


@pytest.mark.parametrize("batch_size", [1, 4])
def test_weight_zero_equals_plain_hf(paths: Paths, tasks: TaskManager, batch_size: int) -> None:
    ours, results = evaluate(tasks, "eft", {**paths, "weight": 0}, batch_size=batch_size)
    theirs, _ = evaluate(tasks, "hf", {"pretrained": paths["base"]}, batch_size=batch_size)
    assert_same(ours, theirs)
    members = results["config"]["eft_members"]
    assert members["base"]["coefficient"] == 1
    assert members["tuned"]["coefficient"] == members["reference"]["coefficient"] == 0
    assert members["tuned"]["num_parameters"] is None, "what cancels is never loaded"


def test_tuned_equal_to_reference_equals_plain_hf(paths: Paths, tasks: TaskManager) -> None:
    args = {**paths, "tuned": paths["reference"]}
    ours, _ = evaluate(tasks, "eft", args)
    theirs, _ = evaluate(tasks, "hf", {"pretrained": paths["base"]})
    assert_same(ours, theirs)


def test_a_base_that_is_the_reference_leaves_the_tuned_model(
    paths: Paths, tasks: TaskManager
) -> None:
    ours, results = evaluate(tasks, "eft", {**paths, "base": paths["reference"]})
    theirs, _ = evaluate(tasks, "hf", {"pretrained": paths["tuned"]})
    assert_same(ours, theirs)
    assert results["config"]["model_num_parameters"] > 0


@pytest.mark.slow
def test_batch_sizes_auto(paths: Paths, tasks: TaskManager) -> None:
    plain, _ = evaluate(tasks, "eft", paths)
    for size in ("auto", "auto:2"):
        found, results = evaluate(tasks, "eft", paths, batch_size=size, max_batch_size=8)
        assert_same(found, plain)
        assert set(results["config"]["batch_sizes"]) == {8}


def test_an_automatic_batch_has_room_for_the_longest_row_to_come(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = EFTLM(**paths, batch_size="auto", max_batch_size=4, device="cpu")
    stem = [40, 41, 42]  # rows that begin alike lie together, not by length
    rows: list[Any] = [(None, [*stem, 50], [51]), (None, [*stem, *[60] * 30], [61])]
    lengths, search = [], model._search_batch_size

    def noted(length: int, scored: int) -> int:
        lengths.append(length)
        return search(length, scored)

    monkeypatch.setattr(model, "_search_batch_size", noted)
    model._loglikelihood_tokens(rows, disable_tqdm=True)
    assert lengths == [34]


NOT_ALIKE = {
    "_model": "the composite's is loaded at first use",
    "_config": "another object for the same folder",
    "tokenizer": "another object for the same folder",
    "pretrained": "the composite's name, which runs are filed under",
    "revision": "of every member, in the results",
}
"""Attributes of HFLM that a composite of one model has otherwise, and why."""


def unlike(theirs: HFLM, ours: EFTLM) -> set[str]:
    """Return the attributes that HFLM's constructor sets and ours lacks or sets otherwise."""
    nothing = object()
    return {
        name
        for name, value in vars(theirs).items()
        if name not in NOT_ALIKE
        and (found := getattr(ours, name, nothing)) != value
        and not (isinstance(value, CacheHook) and isinstance(found, CacheHook))
    }


def test_every_attribute_of_hflm_is_there(paths: Paths) -> None:
    """HFLM's methods read what its constructor sets; ours does not call that constructor.

    What a new release of lm-eval sets besides is named here.
    """
    settings = {"batch_size": "auto:3", "max_batch_size": 9, "truncation": True, "max_length": 100,
                "prefix_token_id": 5, "think_end_token": "9", "enable_thinking": True,
                "chat_template_args": {"a": 1}, "softmax_dtype": "float64"}  # fmt: skip
    for given in ({}, settings):
        theirs = HFLM(pretrained=paths["base"], device="cpu", dtype="float32", **given)
        ours = EFTLM(**dict.fromkeys(("base", "tuned", "reference"), paths["base"]), **given)
        assert unlike(theirs, ours) == set()
        assert [name for name in NOT_ALIKE if not hasattr(ours, name)] == []
    theirs.something_new = 1
    ours.truncation = "no"
    assert unlike(theirs, ours) == {"something_new", "truncation"}
    assert ours.config.model_type == "llama"
    assert ours.tokenizer_name == theirs.tokenizer_name


def generation(prompt: str, repeats: int = 1, **kwargs: Any) -> list[Instance]:
    settings = {"until": [], "do_sample": True, "temperature": 1.0, "max_gen_toks": 16, **kwargs}
    request = Instance("generate_until", {}, (prompt, settings), 0)
    return [request] * repeats


def test_samples_do_not_depend_on_batch_or_order(paths: Paths) -> None:
    requests = [r for p in ("one", "two words", "three more words", "4") for r in generation(p, 3)]
    torch.manual_seed(5)
    reference = EFTLM(**paths, batch_size=1).generate_until(requests)
    for size in (2, 5, 12):
        assert EFTLM(**paths, batch_size=size).generate_until(requests) == reference
    backwards = EFTLM(**paths, batch_size=5).generate_until(requests[::-1])
    assert [sorted(backwards[::-1][i : i + 3]) for i in range(0, 12, 3)] == [
        sorted(reference[i : i + 3]) for i in range(0, 12, 3)
    ]
    assert len(set(reference)) == 12, "repeats get other samples"
    torch.manual_seed(6)
    assert set(EFTLM(**paths, batch_size=4).generate_until(requests)).isdisjoint(reference)


def test_stop_strings_and_limits(paths: Paths) -> None:
    model = EFTLM(**paths, batch_size=2)
    (free,) = model.generate_until(generation("Hello", temperature=0.0, do_sample=False))
    stop = free[3:5]
    (stopped,) = model.generate_until(
        generation("Hello", temperature=0.0, do_sample=False, until=[stop])
    )
    assert stopped == free.split(stop)[0]
    (short,) = model.generate_until(generation("Hello", max_gen_toks=2))
    assert len(model.tok_encode(short)) <= 6  # replacement characters of cut bytes


def test_a_generation_that_ends_with_eos_is_cut_there(tmp_path: Path) -> None:
    every_token = list(range(1, 259))  # whatever comes first ends the answer
    folders = {
        role: make_model(tmp_path / role, seed=i, eos=every_token if role == "tuned" else 1)
        for i, role in enumerate(("base", "tuned", "reference"))
    }
    model = EFTLM(**folders)
    assert len(model.composite.stop_tokens) == 258
    (text,) = model.generate_until(generation("Hello"))
    assert len(text) <= 1


def test_prompts_are_truncated_from_the_left(paths: Paths, caplog: Any) -> None:
    model = EFTLM(**paths, max_length=40)
    ending = "the end of a prompt"
    with caplog.at_level(logging.WARNING, "lm_eval.eft"):
        (cut,) = model.generate_until(generation("x" * 50 + ending, max_gen_toks=21))
    assert "loses its beginning" in caplog.text
    torch.testing.assert_close(model.max_length, 40)
    assert isinstance(cut, str)
    with pytest.raises(ConfigError, match="leaves no room for a prompt"):
        model.generate_until(generation("x", max_gen_toks=40))


def test_reasoning_is_cut_off(paths: Paths) -> None:
    model = EFTLM(**paths)
    (text,) = model.generate_until(generation("Hello", max_gen_toks=30))
    end = text[4]
    thinking = EFTLM(**paths, think_end_token=end)
    (answer,) = thinking.generate_until(generation("Hello", max_gen_toks=30))
    assert answer == text.split(end)[-1].lstrip()
    with pytest.raises(ConfigError, match="think_end_token"):
        EFTLM(**paths, enable_thinking=True)


@pytest.mark.parametrize(
    ("setting", "word"),
    [({"repetition_penalty": 1.2}, "repetition_penalty"), ({"num_beams": 3}, "num_beams"),
     ({"top_p": 1.5}, "top_p"), ({"temperature": -1.0}, "temperature"),
     ({"max_gen_toks": 0}, "max_gen_toks")],
)  # fmt: skip
def test_unsupported_generation_settings_are_refused(
    paths: Paths, setting: dict[str, Any], word: str
) -> None:
    with pytest.raises(ConfigError, match=word):
        EFTLM(**paths).generate_until(generation("Hello", **setting))


def test_chat_template_of_the_tuned_member(paths: Paths, caplog: Any) -> None:
    model = EFTLM(**paths)
    text = model.apply_chat_template([{"role": "user", "content": "Hi"}])
    assert text == "<|user|>Hi<|assistant|>"
    with caplog.at_level(logging.WARNING, "lm_eval.eft"):
        model.generate_until(generation(text, max_gen_toks=1))
        assert "chat template" not in caplog.text
        plain = EFTLM(**paths)
        plain.generate_until(generation("Hi", max_gen_toks=1))
        plain.generate_until(generation("Ho", max_gen_toks=1))
    assert caplog.text.count("--apply_chat_template") == 1


def test_bos_policy_is_the_tuned_members(paths: Paths, tmp_path: Path) -> None:
    tuned = make_model(tmp_path / "m", tokenizer=byte_tokenizer(bos=True))
    plain, with_bos = EFTLM(**paths), EFTLM(**{**paths, "tuned": tuned})
    assert with_bos.tok_encode("Hi") == [0, *plain.tok_encode("Hi")]
    assert with_bos.tok_encode("<s>Hi")[:2] == [0, plain.tok_encode("H")[0]], "never twice"


def test_precision_settings(paths: Paths) -> None:
    request = [Instance("loglikelihood", {}, ("Hello", " there"), 0)]
    ((plain, _),) = EFTLM(**paths).loglikelihood(request, disable_tqdm=True)
    ((wide, _),) = EFTLM(**paths, softmax_dtype="float64").loglikelihood(request)
    assert wide == pytest.approx(plain, abs=1e-4)
    ((mixed, _),) = EFTLM(**paths, mixed_precision_dtype="bfloat16").loglikelihood(request)
    assert mixed != plain
    assert mixed == pytest.approx(plain, rel=0.05)


def test_chat_turns_reach_a_members_own_template(paths: Paths) -> None:
    template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    model = EFTLM(**{**paths, "base": {"model": paths["base"], "prompt": template}})
    text = model.apply_chat_template([{"role": "user", "content": "Hi"}])
    views = model._turns.view_tokens(text, model.tok_encode(text))
    assert views[0] == model.tok_encode("Hi")
    assert views[1] == views[2] == model.tok_encode(text)


def test_request_cache_belongs_to_one_composite(
    paths: Paths, tasks: TaskManager, tmp_path: Path
) -> None:
    cache = str(tmp_path / "cache")
    half = {**paths, "weight": 0.5}
    first, _ = evaluate(tasks, "eft", paths, use_cache=cache)
    second, _ = evaluate(tasks, "eft", half, use_cache=cache)
    fresh, _ = evaluate(tasks, "eft", half)
    assert second == fresh
    assert second["local_mc"] != first["local_mc"]
    again, results = evaluate(tasks, "eft", half, use_cache=cache)
    assert again == second
    assert results["config"]["model_num_parameters"] == 0, "all from the cache: nothing loaded"


def test_shared_members_are_loaded_once(paths: Paths) -> None:
    deltas = [
        {"tuned": paths["tuned"], "reference": paths["reference"], "weight": 0.4},
        {"tuned": paths["base"], "reference": paths["reference"], "weight": 0.6},
    ]
    composite = EFTLM(base=paths["base"], deltas=deltas).composite
    assert composite.members["base"] is composite.members["tuned2"]
    assert composite.members["reference1"] is composite.members["reference2"]
    coefficients = {view.role: view.coefficient for view in composite.views}
    assert coefficients == pytest.approx({"base": 1.6, "tuned1": 0.4, "reference1": -1.0})
    deltas = [{**delta, "weight": w} for delta, w in zip(deltas, (0.3, 0.7), strict=True)]
    deltas[1]["tuned"] = paths["tuned"]
    composite = EFTLM(base=paths["reference"], deltas=deltas).composite
    assert [view.role for view in composite.views] == ["tuned1"], "1 - 0.3 - 0.7 cancels"


def test_model_call_and_model_generate_are_the_composite(paths: Paths) -> None:
    model = EFTLM(**paths)
    tokens = torch.tensor([model.tok_encode("Hello there")])
    scores = model._model_call(tokens).log_softmax(-1)
    (made,) = model._model_generate(tokens, tokens.shape[1] + 1, [])
    assert int(made[-1]) == int(scores[0, -1].argmax())
    base_only = model.composite.members["base"].model(tokens).logits[..., :259].log_softmax(-1)
    assert not torch.allclose(scores, base_only, atol=0.1)


class TestBadMembers:
    def test_missing_folder(self, paths: Paths) -> None:
        with pytest.raises(ConfigError, match=r"base member '/no/where'.*does not exist"):
            EFTLM(**{**paths, "base": "/no/where"})

    def test_folder_without_a_model(self, paths: Paths, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"tuned member.*no config\.json"):
            EFTLM(**{**paths, "tuned": str(tmp_path)})

    def test_folder_without_a_tokenizer(self, paths: Paths, tmp_path: Path) -> None:
        folder = Path(make_model(tmp_path / "m"))
        for file in folder.glob("token*"):
            file.unlink()
        with pytest.raises(ConfigError, match="cannot read its tokenizer"):
            EFTLM(**{**paths, "reference": str(folder)})

    def test_truncated_weights(self, paths: Paths, tmp_path: Path) -> None:
        folder = Path(make_model(tmp_path / "m"))
        weights = folder / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:1000])
        model = EFTLM(**{**paths, "reference": str(folder)})
        with pytest.raises(ConfigError, match=r"reference member.*cannot read its weights"):
            model.generate_until(generation("Hi"))

    def test_unreachable_hub(self, paths: Paths) -> None:
        with pytest.raises(ConfigError) as caught:
            EFTLM(**{**paths, "base": "someone/some-model"})
        assert "hub cannot be reached" in str(caught.value)
        assert "base=" in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_unequal_tokenizers_name_the_first_token(self, paths: Paths, tmp_path: Path) -> None:
        other = make_model(tmp_path / "m", tokenizer=byte_tokenizer(swap=True))
        with pytest.raises(ConfigError, match=r"token 43 is .* in tuned member") as caught:
            EFTLM(**{**paths, "base": other})
        assert "base member" in str(caught.value)

    def test_stop_token_that_only_the_tuned_member_has(self, paths: Paths, tmp_path: Path) -> None:
        tokenizer = byte_tokenizer(extra=("<|end|>",))
        tuned = make_model(tmp_path / "m", eos=[1, 259], vocabulary=260, tokenizer=tokenizer)
        with pytest.raises(ConfigError, match=r"token 259 \('<\|end\|>'\)"):
            EFTLM(**{**paths, "tuned": tuned})

    def test_prompt_token_that_not_every_member_has(self, paths: Paths, tmp_path: Path) -> None:
        tokenizer = byte_tokenizer()
        tokenizer.add_tokens(["<|turn|>"])
        tuned = make_model(tmp_path / "m", vocabulary=260, tokenizer=tokenizer)
        model = EFTLM(**{**paths, "tuned": tuned})
        assert model.generate_until(generation("Hi", max_gen_toks=2))
        with pytest.raises(ConfigError, match=r"token 259 \('<\|turn\|>'\)"):
            model.generate_until(generation("<|turn|>Hi"))

    def test_sequence_to_sequence(self, paths: Paths, tmp_path: Path) -> None:
        from transformers import T5Config

        T5Config(vocab_size=259, d_model=16).save_pretrained(tmp_path)
        with pytest.raises(ConfigError, match="sequence-to-sequence model"):
            EFTLM(**{**paths, "base": str(tmp_path)})

    @pytest.mark.parametrize("size", ["many", "auto:x"])
    def test_batch_size(self, paths: Paths, size: str) -> None:
        with pytest.raises(ConfigError, match="batch_size"):
            EFTLM(**paths, batch_size=size)


def test_a_base_alone_is_that_model(paths: Paths, tasks: TaskManager, caplog: Any) -> None:
    alone = {"base": paths["base"]}
    with caplog.at_level("INFO", "lm_eval.eft"):
        ours, results = evaluate(tasks, "eft", alone)
    theirs, _ = evaluate(tasks, "hf", {"pretrained": paths["base"]})
    assert_same(ours, theirs)
    (line,) = [record.getMessage() for record in caplog.records if "alone" in record.getMessage()]
    assert line == f"{paths['base']} alone: no fine-tuning is added (weight 0)"
    assert re.fullmatch(r"eft_base_[0-9a-f]{8}", results["config"]["eft_name"])
    assert results["config"]["eft_sampling_defaults"] == {}
