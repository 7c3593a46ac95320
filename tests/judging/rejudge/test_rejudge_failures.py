"""Judging a saved run where the judge, the files or the run itself fail."""

from __future__ import annotations

import dataclasses
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from judged_runs import items_in_order, write_labels
from rejudged_runs import QUESTIONS, Runs, answer, contents, edit, holding, newest, results_in
from typer.testing import CliRunner

from eft_eval.agreement.correct import correct_run
from eft_eval.cli.app import app
from eft_eval.errors import ConfigError, EftEvalError
from eft_eval.judging import JudgeSettings, VerdictStore, default_store_path
from eft_eval.judging.rejudge import judge_run
from eft_eval.judging.responses import Selection
from eft_eval.verdicts.text import read_verdicts


def without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask one response at a time, and never twice."""
    read = JudgeSettings.from_environment

    def impatient() -> JudgeSettings:
        return dataclasses.replace(read(), max_retries=0, concurrency=1)

    monkeypatch.setattr(JudgeSettings, "from_environment", impatient)


def test_a_write_that_fails_leaves_no_results_and_no_scraps(
    run_dir: Path, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(run_dir)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(ConfigError, match=r"cannot write .*samples_eli5_fact_.*No space left"):
            judge_run(run_dir)
    assert contents(run_dir) == before
    judge_run(run_dir)
    assert len(server.chats) == len(QUESTIONS)


def test_nothing_is_written_while_the_judge_is_down(run_dir: Path, server: Any) -> None:
    before = contents(run_dir)
    server.die()
    with pytest.raises(ConfigError, match="endpoint down"):
        judge_run(run_dir)
    assert contents(run_dir) == before


def test_a_judge_that_dies_costs_only_what_it_did_not_answer(
    runs: Runs,
    run_dir: Path,
    openai_server: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    without_waiting(monkeypatch)
    replies = 0

    def mortal(prompt: str, _: object) -> str:
        nonlocal replies
        replies += 1
        if replies > 2:
            dying.die()
        return answer(prompt)

    dying = openai_server(mortal)
    monkeypatch.setenv("EFT_JUDGE_BASE_URL", dying.url)
    metrics = judge_run(run_dir).results["eli5_fact"]
    lost = len(QUESTIONS) - 2
    assert metrics["fact_missing,factuality"] == lost / len(QUESTIONS)
    assert f"{lost} of {len(QUESTIONS)} responses have no verdict" in caplog.text
    results, samples = newest(run_dir)
    described = results["configs"]["eli5_fact"]["metadata"]["eft_judge"]
    assert described["verdicts"]["api_error"] == lost
    assert sum(sample["fact_missing"] for sample in samples) == lost

    alive = openai_server(answer)
    monkeypatch.setenv("EFT_JUDGE_BASE_URL", alive.url)
    judge_run(run_dir)
    assert len(alive.chats) == lost
    assert newest(run_dir)[0]["results"] == newest(runs.judged)[0]["results"]
    assert len(VerdictStore(default_store_path())) == len(QUESTIONS)


def test_no_verdict_at_all_writes_nothing(
    run_dir: Path,
    openai_server_module: ModuleType,
    openai_server: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dislike = openai_server_module.Reply("no", status=400)
    monkeypatch.setenv("EFT_JUDGE_BASE_URL", openai_server(lambda *_: dislike).url)
    before = contents(run_dir)
    with pytest.raises(EftEvalError, match=r"6 of 6 responses have no verdict .* nothing is writ"):
        judge_run(run_dir)
    assert contents(run_dir) == before


def test_no_readable_verdict_is_written_as_nan(
    run_dir: Path, openai_server: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EFT_JUDGE_BASE_URL", openai_server(lambda *_: "no").url)
    judge_run(run_dir)
    results, samples = newest(run_dir)
    assert math.isnan(results["results"]["eli5_fact"]["fact_errors,factuality"])
    assert math.isnan(results["results"]["eli5_fact"]["fact_errors_stderr,factuality"])
    assert results["results"]["eli5_fact"]["fact_unreadable,factuality"] == 1
    assert {sample["fact_errors"] for sample in samples} == {None}


def test_a_lone_surrogate_in_a_reply_can_be_written(
    run_dir: Path, openai_server: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = openai_server(lambda *_: "Reason: \ud800.\nScore: 1")
    monkeypatch.setenv("EFT_JUDGE_BASE_URL", judge.url)
    judge_run(run_dir)
    (verdict,) = read_verdicts(newest(run_dir)[1][0]["filtered_resps"][0])
    assert verdict.raw == "Reason: \ud800.\nScore: 1"


def test_missing_verdicts_are_exit_code_3(
    run_dir: Path,
    openai_server_module: ModuleType,
    openai_server: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    def one(prompt: str, _: object) -> Any:
        asked.append(prompt)
        return answer(prompt) if len(asked) == 1 else openai_server_module.Reply("n", status=400)

    monkeypatch.setenv("EFT_JUDGE_BASE_URL", openai_server(one).url)
    result = CliRunner().invoke(app, ["judge", str(run_dir)])
    assert result.exit_code == 3, result.output
    assert "fact_missing" in result.stdout


@pytest.mark.parametrize("options", [[], ["--dry-run"], ["--batch", "submit"]])
def test_lost_documents_are_refused_before_anything_is_asked(
    run_dir: Path, server: Any, options: list[str]
) -> None:
    (path,) = run_dir.glob("samples_*")
    lines = path.read_text("utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[:4]), "utf-8")
    before = contents(run_dir)
    result = CliRunner().invoke(app, ["judge", str(run_dir), "--judge", "j", *options])
    assert isinstance(result.exception, ConfigError)
    (line,) = str(result.exception).splitlines()
    assert "lacks 2 of 6 documents under filter" in line
    assert (result.output, server.chats) == ("", [])
    assert contents(run_dir) == before
    holding(run_dir, 4)  # as --limit writes it
    result = CliRunner().invoke(app, ["judge", str(run_dir), "--judge", "j", "--dry-run"])
    assert result.exit_code == 0
    assert "4 new, 0 stored" in result.stdout
    assert len(judge_run(run_dir).files) == 1
    assert len(server.chats) == 4


def test_a_write_protected_run_is_refused_before_anything_is_asked(
    run_dir: Path, server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.access

    def locked(path: Any, mode: int) -> bool:  # root may write everywhere
        return not (Path(path) == run_dir and mode & os.W_OK) and real(path, mode)

    with monkeypatch.context() as patch:
        patch.setattr(os, "access", locked)
        for options in ([], ["--batch", "submit"]):
            result = CliRunner().invoke(app, ["judge", str(run_dir), "--judge", "j", *options])
            assert isinstance(result.exception, ConfigError)
            assert f"folder {run_dir} is write-protected" in str(result.exception)
        assert server.chats == []
        dry = CliRunner().invoke(app, ["judge", str(run_dir), "--judge", "j", "--dry-run"])
        assert dry.exit_code == 0, dry.exception
    judge_run(run_dir)
    labels = write_labels(tmp_path / "labels.csv", items_in_order(run_dir), {"jane": [0] * 6})
    before = contents(run_dir)
    monkeypatch.setattr(os, "access", locked)
    with pytest.raises(ConfigError, match="is write-protected"):
        correct_run(run_dir, [labels])
    assert contents(run_dir) == before


def test_lost_documents_of_an_earlier_judging_are_refused_too(run_dir: Path, server: Any) -> None:
    judge_run(run_dir)
    newer = sorted(run_dir.glob("samples_*"))[-1]
    newer.write_text("".join(newer.read_text("utf-8").splitlines(keepends=True)[:4]), "utf-8")
    asked = len(server.chats)
    with pytest.raises(ConfigError, match="lacks 2 of 6 documents"):
        judge_run(run_dir, Selection(prompts=("helpfulness",)))
    assert len(server.chats) == asked


def test_the_parent_of_one_run_is_accepted_and_of_several_is_not(
    run_dir: Path, tmp_path: Path, server: Any
) -> None:
    assert judge_run(tmp_path).results == newest(run_dir)[0]["results"]
    shutil.copytree(run_dir, tmp_path / "other")
    with pytest.raises(ConfigError, match=r"task 'eli5_fact' .*other.*run"):
        judge_run(tmp_path)


def test_what_cannot_be_judged_is_said(run_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"there is no file or folder .*nowhere"):
        judge_run(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="holds no results file"):
        judge_run(tmp_path / "empty")
    with pytest.raises(ConfigError, match="no judge to ask"):
        judge_run(run_dir)
    with pytest.raises(ConfigError, match="unknown judge prompt"):
        judge_run(run_dir, Selection(prompts=("factualty",)))
    (samples,) = run_dir.glob("samples_*")
    holding(run_dir, 1)
    samples.write_text('{"doc_id": 0}\n')
    with pytest.raises(ConfigError, match="doc_id 0: the sample has no responses"):
        judge_run(run_dir)
    samples.write_text('{"doc_id": 0, "resps"')
    with pytest.raises(ConfigError, match="no sample of lm-eval, or cut off"):
        judge_run(run_dir)
    samples.unlink()
    with pytest.raises(ConfigError, match="--log_samples"):
        judge_run(run_dir)
    edit(
        run_dir,
        lambda r: r["configs"]["eli5_fact"]["filter_list"][0]["filter"].append(
            {"function": "take_first"}
        ),
    )
    samples.write_text('{"doc_id": 0, "resps": [["x"]]}')
    with pytest.raises(ConfigError, match="steps beside eft_judge"):
        judge_run(run_dir)
    other = {"configs": {"arc_easy": {"filter_list": None}}, "results": {"arc_easy": {}}}
    edit(run_dir, lambda r: r.update(other))
    with pytest.raises(ConfigError, match=r"no task with a judge.*arc_easy"):
        judge_run(run_dir)
    results_in(run_dir)[0].write_text("[]")
    with pytest.raises(ConfigError, match="no results file of lm-eval"):
        judge_run(run_dir)
