"""A judged run, three people's labels, and the command line in this process."""

from __future__ import annotations

from pathlib import Path

import pytest
from judged_runs import (
    PEOPLE,
    VERDICTS,
    Run,
    command_line,
    counted,
    items_in_order,
    write_judged_run,
    write_labels,
)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command of eft-eval in this process."""
    return command_line(capsys, monkeypatch)


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """60 responses to 30 prompts, 5 without a score."""
    return write_judged_run(tmp_path / "run", counted(VERDICTS), repeats=2)


@pytest.fixture
def labels(tmp_path: Path, run_dir: Path) -> Path:
    """Three people's labels of the first 40 responses."""
    items = items_in_order(run_dir)[:40]
    return write_labels(
        tmp_path / "labels.csv", items, {name: given[:40] for name, given in PEOPLE.items()}
    )
