"""A row of preference data as turns and two answers, of which people chose the first.

Knows the forms in which such data come, as `eft_eval.tasks.sources` does; no files, no tokenizer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from eft_eval.tasks.sources import (
    EMPTY,
    MULTI_TURN,
    NO_MARKERS,
    NOT_TEXT,
    PROMPTS_DIFFER,
    SYSTEM,
    LeftOut,
    prompt_of,
)

__all__ = ["NO_PAIR", "Preference", "preference_of"]

NO_PAIR = LeftOut("no chosen and rejected")
EMPTY_ANSWER = LeftOut("empty answer")
SAME_ANSWERS = LeftOut("chosen and rejected are the same")
NO_ANSWER = LeftOut("ends without an answer")
OUT_OF_TURN = LeftOut("turns do not alternate")
_PROMPTS = ("prompt", "question", "instruction")
_TURN = re.compile(r"\n\n(Human|Assistant):")
_ROLES = {"Human": "user", "Assistant": "assistant"}


class Preference(NamedTuple):
    """A dialogue up to the assistant's answer, and two answers.

    Attributes:
        turns: What was said, by user and assistant in turn; the user began and spoke last.
        chosen: The answer that people chose.
        rejected: The other.
    """

    turns: tuple[str, ...]
    chosen: str
    rejected: str

    @property
    def messages(self) -> list[dict[str, str]]:
        """The turns as chat messages."""
        roles = ("user", "assistant")
        return [
            {"role": roles[place % 2], "content": turn} for place, turn in enumerate(self.turns)
        ]

    @property
    def dialogue(self) -> str:
        """The turns as the tasks write their prompts, up to the assistant's answer."""
        roles = ("Human", "Assistant")
        said = "".join(f"\n\n{roles[place % 2]}: {turn}" for place, turn in enumerate(self.turns))
        return f"{said}\n\nAssistant:"


def preference_of(row: Mapping[str, object], *, single_turn: bool = False) -> Preference | LeftOut:
    """Return the preference of a row, or why it is none.

    Args:
        row: Two dialogues ``{chosen, rejected}`` as in HH, two lists of messages, or a ``prompt``
            (text, dialogue or messages) with two answers.
        single_turn: Whether the user must have spoken only once.
    """
    chosen, rejected = row.get("chosen"), row.get("rejected")
    if chosen is None or rejected is None:
        return NO_PAIR
    given = next((row[name] for name in _PROMPTS if row.get(name) is not None), None)
    better, worse = _ended(chosen, given), _ended(rejected, given)
    if isinstance(better, LeftOut):
        return better
    if isinstance(worse, LeftOut):
        return worse
    (before, first), (other, second) = better, worse
    if before != other:
        return PROMPTS_DIFFER
    turns = _alternating(before)
    if isinstance(turns, LeftOut):
        return turns
    if not first or not second:
        return EMPTY_ANSWER
    if first == second:
        return SAME_ANSWERS
    if any("\ud800" <= sign <= "\udfff" for text in (*turns, first, second) for sign in text):
        return NOT_TEXT
    return MULTI_TURN if single_turn and len(turns) > 1 else Preference(turns, first, second)


_Said = tuple[tuple[str, str], ...]  # (role, text) in turn


def _ended(side: object, given: object) -> tuple[_Said, str] | LeftOut:
    """Return what was said before the answer, and the answer, of one of the two."""
    if isinstance(side, list):
        said = _of_messages(side)
        if isinstance(said, LeftOut):
            return said
        if not said or said[-1][0] != "assistant":
            return NO_ANSWER
        if given is None or len(said) > 1:
            return said[:-1], said[-1][1]
        side = said[-1][1]
    if not isinstance(side, str):
        return NOT_TEXT
    prompt = prompt_of(side)
    if prompt is None:
        if given is None:
            return NO_MARKERS
        before = _of_prompt(given)
        return before if isinstance(before, LeftOut) else (before, side.strip())
    answer = side[len(prompt) :].partition(":")[2]
    return NO_ANSWER if _TURN.search(answer) else (_of_dialogue(prompt), answer.strip())


def _of_prompt(given: object) -> _Said | LeftOut:
    if isinstance(given, list):
        return _of_messages(given)
    if not isinstance(given, str):
        return NOT_TEXT
    if given.lstrip().startswith("Human:"):
        prompt = prompt_of("\n\n" + given.lstrip())
        return NO_MARKERS if prompt is None else _of_dialogue(prompt)
    return (("user", given.strip()),)


def _of_dialogue(prompt: str) -> _Said:
    _, *parts = _TURN.split(prompt)
    return tuple(
        (_ROLES[role], text.strip()) for role, text in zip(parts[::2], parts[1::2], strict=True)
    )


def _of_messages(messages: Sequence[Any]) -> _Said | LeftOut:
    said = []
    for one in messages:
        role, text = (one.get("role"), one.get("content")) if isinstance(one, dict) else (0, 0)
        if not isinstance(role, str) or not isinstance(text, str):
            return NOT_TEXT
        if role == "system":
            return SYSTEM
        said.append((role, text.strip()))
    return tuple(said)


def _alternating(said: _Said) -> tuple[str, ...] | LeftOut:
    roles = [role for role, _ in said]
    if not said or not said[-1][1]:
        return EMPTY
    if len(said) % 2 == 0 or roles != (["user", "assistant"] * len(said))[: len(said)]:
        return OUT_OF_TURN
    return tuple(text for _, text in said)
