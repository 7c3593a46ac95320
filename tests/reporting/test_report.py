"""The record of a report: what is refused, compared, hidden and loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from reported_runs import ARMS, study, write_arm

from eft_eval.comparing import GateSettings, read_run
from eft_eval.errors import ComparabilityError
from eft_eval.reporting.report import make_report
from eft_eval.runs.provenance import facts_of


def test_runs_that_cannot_be_compared_are_refused(tmp_path: Path) -> None:
    old = read_run(write_arm(tmp_path / "old", ARMS["small"], [0.0, 1.0] * 10))
    short = read_run(write_arm(tmp_path / "new", ARMS["up"], [1.0, 1.0]))
    with pytest.raises(ComparabilityError, match="lacks 18 document"):
        make_report([old, short])


def test_one_run_is_compared_with_nothing(tmp_path: Path) -> None:
    run = read_run(write_arm(tmp_path / "a", ARMS["small"], [0.0, 1.0] * 10))
    report = make_report([run])
    assert report.comparison is None
    assert report.main == ("facts/fact_errors,judge", "facts/any_right,judge")
    assert report.title == "model"


def test_settings_reach_the_gate(tmp_path: Path) -> None:
    old = read_run(write_arm(tmp_path / "old", ARMS["small"], [0.0, 1.0] * 10))
    new = read_run(write_arm(tmp_path / "new", ARMS["up"], [1.0, 1.0] * 10))
    report = make_report([old, new], GateSettings(tolerance=2.0, level=0.9))
    assert report.comparison is not None
    assert report.comparison.outcome == "pass"
    assert report.level == 0.9
    assert report.runs[0].scores[0].interval is not None
    assert report.runs[0].scores[0].interval.level == 0.9


def test_secrets_in_model_arguments_are_not_shown(tmp_path: Path) -> None:
    arguments = "pretrained=x,api_key=sk-123,hf_token=abc,base_url=http://localhost"
    config = {"model": "hf", "model_args": arguments}
    run = read_run(write_arm(tmp_path / "a", config, [0.0, 1.0]))
    shown = dict(facts_of(run))["model arguments"]
    assert "sk-123" not in shown
    assert "abc" not in shown
    assert shown.startswith("pretrained=x,api_key=(not shown),")


def test_making_a_report_loads_neither_torch_nor_lm_eval(tmp_path: Path) -> None:
    paths = study(tmp_path, 20)
    program = (
        "import sys; from eft_eval.cli.app import app; from typer.testing import CliRunner; "
        f"words = ['report', *{paths!r}, '--out', {str(tmp_path / 'r.html')!r}]; "
        "done = CliRunner().invoke(app, words); "
        "assert done.exit_code == 0, done.exception; "
        "bad = {'torch', 'lm_eval', 'transformers', 'datasets', 'pandas'} & set(sys.modules); "
        "print(sorted(bad))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
