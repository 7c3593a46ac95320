"""Generation settings: taken, neutral or refused in one line, before anything is loaded."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import lm_eval
import pytest
from lm_eval.tasks import TaskManager
from tiny_models import byte_tokenizer, make_model
from transformers import GenerationConfig

from eft_eval.decoding.requests import SamplingRule
from eft_eval.errors import ConfigError
from eft_eval.model_adapters.eft import EFTLM
from eft_eval.model_adapters.generation import generation_plan

Paths = dict[str, str]
SAMPLES = {"do_sample": True}


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({}, SamplingRule()),
        ({"temperature": 0}, SamplingRule()),
        ({"temperature": 0.7}, SamplingRule(0.7)),
        ({"temperature": "0.7"}, SamplingRule(0.7)),
        ({"temperature": None}, SamplingRule()),
        (SAMPLES, SamplingRule(1.0)),
        ({**SAMPLES, "temperature": 0}, SamplingRule()),
        ({"do_sample": False, "temperature": 0.7, "top_k": 5}, SamplingRule()),
        ({"top_p": 0.0, "top_k": "many"}, SamplingRule()),
        ({**SAMPLES, "top_k": 50, "top_p": 0.9}, SamplingRule(1.0, 50, 0.9)),
        ({**SAMPLES, "top_k": -1, "min_p": 0, "typical_p": None}, SamplingRule(1.0)),
        ({**SAMPLES, "min_p": 0.1}, SamplingRule(1.0, min_p=0.1)),
        ({**SAMPLES, "typical_p": 0.9}, SamplingRule(1.0, typical_p=0.9)),
    ],
)
def test_how_tokens_are_chosen(settings: dict[str, Any], rule: SamplingRule) -> None:
    assert generation_plan(settings, 9, None).rule == rule


def test_length_and_stop_strings() -> None:
    assert generation_plan({}, 9, None)[1:] == ([], 9)
    assert generation_plan({"until": "a"}, 9, "</s>")[1:] == (["a", "</s>"], 9)
    given = {"until": ["a", "</s>"], "max_tokens": 3, "max_new_tokens": 4}
    assert generation_plan(given, 9, "</s>")[1:] == (["a", "</s>"], 4)
    assert given["until"] == ["a", "</s>"]


def test_what_changes_nothing_in_other_decoders_passes() -> None:
    """The defaults of transformers' logits processors and searches."""
    concerned = (
        "num_beams", "num_return_sequences", "early_stopping", "repetition_penalty", "min_p",
        "encoder_repetition_penalty", "length_penalty", "no_repeat_ngram_size", "top_k", "top_p",
        "encoder_no_repeat_ngram_size", "epsilon_cutoff", "eta_cutoff", "typical_p",
        "min_length", "remove_invalid_values", "output_scores", "return_dict_in_generate",
        "renormalize_logits", "guidance_scale", "bad_words_ids", "suppress_tokens", "temperature",
    )  # fmt: skip
    defaults = GenerationConfig()
    for name in concerned:
        assert hasattr(defaults, name)
        plan = generation_plan({**SAMPLES, name: getattr(defaults, name)}, 9, None)
        assert plan.rule.temperature == 1.0
    for name, value in {"n": 1, "best_of": 1, "presence_penalty": 0.0, "ignore_eos": False}.items():
        assert generation_plan({name: value}, 9, None).rule == SamplingRule()


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"min_q": 0.1}, r"min_q=0.1 is unknown \(did you mean 'min_p'\?\)"),
        ({"stop": ["a"]}, "stop=.* is unknown: write `until`; eft takes "),
        ({"seed": 3}, "seed=3 is unknown: it is an option of the command, --seed N; eft"),
        ({"repetition_penalty": 1.1}, "repetition_penalty=1.1 is not supported with eft: it"),
        ({"num_beams": 2}, "num_beams=2 is not supported"),
        ({"logit_bias": {"5": 1}}, "logit_bias=.* is not supported"),
        ({"do_sample": "yes"}, "do_sample: got 'yes', expected true or false"),
        ({"temperature": "hot"}, "temperature: got 'hot', expected a number from 0 on"),
        ({"temperature": -1}, "temperature: got -1"),
        ({"temperature": math.nan}, "temperature: got nan"),
        ({"temperature": 10**400}, "temperature: got 10{400}, expected a number from 0 on"),
        ({**SAMPLES, "top_k": 2.5}, "top_k: got 2.5, expected a whole number"),
        ({**SAMPLES, "top_k": -7}, "top_k: got -7"),
        ({**SAMPLES, "top_p": 1.2}, "top_p: got 1.2, expected a number above 0, at most 1"),
        ({**SAMPLES, "top_p": True}, "top_p: got True"),
        ({**SAMPLES, "min_p": 1.5}, "min_p: got 1.5, expected a number from 0 to 1"),
        ({**SAMPLES, "typical_p": 0}, "typical_p: got 0"),
        ({"max_gen_toks": 0}, "max_gen_toks: got 0, expected a whole number from 1 on"),
        ({"max_gen_toks": 2.5}, "max_gen_toks: got 2.5"),
        ({"max_gen_toks": "all"}, "max_gen_toks: got 'all'"),
        ({"max_new_tokens": [3]}, "max_gen_toks: got"),
        ({"until": 5}, "until: got 5, expected a text or a list of texts"),
        ({"until": ["a", None]}, "until: got"),
    ],
)
def test_what_cannot_be_done_is_one_line(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=rf"^generation setting {text}") as caught:
        generation_plan(settings, 9, None)
    assert "\n" not in str(caught.value)


