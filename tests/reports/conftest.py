"""A composite run with its claims."""

from __future__ import annotations

from pathlib import Path

import pytest
from claimed_runs import written

from eft_eval.exporting import RunClaim
from eft_eval.reports.exports import every_eval_ever as export_eee
from eft_eval.reports.exports import table as export_table


@pytest.fixture
def one_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the version of eft-eval out of the golden files."""
    for module in (export_eee, export_table):
        monkeypatch.setattr(module, "__version__", "9.9.9")


@pytest.fixture
def run(one_version: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunClaim:
    monkeypatch.chdir(tmp_path)
    return written()
