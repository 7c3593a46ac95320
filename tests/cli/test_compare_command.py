"""`eft-eval compare` and `bless` as commands: exit codes, forms, errors in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner
from written_runs import write_run

from eft_eval.cli.app import app
from eft_eval.errors import ComparabilityError, ConfigError

BASE = [1.0, 0.0] * 30
WORSE = [0.0] * 60
NEARLY = [0.0, 1.0, *BASE[2:]]


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, values in (("old", BASE), ("same", BASE), ("worse", WORSE), ("nearly", NEARLY)):
        write_run(tmp_path / name, {"t": {"acc": values}})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["same"], 0),
        (["worse"], 1),
        (["nearly"], 0),
        (["nearly", "--fail-on", "inconclusive"], 3),
        (["nearly", "--fail-on", "inconclusive", "--tolerance", "0.2"], 0),
        (["worse", "--fail-on", "inconclusive"], 1),
        (["same", "nearly", "worse"], 1),
        (["worse", "--tolerance", "0.9"], 0),
    ],
)
def test_exit_codes(arguments: list[str], code: int) -> None:
    done = run("compare", "old", *arguments)
    assert done.exit_code == code, done.output


def test_a_real_process_says_2_in_one_line() -> None:
    command = [sys.executable, "-c", "from eft_eval.cli import main; main()"]
    write_run(Path("short"), {"t": {"acc": BASE[:10]}})
    for arguments, complaint in (
        (["compare", "old", "short"], "the candidate lacks 50 document(s)"),
        (["compare", "old", "nowhere"], "there is no file or folder nowhere"),
        (["compare", "old", "same", "--tolerance", "-1"], "the command line: tolerance is -1"),
    ):
        done = subprocess.run([*command, *arguments], capture_output=True, text=True)
        assert done.returncode == 2
        assert done.stdout == ""
        assert complaint in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    done = subprocess.run([*command, "compare", "old", "worse"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "")
    assert "Regression in 1 of 1 gated metric" in done.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a full disk is a device of Linux")
@pytest.mark.parametrize("form", ["text", "json"])
def test_a_verdict_that_cannot_be_printed_is_no_regression(form: str) -> None:
    command = [sys.executable, "-c", "from eft_eval.cli import main; main()"]
    with Path("/dev/full").open("w") as full:
        arguments = ["compare", "old", "same", "--format", form]
        done = subprocess.run([*command, *arguments], stdout=full, stderr=subprocess.PIPE)
    assert done.returncode not in (0, 1, 3)
    assert b"the comparison cannot be shown" in done.stderr


def test_a_crash_is_no_regression(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a bug of ours")

    monkeypatch.setattr("eft_eval.comparing.compare.compare_runs", crash)
    done = run("compare", "old", "same")
    assert done.exit_code == 2
    assert "ZeroDivisionError: a bug of ours" in done.stderr


def test_bless_then_compare() -> None:
    done = run("bless", "old", "--out", "baseline.json")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("baseline.json: model, 2026-11-20")
    assert "t (60)" in done.stdout
    assert run("compare", "baseline.json", "same").exit_code == 0
    assert run("compare", "baseline.json", "worse").exit_code == 1


def test_every_form_from_one_comparison() -> None:
    outs = ["text=c.txt", "json=c.json", "markdown=c.md", "junit=c.xml", "github=c.log"]
    options = [part for out in outs for part in ("--out", out)]
    done = run("compare", "old", "worse", "--format", "json", *options)
    assert done.exit_code == 1
    assert done.stdout == Path("c.json").read_text()
    sentence = json.loads(done.stdout)["candidates"][0]["sentence"]
    reason = sentence.split(": ")[1].rstrip(".")
    for name in ("c.md", "c.xml", "c.log"):
        assert reason in Path(name).read_text(), name
    assert " ".join(reason.split()) in " ".join(Path("c.txt").read_text().split())


def test_settings_of_the_folder_and_of_a_file(runs: Path) -> None:
    (runs / "eft-eval.toml").write_text("[gate]\nfail_on_inconclusive = true\n")
    assert run("compare", "old", "nearly").exit_code == 3
    assert run("compare", "old", "nearly", "--fail-on", "regression").exit_code == 0
    (runs / "mild.toml").write_text("[gate]\ntolerance = 0.9\n")
    assert run("compare", "old", "worse", "--config", "mild.toml").exit_code == 0
    assert run("compare", "old", "worse").exit_code == 1
    missing = run("compare", "old", "same", "--config", "no.toml")
    assert "cannot read no.toml" in str(missing.exception)


@pytest.mark.parametrize(
    ("arguments", "kind", "complaint"),
    [
        (["compare", "old", "same", "--out", "jsn=x"], ConfigError, "did you mean 'json'"),
        (["compare", "old", "same", "--out", "x"], ConfigError, "expected FORM=FILE"),
        (["compare", "old", "same", "--out", "json=no/x"], ConfigError, "there is no folder no"),
        (["compare", "old", "same", "--out", "json=old"], ConfigError, "old is a folder"),
        (["compare", "", "same"], ConfigError, "the name of a run is empty"),
        (["compare", "a" * 5000, "same"], ConfigError, "there is no file or folder a"),
        (["compare", "old", "same", "--gate", "t/ac"], ConfigError, "did you mean 't/acc'"),
        (["compare", "plan", "--resolution", "0"], ConfigError, "resolution is 0"),
        (["bless", "nowhere", "--out", "b.json"], ConfigError, "there is no file or folder"),
    ],
)
def test_bad_arguments(arguments: list[str], kind: type[Exception], complaint: str) -> None:
    done = run(*arguments)
    assert isinstance(done.exception, kind)
    assert complaint in str(done.exception)


def test_prompt_changes_need_a_word() -> None:
    write_run(Path("other"), {"t": {"acc": BASE}}, prompts=[f"new {i}" for i in range(60)])
    refused = run("compare", "old", "other")
    assert isinstance(refused.exception, ComparabilityError)
    assert "--allow-prompt-change" in str(refused.exception)
    assert run("compare", "old", "other", "--allow-prompt-change").exit_code == 0


def test_plan() -> None:
    done = run("compare", "plan", "--resolution", "0.05")
    assert done.exit_code == 0
    assert done.output.count("495") == 2


def test_usage() -> None:
    assert run("compare", "--help").exit_code == 0
    assert run("compare", "old").exit_code == 2
    assert "baseline file" in run("compare", "runs", "--help").output