# --- in an evaluation --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> Paths:
    folder = tmp_path_factory.mktemp("family")
    tokenizer = byte_tokenizer(chat=True)
    tokenizer.chat_template = {
        "default": "{% for m in messages %}{{ m.content }}{% endfor %}:",
        "rag": "{% for m in messages %}Find {{ m.content }}{% endfor %}!",
    }
    roles = {"base": 11, "tuned": 12, "reference": 13}
    return {
        role: make_model(folder / role, seed=n, tokenizer=tokenizer) for role, n in roles.items()
    }


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> TaskManager:
    """A task that scores, and one that samples, without the word do_sample, four times."""
    folder = tmp_path_factory.mktemp("tasks")
    data = folder / "data.json"
    rows = [{"q": text, "choices": ["a", "b"], "gold": 0} for text in ("One", "Two", "One")]
    data.write_text(json.dumps(rows))
    source = f"dataset_path: json\ndataset_kwargs: {{data_files: {{test: {data}}}}}\n"
    source += "test_split: test\ndoc_to_text: '{{q}}'\n"
    (folder / "scores.yaml").write_text(
        f"task: scores\noutput_type: multiple_choice\n{source}doc_to_choice: '{{{{choices}}}}'\n"
        "doc_to_target: gold\nmetric_list: [{metric: acc}]\n"
    )
    (folder / "samples.yaml").write_text(
        f"task: samples\noutput_type: generate_until\n{source}doc_to_target: x\nrepeats: 2\n"
        "generation_kwargs: {temperature: 1.0, until: [], max_gen_toks: 5}\n"
        "metric_list: [{metric: exact_match}]\n"
        "filter_list: [{name: all, filter: [{function: take_first}]}]\n"
    )
    return TaskManager(include_path=str(folder), include_defaults=False)


def evaluated(tasks: TaskManager, model: Any, *names: str, **options: Any) -> dict[str, Any]:
    results: dict[str, Any] = lm_eval.simple_evaluate(
        model=model, tasks=[*names], task_manager=tasks, bootstrap_iters=0, **options
    )
    return {
        name: [[one["arguments"][0][0], one["resps"]] for one in lines]
        for name, lines in results["samples"].items()
    }


def loaded(model: EFTLM) -> bool:
    return any(member.loaded for member in model.composite.members.values())


@pytest.mark.parametrize(
    ("setting", "text"),
    [("min_q=0.1", "task 'samples': generation setting min_q=0.1 is unknown"),
     ("max_gen_toks=400", "task 'samples': max_gen_toks=400 leaves no room")],
)  # fmt: skip
def test_settings_are_refused_before_anything_is_scored(
    paths: Paths, tasks: TaskManager, setting: str, text: str
) -> None:
    model = EFTLM(**paths)
    with pytest.raises(ConfigError, match=text):
        evaluated(tasks, model, "scores", "samples", gen_kwargs=setting)
    assert not loaded(model)


def test_a_resumed_cache_gives_every_repeat_its_own_sample(
    paths: Paths, tasks: TaskManager, tmp_path: Path
) -> None:
    plain = evaluated(tasks, EFTLM(**paths), "samples", "scores")
    samples = [text for _, (texts,) in plain["samples"] for text in texts]
    assert len(set(samples)) == 6, "repeats and equal prompts"
    for _ in range(2):
        model = EFTLM(**paths)
        cache = str(tmp_path / "cache")
        assert evaluated(tasks, model, "samples", "scores", use_cache=cache) == plain
    assert model.decoder.statistics.requests == 6
    greedy = {"use_cache": cache, "gen_kwargs": "temperature=0"}
    first = evaluated(tasks, EFTLM(**paths), "samples", **greedy)
    again = EFTLM(**paths)
    assert evaluated(tasks, again, "samples", **greedy) == first
    assert not loaded(again), "what is greedy is answered from the cache"


def test_named_chat_templates(paths: Paths, tasks: TaskManager) -> None:
    for name, prompts in ((True, "One:"), ("default", "One:"), ("rag", "Find One!")):
        model = EFTLM(**paths)
        found = evaluated(tasks, model, "samples", apply_chat_template=name)
        assert found["samples"][0][0] == prompts
        assert (
            model.chat_template(name)
            == model.tokenizer.chat_template["default" if name is True else name]
        )
    assert EFTLM(**paths).tokenizer_name != model.tokenizer_name, "lm-eval's request cache"


def test_a_chat_template_that_is_not_there_is_one_line(
    paths: Paths, tasks: TaskManager, tmp_path: Path
) -> None:
    model = EFTLM(**paths)
    text = r"--apply_chat_template rga: tuned member .* has default, rag \(did you mean 'rag'\?\)"
    with pytest.raises(ConfigError, match=text):
        evaluated(tasks, model, "samples", apply_chat_template="rga")
    assert not loaded(model)
    several = byte_tokenizer(chat=True)
    several.chat_template = {"rag": "a", "tool": "b"}
    one = make_model(tmp_path / "one", seed=12, tokenizer=byte_tokenizer(chat=True))
    many = make_model(tmp_path / "many", seed=12, tokenizer=several)
    with pytest.raises(ConfigError, match="has one, without a name; give no name"):
        EFTLM(**{**paths, "tuned": one}).chat_template("rag")
    with pytest.raises(ConfigError, match="none that is called default: name one of rag, tool"):
        EFTLM(**{**paths, "tuned": many}).chat_template(True)
