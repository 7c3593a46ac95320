"""The benchmark of a GPU, run small on a CPU so that it is right when a GPU is there."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def run(folder: Path, *words: str) -> dict[str, Any]:
    path = folder / "gpu.json"
    command = [sys.executable, "-m", "benchmarks.gpu", "--smoke", "--json", str(path), *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(path.read_text())
    for line in found["lines"]:
        assert line["name"] in done.stdout
    return found


@pytest.mark.slow
def test_widened_members_say_what_the_trained_ones_say_and_all_is_measured(tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    for name in ("carried_here-1.0-py3-none-any.whl", "another_system-1.0-py3-none-none.whl"):
        with zipfile.ZipFile(wheels / name, "w") as wheel:
            wheel.writestr(f"{name.split('-')[0]}.py", "")

    found = run(tmp_path, "--dtype", "float32", "--wheels", str(wheels), "--budget", "36000")

    assert found["wheels"] == ["carried-here"]
    assert not found["failed"]
    assert not found["skipped"]
    lines = {line.pop("name").removeprefix("tiny"): line for line in found["lines"]}
    flips = lines[": flips per 1,000 tokens"]
    assert flips.pop("tokens") >= 40
    assert set(flips.values()) == {0.0}
    each = {"plain", "speculative", "speculative, T = 1", "base alone", "base alone, compiled"}
    alone = {"assisted generation", "speculative, no graphs", "speculative, no fixed shapes"}
    expected = {f", batch {rows}: {name}" for rows in (1, 4) for name in each}
    expected |= {f", batch 1: {name}" for name in alone}
    assert expected == {name for name in lines if "batch" in name}
    for name, line in lines.items():
        if "batch" in name:
            assert line["tokens_per_second"] > 0
    # the trained members' own drafts stand
    assert lines[", batch 4: speculative"]["acceptance"] > 0.8
    assert lines[", batch 1: speculative"]["tokens_per_round"] > 2
    assert "tiny, batch 1: speculative over assisted generation" in found["ratios"]


@pytest.mark.slow
def test_what_does_not_fit_the_budget_is_said_to_be_skipped(tmp_path: Path) -> None:
    found = run(tmp_path, "--budget", "0")
    assert found["skipped"] == ["tiny: parameters"]
    assert found["lines"] == []
    assert found["bytes_per_second"] > 0
