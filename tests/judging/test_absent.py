"""Responses that never came, and documents that share an id: each line is counted once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from judged_runs import counted, make_verdict, write_judged_run
from judging_helpers import Start, score, shown
from typer.testing import CliRunner

from eft_eval.cli.app import app
from eft_eval.judging import Status


def rewritten(run: Path, change: Callable[[int, dict[str, Any]], None]) -> None:
    """Change the lines of a run's one samples file."""
    (file,) = run.glob("samples_*.jsonl")
    lines = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    for number, line in enumerate(lines):
        change(number, line)
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")


def results_of(run: Path) -> dict[str, Any]:
    newest = sorted(run.glob("results_*.json"))[-1]
    found: dict[str, Any] = json.loads(newest.read_text("utf-8"))["results"]["eli5_fact"]
    return found


@pytest.mark.parametrize("written", [[[None]], [None]])
def test_a_null_response_is_missing_and_nobody_is_asked(
    openai_server: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: list[Any]
) -> None:
    server = openai_server(score, models=["judge"])
    monkeypatch.setenv("EFT_JUDGE_BASE_URL", server.url)
    run = write_judged_run(tmp_path / "run", counted([0, 0, 0, 0]), response="one {}".format)

    def absent(number: int, line: dict[str, Any]) -> None:
        if number == 1:
            line["resps"] = written

    rewritten(run, absent)
    dry = CliRunner().invoke(app, ["judge", str(run), "--judge", "judge", "--dry-run"])
    assert "1 without a response" in dry.output
    done = CliRunner().invoke(app, ["judge", str(run), "--judge", "judge"])
    assert done.exit_code == 3, done.output
    assert sorted(map(shown, server.prompts())) == ["one 0", "one 2", "one 3"]
    assert results_of(run)["fact_missing,factuality"] == 0.25


def test_an_unfinished_response_is_known_by_its_line_and_nobody_is_asked(
    openai_server: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The empty answer of the third document is one: only the second has unfinished reasoning."""
    server = openai_server(score, models=["judge"])
    monkeypatch.setenv("EFT_JUDGE_BASE_URL", server.url)
    verdicts = [*counted([0]), make_verdict(None, Status.unfinished), *counted([0, 0])]
    responses = ["wrong", "", "", "fine"]
    run = write_judged_run(tmp_path / "run", verdicts, response=responses.__getitem__)
    dry = CliRunner().invoke(app, ["judge", str(run), "--judge", "judge", "--dry-run"])
    assert "3 new, 0 stored, 1 unfinished" in dry.output
    for _ in range(2):  # the second time from the files that the first one wrote
        done = CliRunner().invoke(app, ["judge", str(run), "--judge", "judge"])
        assert done.exit_code == 0, done.output
        assert sorted(map(shown, server.prompts())) == ["", "fine", "wrong"]
        found = results_of(run)
        assert found["fact_unfinished,factuality"] == 0.25
        assert found["fact_errors,factuality"] == pytest.approx(1 / 3)


def test_documents_that_share_an_id_are_judged_each(
    openai_server: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As lm-eval writes them for ``--samples`` that names a document twice."""
    server = openai_server(score, models=["judge"])
    monkeypatch.setenv("EFT_JUDGE_BASE_URL", server.url)
    responses = ["fine", "wrong", "wrong wrong"]
    run = write_judged_run(tmp_path / "run", counted([0, 0, 0]), response=responses.__getitem__)

    def shared(number: int, line: dict[str, Any]) -> None:
        line["doc_id"] = 0

    rewritten(run, shared)
    done = CliRunner().invoke(app, ["judge", str(run), "--judge", "judge"])
    assert done.exit_code == 0, done.output
    assert sorted(map(shown, server.prompts())) == sorted(responses)
    assert results_of(run)["fact_errors,factuality"] == 1.0
