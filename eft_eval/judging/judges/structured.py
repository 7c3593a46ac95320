"""Structured output: the answer format as a JSON schema; one parser reads all replies."""

from __future__ import annotations

from typing import Any

__all__ = ["FORMAT_NAME", "response_format"]

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
