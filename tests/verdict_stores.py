"""Verdicts to store, stores of the first layout, and the command that looks after them."""

from __future__ import annotations

from typing import Any

from typer.testing import CliRunner

from eft_eval.cli.app import app
from eft_eval.judging import Verdict, VerdictStore

RECORD: dict[str, Any] = {
    "key": "k",
    "status": "scored",
    "value": 2,
    "reason": "why",
    "raw": "Reason: why\nScore: 2",
    "finish_reason": "stop",
    "judge_model": "m",
    "judge_model_returned": "m-1",
    "prompt_name": "factuality",
    "prompt_version": 1,
    "prompt_sha256": "00",
    "parameters": {"temperature": 0, "max_tokens": 8},
    "parser_version": 1,
    "prompt_tokens": 3,
    "completion_tokens": 4,
    "cost_usd": 0.1,
    "price_table": "2025-04-14",
    "created": "2026-01-01T00:00:00+00:00",
    "error": None,
}


def verdict(key: str = "k", **changes: Any) -> Verdict:
    return Verdict.from_dict({**RECORD, "key": key, **changes})


def call(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["verdicts", *map(str, arguments)], catch_exceptions=False)


def counted(store: VerdictStore) -> list[Any]:
    """What `list` shows, from the facts, and the same counted record by record."""
    tallies, unreadable = store.tally()
    by_record, also = store._count()
    assert sorted(tallies) == sorted(by_record)
    assert sorted(unreadable) == sorted(also)
    return tallies
