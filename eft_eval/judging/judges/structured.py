"""Structured output: the answer format as a JSON schema, and such replies as text again.

One parser reads all replies: JSON is turned into the text that the same judge would have written.
"""

from __future__ import annotations

import json
from typing import Any

__all__ = ["FORMAT_NAME", "parse_structured", "response_format"]

FORMAT_NAME = "reason_score"
"""The schema's name, as it is recorded among a verdict's parameters."""


def response_format() -> dict[str, Any]:
    """Return the ``response_format`` of a chat request; the reason comes first, as in the text."""
    schema = {
        "type": "object",
        "properties": {
            "reason": {"type": "string"},
            "score": {
                "type": ["number", "null"],
                "description": 'the number; null in place of a score of "None"',
            },
        },
        "required": ["reason", "score"],
        "additionalProperties": False,
    }
    return {
        "type": "json_schema",
        "json_schema": {"name": FORMAT_NAME, "strict": True, "schema": schema},
    }


def parse_structured(reply: str | None) -> str | None:
    """Return a structured reply as ``Reason: ...`` and ``Score: ...`` in text.

    What is not such JSON (cut off, an endpoint that ignored the schema) is returned as it came:
    the parser then reads it, or finds it unreadable.
    """
    try:
        found = json.loads(reply or "", parse_float=str, parse_int=str, parse_constant=str)
    except (ValueError, RecursionError):
        return reply
    if not isinstance(found, dict) or not {"reason", "score"} <= found.keys():
        return reply
    score = "None" if found["score"] is None else found["score"]
    if not isinstance(score, str) or not isinstance(found["reason"], str):
        return reply
    # the number as it was written: 0.85 stays a fraction, 3.0 a count; one line, so that
    # nothing in it can pose as a line of its own
    return f"Reason: {found['reason']}\n\nScore: {' '.join(score.split())}"
