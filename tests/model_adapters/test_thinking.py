"""Members that think: the reasoning is neither stopped, nor answered, nor lost without a word."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from lm_eval.api.instance import Instance
from thinking import PROMPT, family

from eft_eval.errors import ConfigError
from eft_eval.model_adapters.eft import EFTLM
from eft_eval.runs.metadata import Unfinished

REASONED = (
    "<think>\nFirst, the sky.\n\nQuestion: is it four? Yes.\n</think>\n\nThe answer is four.\n\nBye"
)
TURNS = [{"role": "user", "content": "How many?"}]


def ask(model: EFTLM, prompt: str, until: list[str], tokens: int = 100) -> str:
    model._turns.rendered = True
    settings = {"until": until, "max_gen_toks": tokens, "do_sample": False}
    request = Instance("generate_until", {}, (prompt, settings), 0, ("task", 0, 1))
    (text,) = model.generate_until([request], disable_tqdm=True)
    return text


@pytest.mark.parametrize("special", [False, True])
def test_stop_strings_count_after_the_reasoning(tmp_path: Path, special: bool) -> None:
    paths = family(tmp_path, REASONED, special, PROMPT)
    number = EFTLM(**paths).tokenizer.convert_tokens_to_ids("</think>")
    for end in ("</think>", number, str(number)):
        model = EFTLM(**paths, think_end_token=end, enable_thinking=True)
        assert ask(model, PROMPT, ["\n\n"]) == "The answer is four."
        assert ask(model, PROMPT, ["Question:"]) == "The answer is four.\n\nBye"
        assert ask(model, PROMPT, []) == "The answer is four.\n\nBye"
        assert model.decoder.statistics.record().unfinished == 0
        assert ask(model, PROMPT, ["\n\n"], tokens=12) == ""
        assert model.decoder.statistics.record().unfinished_by_task == {
            "task": Unfinished(1, 4, 0.25)
        }


def test_unfinished_reasoning_is_counted_and_shown(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paths = family(tmp_path / "models", REASONED, True, PROMPT)
    args = {**paths, "think_end_token": "</think>", "resume": str(tmp_path / "kept")}
    for number in (1, 2):  # the second time it is the response of the first
        model = EFTLM(**args)
        caplog.clear()
        with caplog.at_level(logging.WARNING, "lm_eval.eft"):
            assert ask(model, PROMPT, [], tokens=12) == ""
        assert "1 of 1 responses did not end their reasoning" in caplog.text
        decoded = model.get_model_info()["eft_decoding"]
        assert (decoded["unfinished"], decoded["unfinished_share"]) == (1, 1.0)
        of_task = {"unfinished": 1, "responses": 1, "share": 1.0}
        assert decoded["unfinished_by_task"] == {"task": of_task}
        assert decoded["resumed"] == number - 1
        model._resume.close()


def test_a_hybrid_member_that_is_told_not_to_think(tmp_path: Path) -> None:
    """Its template closes the reasoning in the prompt: what follows is the answer, cut or not."""
    closed = PROMPT + "<think>\n\n</think>\n\n"
    paths = family(tmp_path, "It is four.\n\nBye", True, closed)
    for args in ({"enable_thinking": False}, {"chat_template_args": {"enable_thinking": False}}):
        model = EFTLM(**paths, **args, think_end_token="</think>")
        assert model.apply_chat_template(TURNS) == closed
        assert ask(model, closed, ["\n\n"]) == "It is four."
        cut = ask(model, closed, [], tokens=3)
        assert cut
        assert "It is four.".startswith(cut)
        assert model.decoder.statistics.record().unfinished == 0
    thinking = EFTLM(**paths, enable_thinking=True, think_end_token="</think>")
    assert thinking.apply_chat_template(TURNS) == PROMPT
    assert ask(thinking, closed, ["\n\n"]) == "It is four.", "the prompt says it"


def test_an_answer_without_any_reasoning_is_the_answer(tmp_path: Path) -> None:
    paths = family(tmp_path, "It is four.\n\nBye", False, PROMPT)
    model = EFTLM(**paths, think_end_token="</think>")
    assert ask(model, PROMPT, ["\n\n"]) == "It is four."
    assert model.decoder.statistics.record().unfinished == 0


def test_reasoning_that_nobody_takes_away_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paths = family(tmp_path, REASONED, True, PROMPT)
    with caplog.at_level(logging.WARNING, "lm_eval.eft"):
        ask(EFTLM(**paths), PROMPT, [])
    assert "1 responses hold '</think>'" in caplog.text
    assert "think_end_token=</think>" in caplog.text


@pytest.mark.parametrize("end", ["", "  ", 10**6, True])
def test_an_end_that_is_none_is_refused(tmp_path: Path, end: Any) -> None:
    paths = family(tmp_path, "Hi", True, PROMPT)
    with pytest.raises(ConfigError, match="think_end_token: got"):
        EFTLM(**paths, think_end_token=end)
