"""Verdicts as the text of a filtered response: lm-eval turns those into text."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from eft_eval.verdicts.verdict import Verdict

__all__ = ["query_id", "read_verdicts", "write_verdicts"]

# lm-eval tells process_results neither the filter nor the judge, so the verdicts' text does
_NOTES = ("measure", "query_id")


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
    return json.dumps([{**verdict.to_dict(), **notes} for verdict in verdicts], ensure_ascii=False)


def read_verdicts(text: str) -> list[Verdict]:
    """Read the verdicts that `write_verdicts` wrote."""
    return [
        Verdict.from_dict({name: item for name, item in record.items() if name not in _NOTES})
        for record in json.loads(text)
    ]


def query_id(query: str | None) -> str | None:
    """Return the same word for equal queries; None where the query is not known."""
    if query is None:
        return None
    return hashlib.sha256(query.strip().encode("utf-8", "surrogatepass")).hexdigest()[:16]
