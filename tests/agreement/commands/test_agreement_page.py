"""docs/agreement.md says what is true; the size that it speaks of is handled."""

from __future__ import annotations

import itertools
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from judged_runs import (
    Run,
    counted,
    items_in_order,
    write_judged_run,
    write_labels,
)

PAGE = Path(__file__).parents[3] / "docs" / "agreement.md"


def test_the_pages_commands_and_options_exist(run: Run) -> None:
    text = PAGE.read_text("utf-8")
    lines = re.findall(r"^    eft-eval (.*)$", text, re.M)
    assert len(lines) >= 6
    for line in lines:
        words = shlex.split(line)
        options = {word for word in words if word.startswith("--")}
        command = list(itertools.takewhile(str.isalpha, words))
        printed = run(*command, "--help")
        assert printed.code == 0, line
        assert options <= set(re.findall(r"--[a-z-]+", printed.out)), line
    named = set(re.findall(r"`(--[a-z-]+)", text)) - {"--help"}
    commands = ("agree", "agree plan", "labels import", "labels export", "gold sample")
    helps = [run(*name.split(), "--help").out for name in (*commands, "gold import", "correct")]
    every = "".join(helps)
    assert named <= set(re.findall(r"--[a-z-]+", every))


def test_the_pages_notebook_runs() -> None:
    pandas = pytest.importorskip("pandas")
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.S)
    frame = pandas.DataFrame(
        {
            "jane": [1, 0, 2, 0],
            "bob": [0, 0, 1, 1],
            "judge": [1, 0, 1, None],
            "prompt": [1, 1, 2, 3],
        }
    )
    wide = frame.rename_axis("id").reset_index().drop(columns="prompt")
    long = wide.rename(columns={"judge": "gpt-4.1"}).melt("id", var_name="who", value_name="errors")
    names: dict[str, Any] = {"frame": frame, "long": long}
    exec(block, names)
    assert names["found"].judge == "gpt-4.1"
    assert names["found"].pair.n == 2  # one tie, one without a verdict


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
