"""What a plan says of memory, against a run's own peak."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak is Linux's")
def test_memory_is_within_a_quarter(tmp_path: Path) -> None:
    answer = tmp_path / "plans.json"
    words = ["-m", "benchmarks.plans", "--only", "eft, plain, 32", "--json", str(answer)]
    done = subprocess.run(
        [sys.executable, *words], cwd=Path(__file__).parents[2], capture_output=True, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    (found,) = json.loads(answer.read_text())
    assert found["planned_memory"] == sum(found["parts"].values())
    assert 0.75 < found["planned_memory"] / found["measured_memory"] < 1.25
