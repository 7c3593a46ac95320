"""What a member's files ask for and a composite does not do is told, not left out in silence."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from tiny_models import byte_tokenizer, make_model
from transformers import GenerationConfig

from eft_eval import Composite
from eft_eval.engine.sampling_defaults import logit_settings
from eft_eval.errors import ConfigError
from eft_eval.model_adapters.eft import EFTLM


def chat_model(folder: Path, template: str) -> str:
    tokenizer = byte_tokenizer(chat=True)
    tokenizer.chat_template = template
    return make_model(folder, layers=1, tokenizer=tokenizer)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate (TemplateError)"),
        ("{{ messages[0].content }", "unexpected '}' (TemplateSyntaxError)"),
        ("{{ nothing.at.all }}", "(UndefinedError)"),
        ("{{ messages[0].content + 3 }}", "(TypeError)"),
    ],
)
def test_a_template_that_fails_is_one_line(tmp_path: Path, template: str, said: str) -> None:
    model = EFTLM(base=chat_model(tmp_path / "model", template))
    with pytest.raises(ConfigError) as caught:
        model.apply_chat_template([{"role": "user", "content": "Why?"}])
    told = str(caught.value)
    assert told.startswith("base member ")
    assert "its chat template cannot render the turns: " in told
    assert told.endswith(said)
    assert "\n" not in told


@pytest.mark.parametrize(
    "settings",
    [
        {"repetition_penalty": 1.1},
        {"suppress_tokens": [5, 6]},
        {"bad_words_ids": [[5]]},
        {"forced_eos_token_id": 1},
        {"sequence_bias": [[[5], 2.0]]},
        {"exponential_decay_length_penalty": [5, 1.5]},
        {"no_repeat_ngram_size": 3},
        {"stop_strings": ["e"]},
    ],
)
def test_generation_settings_that_are_not_followed_are_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, settings: dict[str, Any]
) -> None:
    folder = make_model(tmp_path / "model", layers=1)
    before = Composite.load({"base": folder}).generate(["Why?"], max_new_tokens=4)
    file = Path(folder) / "generation_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))
    made = Composite.load({"base": folder})
    with caplog.at_level(logging.WARNING, logger="eft_eval"):
        assert made.generate(["Why?"], max_new_tokens=4) == before
        made.generate(["Why?"], max_new_tokens=4)
    (told,) = [record.getMessage() for record in caplog.records]
    ((name, value),) = settings.items()
    assert f"asks for {name}={value}, which is not followed" in told


def test_settings_that_change_nothing_are_not_told() -> None:
    neutral = GenerationConfig(
        repetition_penalty=1.0, num_beams=1, no_repeat_ngram_size=0, suppress_tokens=[],
        temperature=0.6, top_p=0.9, top_k=20, do_sample=True, eos_token_id=[1, 2],
    )  # fmt: skip
    assert logit_settings(neutral) == {}
    assert logit_settings(GenerationConfig()) == {}
    assert logit_settings(None) == {}


@pytest.mark.parametrize(("words", "cut"), [(10, False), (11, True), (40, True)])
def test_contexts_that_are_cut_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, words: int, cut: bool
) -> None:
    folder = make_model(tmp_path / "model", layers=1, positions=54)  # a token per byte
    pair = ("word " * words, " end.")
    requests = [Instance("loglikelihood", {}, pair, 0)]
    with caplog.at_level(logging.WARNING, logger="lm_eval.eft"):
        found = EFTLM(base=folder).loglikelihood(requests, disable_tqdm=True)
    told = [record.getMessage() for record in caplog.records]
    assert (any("1 of 1 contexts lose their beginning" in one for one in told)) is cut, told
    expected = HFLM(folder, device="cpu").loglikelihood(requests, disable_tqdm=True)
    assert found[0][0] == pytest.approx(expected[0][0], abs=1e-4)
