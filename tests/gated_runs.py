"""Runs with known differences and what the gate makes of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from written_runs import STAMP, write_run

from eft_eval.comparing import (
    Comparison,
    GateSettings,
    Row,
    compare_runs,
    read_run,
)

__all__ = ["BASE", "LATER", "compare", "flipped", "judged_line", "only_row", "outcome_of"]

BASE = [1.0, 0.0] * 50
LATER = STAMP.replace("10-00", "11-00")


def flipped(values: Sequence[float], down: int, up: int = 0) -> list[float]:
    """Turn the first ``down`` ones to 0, and the first ``up`` zeros to 1."""
    found = list(values)
    for old, count in ((1.0, down), (0.0, up)):
        places = [i for i, value in enumerate(values) if value == old]
        for place in places[:count]:
            found[place] = 1.0 - old
    return found


def compare(
    tmp_path: Path, before: Any, after: Any, demands: Any = None, **options: Any
) -> Comparison:
    old = write_run(tmp_path / "old", before, **options)
    new = write_run(tmp_path / "new", after, **options)
    return compare_runs(read_run(old), [read_run(new)], demands)


def only_row(found: Comparison) -> Row:
    (candidate,) = found.candidates
    (row,) = candidate.rows
    return row


def outcome_of(
    tmp_path: Path, after: Sequence[float], demands: GateSettings, **options: Any
) -> tuple[str, int]:
    found = compare(tmp_path, {"t": {"acc": BASE}}, {"t": {"acc": after}}, demands, **options)
    decision = only_row(found).decision
    assert decision is not None
    assert found.outcome == decision.outcome
    return decision.outcome, found.exit_code


def judged_line(line: str, **changes: Any) -> str:
    """Return a sample whose filtered response is a verdict."""
    record = json.loads(line)
    verdict = {
        "key": "k",
        "status": "scored",
        "value": 1,
        "judge_model": "judge-1",
        "judge_model_returned": "judge-1-0613",
        "prompt_name": "factuality",
        "prompt_sha256": "a" * 64,
        "parameters": {"temperature": 0},
        **changes,
    }
    return json.dumps({**record, "filtered_resps": [json.dumps([verdict])]})
