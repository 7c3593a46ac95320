"""Responses that scored themselves (ambiguous verdicts): counted, shown and gated everywhere."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from judged_runs import counted, write_judged_run, write_labels
from typer.testing import CliRunner

from eft_eval.cli.app import app
from eft_eval.judging import Status
from eft_eval.labels.responses import read_items

DOCUMENTS, SELF_SCORED = 40, 12
COUNT = "12 of 40 responses have no score (12 ambiguous)"


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of which every response has a score, and one of which 12 of 40 scored themselves."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")
    verdicts = counted([float(number % 2) for number in range(DOCUMENTS)])
    write_judged_run(Path("plain"), verdicts)
    verdicts[:SELF_SCORED] = [
        replace(one, status=Status.ambiguous, value=None) for one in verdicts[:SELF_SCORED]
    ]
    write_judged_run(Path("quoting"), verdicts)
    people = [float(number % 2) for number in range(DOCUMENTS)]
    people[-1] = 0.0  # one disagreement
    write_labels(Path("labels.csv"), read_items(Path("quoting")), {"A1": people, "A2": people})


def done(line: str) -> Any:
    return CliRunner().invoke(app, line.split())


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("compare plain quoting", 3, "40 scored → 12 ambiguous, 28 scored"),
        ("compare plain quoting --format github", 3, "30 %25 of 40 responses (0 %25 before)"),
        ("compare plain quoting --format junit", 3, "30 % of 40 responses (0 % before)"),
        ("compare plain quoting --format markdown", 3, "12 ambiguous, 28 scored"),
        ("compare plain quoting --format json", 3, '"ambiguous": 12'),
        ("report quoting --format md", 0, "factuality: 12 ambiguous, 28 scored"),
        ("report plain quoting --format md --gate", 0, "30 % of 40 responses (0 % before)"),
        ("bless quoting --out b.json", 1, f"{COUNT}; "),
        ("bless quoting --out b.json --allow-incomplete", 0, COUNT),
        ("agree --labels labels.csv --run quoting", 0, "not scored: 12 ambiguous"),
        ("gold sample quoting --labels labels.csv --out g --format csv", 0, "27 agreements"),
        ("correct quoting --labels labels.csv", 0, f"! {COUNT}: the corrected figures"),
        ("export quoting --format csv", 1, "12 of 40 verdicts of judge-1 are no answer"),
        ("export quoting --format csv --max-unknown 0.5", 0, "ambiguous"),
        ("export quoting --format eee --organization me --out e", 1, "(12 ambiguous, 28 scored)"),
        ("export quoting --format model-card --repo me/x", 1, "at most 5 % may be"),
    ],
)
def test_every_command_counts_shows_and_gates_them(line: str, code: int, said: str) -> None:
    found = done(line)
    assert said in f"{found.output}{found.exception}"
    assert found.exit_code == code


@pytest.mark.usefixtures("runs")
def test_a_baseline_and_a_correction_keep_the_count() -> None:
    assert done("bless quoting --out b.json --allow-incomplete").exit_code == 0
    assert '"ambiguous": 12' in Path("b.json").read_text()
    assert "of 12 unknown" in done("compare b.json plain").output
    assert done("compare plain quoting").exit_code == 3
    assert done("correct quoting --labels labels.csv --json c.json").exit_code == 0
    assert COUNT in json.loads(Path("c.json").read_text())["warnings"][0]
    assert done("compare plain quoting").exit_code == 3, "a correction opens no gate"
    assert "(12 ambiguous, 28 scored)" in str(done("export quoting --format csv").exception)
