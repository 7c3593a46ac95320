"""The benchmark of cost curves, run small: its parts make up what was measured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def run(folder: Path) -> list[dict[str, Any]]:
    path = folder / "curves.json"
    command = [
        sys.executable, "-m", "benchmarks.curves", "--shape", "tiny", "--prompts", "16", "64",
        "--rows", "1", "2", "--vocabularies", "1000", "1200", "--rounds", "2", "--json", str(path),
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(path.read_text())["points"]
    return found


@pytest.mark.slow
def test_parts_make_up_the_cost(tmp_path: Path) -> None:
    found = run(tmp_path)
    where = [(one["vocabulary"], one["prompt"], one["rows"]) for one in found]
    assert where == [(1000, 16, 1), (1000, 16, 2), (1000, 64, 1), (1000, 64, 2), (1200, 16, 1),
                     (1200, 16, 2)]  # fmt: skip
    for one in found:
        parts = one["parts_ms"]
        assert sum(parts.values()) == pytest.approx(one["ms_per_token"])
        assert parts[one["bound_by"]] == max(parts.values())
    cached = [one["parts_ms"]["keys and values"] for one in found]
    assert cached[2] == pytest.approx(cached[0] * (64 + 1) / (16 + 1))
