"""The benchmark of engines runs, and its contestants say the same."""

from __future__ import annotations

import json
from pathlib import Path

from vllm_commands import GIVEN, REAL, environment, ran

pytestmark = REAL


def test_contestants_give_the_same_responses(tmp_path: Path) -> None:
    answer = tmp_path / "engines.json"
    done = ran(
        [f"{GIVEN}/python", "-m", "benchmarks.engines", "--smoke", "--json", str(answer)], 900,
        cwd=Path(__file__).parents[2], env=environment() | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(answer.read_text())
    assert len(found["equal_responses"]) == 5
    assert set(found["equal_responses"].values()) == {1.0}
    assert found["memory_drafted"]["statistics"]["acceptance"] > 0.5
    # the draft model's own copy
    assert found["memory_drafted"]["weights"] > found["memory"]["weights"]
