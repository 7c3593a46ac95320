"""Where reasoning ends, for tokenizers of every kind; stop strings count in the answer only."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from tokenizer_kinds import KINDS, tokenizer_of
from transformers import AddedToken

from eft_eval.decoding.reasoning import AnswerStops, Reasoning, reasoning_of
from eft_eval.decoding.requests import Generation
from eft_eval.errors import ConfigError

THOUGHT = "<think>\nFirst, the sky.\n\nQuestion: is it four? Yes.\n</think>\n\n"
ANSWER = "The answer is four.\n\nQuestion: none"
FORMS = ("pieces", "added", "special", "id", "special id")


def thinking(kind: str, form: str) -> tuple[Any, str | int]:
    """Return a tokenizer and the end of reasoning: in pieces, as an added or special token."""
    tokenizer = copy.deepcopy(tokenizer_of(kind))
    end: str | int = "</think>"
    if form != "pieces":
        special = "special" in form
        marks = [AddedToken(one, special=special, normalized=False) for one in ("<think>", end)]
        tokenizer.add_tokens(marks, special_tokens=special)
        if "id" in form:
            end = tokenizer.convert_tokens_to_ids(end)
    return tokenizer, end


def ids(tokenizer: Any, text: str) -> list[int]:
    found: list[int] = tokenizer(text, add_special_tokens=False).input_ids
    return found


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_answer_is_what_follows_the_last_end(kind: str, form: str) -> None:
    tokenizer, end = thinking(kind, form)
    reasoning = Reasoning(tokenizer, end)
    tokens = ids(tokenizer, THOUGHT + ANSWER)
    assert reasoning.answer(tokens) == ANSWER
    assert reasoning.answer(ids(tokenizer, THOUGHT + "no " + THOUGHT + ANSWER)) == ANSWER
    assert reasoning.answer(ids(tokenizer, THOUGHT)) == ""
    assert reasoning.answer(ids(tokenizer, THOUGHT.replace("</think>", ""))) is None
    assert reasoning.answer([*tokens, tokenizer.eos_token_id]) == ANSWER
    kept = reasoning.answer([*tokens, tokenizer.eos_token_id], skip_special_tokens=False)
    assert kept == ANSWER + tokenizer.eos_token
    again = Generation(ids(tokenizer, THOUGHT + "<think>\nOr is it five?"), "stop")
    assert reasoning.answer(again.tokens) is None, "what begins anew does not end"
    assert reasoning.unfinished("How many?", again)


def test_an_end_beyond_a_hole_in_the_ids_is_one() -> None:
    tokenizer = tokenizer_of("holed")
    last = tokenizer.convert_tokens_to_ids("<|end|>")
    assert last >= len(tokenizer)
    assert reasoning_of(tokenizer, last) is not None
    for beyond in (last + 1, -1):
        with pytest.raises(ConfigError, match=f"the tuned member's tokens are 0 to {last}"):
            reasoning_of(tokenizer, beyond)


def test_an_end_with_white_space_that_is_not_said_leaves_no_reasoning_as_answer() -> None:
    tokenizer, _ = thinking("qwen", "special")
    reasoning = Reasoning(tokenizer, "</think>\n\n")
    made = Generation(ids(tokenizer, "<think>First.</think>Four."), "stop")
    assert reasoning.answer(made.tokens) is None
    assert reasoning.unfinished("How many?", made)
    assert reasoning.unfinished("How many?<think>\n", Generation(ids(tokenizer, "a"), "stop"))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_stop_string_ends_the_answer_where_it_is_complete(kind: str, form: str) -> None:
    """Token by token: never within the reasoning or the white space after it."""
    tokenizer, end = thinking(kind, form)
    tokens = ids(tokenizer, THOUGHT + ANSWER)
    for stop in ("\n\n", "Question:", "The", "sky"):
        stops = AnswerStops(tokenizer, [stop, "not there"], Reasoning(tokenizer, end))
        first = next((n for n in range(1, len(tokens) + 1) if stops(tokens[:n])), None)
        if stop == "sky":
            assert first is None
            continue
        assert first is not None
        answer = Reasoning(tokenizer, end).answer(tokens[:first])
        before = Reasoning(tokenizer, end).answer(tokens[: first - 1])
        assert answer is not None
        assert stop in answer
        assert before is None or stop not in before


def test_a_mark_whose_last_token_goes_on_into_the_answer() -> None:
    tokenizer = copy.deepcopy(tokenizer_of("gpt2"))
    tokenizer.add_tokens(["ink>Yes"])
    tokens = [
        *ids(tokenizer, "Hm </th"),
        tokenizer.convert_tokens_to_ids("ink>Yes"),
        *ids(tokenizer, " it is"),
    ]
    assert tokenizer.decode(tokens) == "Hm </think>Yes it is"
    assert Reasoning(tokenizer, "</think>").answer(tokens) == "Yes it is"


PAIRS = {
    "</think>": "<think>", "[/THINK]": "[THINK]", "<|END_THINKING|>": "<|START_THINKING|>",
    "<|end_of_thought|>": "<|begin_of_thought|>", "</seed:think>": "<seed:think>",
    "◁/think▷": "◁think▷",
}  # fmt: skip


@pytest.mark.parametrize("end", PAIRS)
def test_what_is_reasoning_and_what_an_answer(end: str) -> None:
    tokenizer = tokenizer_of("qwen")
    reasoning, start = Reasoning(tokenizer, end), PAIRS[end]

    def unfinished(prompt: str, text: str, finish: Any) -> bool:
        return reasoning.unfinished(prompt, Generation(ids(tokenizer, text), finish))

    assert unfinished("Q\n", "I wonder", "length"), "it may be either"
    assert not unfinished("Q\n", "It is four.", "stop")
    assert unfinished("Q\n", f"\n{start}I wonder", "stop")
    assert unfinished(f"Q\n{start}\n", "I wonder", "stop")
    assert reasoning.closed(f"Q {start}\n\n{end}\n\n")
    assert not reasoning.closed(f"Q {start}\n\n{end}\n\nA")
    assert not reasoning.closed(f"Q {start}\n")


def test_an_end_without_a_known_beginning_leaves_no_doubt_to_the_judge() -> None:
    tokenizer = tokenizer_of("qwen")
    reasoning = Reasoning(tokenizer, "FINAL:")
    assert reasoning.unfinished("Q", Generation(ids(tokenizer, "It is four."), "stop"))
