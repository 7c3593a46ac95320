"""Verdicts written as JSON: an object with a reason and a score, wherever it stands in a reply."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

__all__ = ["JsonVerdict", "json_verdicts"]


class JsonVerdict(NamedTuple):
    """One object of a reply.

    Attributes:
        start: Where it begins in the reply,
        end: and where it ends.
        reason: Its reason.
        score: Its score as it is written, in one line; ``None`` for null.
    """

    start: int
    end: int
    reason: str
    score: str


class _Pairs(list[tuple[str, Any]]):
    """An object with all its keys, also those that are there twice."""


# the number as it was written: 0.85 stays a fraction, 3.0 a count; models break lines in texts
_DECODER = json.JSONDecoder(
    object_pairs_hook=_Pairs, parse_float=str, parse_int=str, parse_constant=str, strict=False
)
_OBJECT = re.compile(r'\{(?=\s*")')


def json_verdicts(text: str) -> list[JsonVerdict]:
    """Return the verdicts of a reply in order; one that has two scores is there twice.

    An object inside of another is a part of it. Behind one that is broken nothing is read: what
    stands there may be a part of it, too.
    """
    found: list[JsonVerdict] = []
    place = 0
    while opening := _OBJECT.search(text, place):
        try:
            value, place = _DECODER.raw_decode(text, opening.start())
        except (ValueError, RecursionError):
            break
        found += _verdicts(value, opening.start(), place)
    return found


def _verdicts(pairs: _Pairs, start: int, end: int) -> list[JsonVerdict]:
    values: dict[str, list[Any]] = {"reason": [], "score": []}
    for key, value in pairs:
        values.get(key.strip().lower(), []).append(value)
    reasons = [reason for reason in values["reason"] if isinstance(reason, str)]
    if not reasons:
        return []
    return [JsonVerdict(start, end, reasons[0], _written(score)) for score in values["score"]]


def _written(score: Any) -> str:
    if score is None:
        return "None"
    # in one line, so that nothing in it can pose as a line of its own
    return " ".join(score.split()) if isinstance(score, str) else f"({type(score).__name__})"
