"""The size that docs/agreement.md speaks of is handled."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from judged_runs import (
    counted,
    items_in_order,
    write_judged_run,
    write_labels,
)


@pytest.mark.slow
def test_ten_thousand_items_and_five_annotators(tmp_path: Path) -> None:
    """The target is 10 s and 1 GiB; the time allowed here is for a machine with other work."""
    run_dir = write_judged_run(tmp_path / "run", counted([0, 1, 2, 0] * 2500))
    draw = np.random.default_rng(0)
    people = {f"p{i}": draw.integers(0, 3, 10_000).tolist() for i in range(5)}
    labels = write_labels(tmp_path / "l.csv", items_in_order(run_dir), people)
    command = ["agree", "--labels", str(labels), "--run", str(run_dir), "--rule", "raw"]
    start = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "eft_eval", *command], stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    assert usage.ru_utime + usage.ru_stime < 15
    assert time.monotonic() - start < 60
    assert usage.ru_maxrss < 2**20  # KiB
