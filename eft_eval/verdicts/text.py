"""Verdicts as the text of a filtered response: lm-eval turns those into text."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from eft_eval.characters import HALF_CHARACTER
from eft_eval.errors import EftEvalError
from eft_eval.verdicts.verdict import Verdict

__all__ = ["query_id", "read_verdicts", "verdict_records", "verdicts_in", "write_verdicts"]

# lm-eval tells process_results neither the filter nor the judge, so the verdicts' text does
_NOTES = ("measure", "query_id")
_BEGINNING = '[{"key"'
_NEEDED = {"status", "judge_model"}


def write_verdicts(
    verdicts: Sequence[Verdict], measure: str | None = None, query_id: str | None = None
) -> str:
    """Return verdicts as a JSON array: lm-eval turns filtered responses into text.

    Args:
        verdicts: On one prompt's responses.
        measure: What the judge measured; None is factuality.
        query_id: The same for equal prompts; None if the prompt is unknown.
    """
    given = {"measure": measure, "query_id": query_id}
    notes = {name: note for name, note in given.items() if note is not None}
    records = [{**verdict.to_dict(), **notes} for verdict in verdicts]
    text = json.dumps(records, ensure_ascii=False)
    # half a character has no UTF-8, and lm-eval's samples file would end before it
    return json.dumps(records) if HALF_CHARACTER.search(text) else text


def read_verdicts(text: str) -> list[Verdict]:
    """Read the verdicts that `write_verdicts` wrote."""
    return [
        Verdict.from_dict({name: item for name, item in record.items() if name not in _NOTES})
        for record in json.loads(text)
    ]


def verdict_records(filtered: Sequence[Any]) -> list[Mapping[str, Any]] | None:
    """Return the verdicts that a judge's filter left of a document's responses, as plain data.

    Args:
        filtered: A document's ``filtered_resps``.

    Returns:
        What `write_verdicts` wrote, notes included; None where the filter is no judge.
    """
    text = filtered[0] if len(filtered) == 1 else None
    if not isinstance(text, str) or not text.startswith(_BEGINNING):
        return None
    try:
        records = json.loads(text)
    except (ValueError, RecursionError):
        return None
    fits = all(isinstance(one, dict) and one.keys() >= _NEEDED for one in records)
    return records if fits else None


def verdicts_in(filtered: Sequence[Any]) -> list[Verdict] | None:
    """Return a judge's verdicts on a document's responses, see `verdict_records`.

    None also where they are not of this version of eft-eval.
    """
    if verdict_records(filtered) is None:
        return None
    try:
        return read_verdicts(filtered[0])
    except (ValueError, TypeError, AttributeError, EftEvalError):
        return None


def query_id(query: str | None) -> str | None:
    """Return the same word for equal queries; None where the query is not known."""
    if query is None:
        return None
    return hashlib.sha256(query.strip().encode("utf-8", "surrogatepass")).hexdigest()[:16]
