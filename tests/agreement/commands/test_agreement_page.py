"""The size that docs/agreement.md speaks of is handled."""

from __future__ import annotations

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

# the peak of the process alone: its rusage begins with that of the process which started it
WITH_PEAK = """
import atexit, runpy, sys, time
def figures():
    lines = open("/proc/self/status").read().splitlines()
    peak = next(line.split()[1] for line in lines if line.startswith("VmHWM"))
    print(f"{time.process_time()} {peak}", file=sys.stderr)
atexit.register(figures)
runpy.run_module("eft_eval", run_name="__main__", alter_sys=True)
"""


@pytest.mark.slow
def test_ten_thousand_items_and_five_annotators(tmp_path: Path) -> None:
    """The target is 10 s and 1 GiB; the time allowed here is for a machine with other work."""
    run_dir = write_judged_run(tmp_path / "run", counted([0, 1, 2, 0] * 2500))
    draw = np.random.default_rng(0)
    people = {f"p{i}": draw.integers(0, 3, 10_000).tolist() for i in range(5)}
    labels = write_labels(tmp_path / "l.csv", items_in_order(run_dir), people)
    command = ["agree", "--labels", str(labels), "--run", str(run_dir), "--rule", "raw"]
    start = time.monotonic()
    process = subprocess.run(
        [sys.executable, "-c", WITH_PEAK, *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.returncode == 0
    assert time.monotonic() - start < 60
    seconds, peak = process.stderr.splitlines()[-1].split()
    assert float(seconds) < 15
    assert int(peak) < 2**20  # KiB
