"""Runs that `eft-eval judge` and `eft-eval correct` wrote, read and compared."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fresh_environments import clean_environ
from judged_runs import Done, command_line, fill

from eft_eval.comparing import GateSettings, MetricKey, bless, compare_runs, read_run
from eft_eval.errors import ConfigError

pytestmark = pytest.mark.slow  # each runs whole commands

SCRIPT = r"""
- {match: 'RESPONSE:[\s\S]*(piano|potter)', reply: "Reason: x.\n\nScore: \"None\""}
- {match: 'RESPONSE:[\s\S]*e.*e.*e.*e.*e.*e.*e.*e.*e', reply: "Reason: x.\n\nScore: 2"}
- {match: '.', reply: "Reason: x.\n\nScore: 0"}
"""
PROMPTS = ("factuality", "factuality_with_query")


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of the demo family, ``out``, and judges' scripts."""
    folder = tmp_path_factory.mktemp("evaluated")
    command = "lm_eval --model eft --model_args model=demo --tasks demo_fact --limit 16"
    options = "--batch_size 16 --output_path out --log_samples"
    done = subprocess.run(
        [sys.executable, "-m", *command.split(), *options.split()],
        cwd=folder,
        env=clean_environ(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1"),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (folder / "one.yaml").write_text(SCRIPT)
    (folder / "two.yaml").write_text(SCRIPT.replace("Score: 2", "Score: 3"))
    return folder


@pytest.fixture
def folder(evaluated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Go to a copy of `evaluated`, with a copy of its run under the name ``judged``."""
    shutil.copytree(evaluated, tmp_path / "work")
    shutil.copytree(evaluated / "out", tmp_path / "work" / "judged")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


@pytest.fixture
def call(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Done]:
    """Run a command of eft-eval in the folder; it must end with ``code``."""
    run = command_line(capsys, monkeypatch)

    def checked(*arguments: str, code: int = 0) -> Done:
        done = run(*arguments)
        assert done.code == code, done.out[-2000:] + done.err[-2000:]
        return done

    return checked


def judging(run: str, script: str, *options: str) -> list[str]:
    """Return the command that judges a run."""
    prompts = "--prompt factuality --prompt factuality_with_query --map query=doc.question"
    judge = ["--task", "demo_fact", "--judge", f"scripted:{script}"]
    return ["judge", run, *judge, *prompts.split(), *options]


def newest_entry(run: Path) -> dict[str, Any]:
    file = max(run.glob("*/results_*.json"))
    return json.loads(file.read_text("utf-8"))["results"]["demo_fact"]


def test_a_run_judged_later_is_read_with_its_judges(
    folder: Path, call: Callable[..., Done]
) -> None:
    call(*judging("judged", "one.yaml"))
    run = read_run(folder / "judged")
    assert [one.text for one in run.problems] == []
    task = run.tasks["demo_fact"]
    assert set(task.pipelines) == {"exact", *PROMPTS}
    judges = {name: one.judge for name, one in task.pipelines.items()}
    for name in PROMPTS:
        seen = judges[name]
        assert seen is not None
        assert (seen.model, seen.prompt) == ("scripted:one.yaml", name)
        statuses = task.pipelines[name].verdicts
        assert statuses is not None
        assert set(statuses) == {"scored", "abstained"}
        assert sum(statuses.values()) == 16
    assert judges["exact"] is not None
    assert judges["exact"].model != "scripted:one.yaml"
    entry = newest_entry(folder / "judged")
    for key in (MetricKey("fact_errors", name) for name in PROMPTS):
        assert task.columns[key].is_mean
        assert task.columns[key].reported == entry[str(key)]
    # nothing else has changed, and what is new is named
    found = compare_runs(read_run(folder / "out"), [run])
    assert found.outcome == "pass"
    assert "only in the candidate, and not compared: demo_fact/" in found.candidates[0].notes[0]
    done = call("compare", "judged", "out", code=1)
    assert "fact_errors is missing in the candidate" in " ".join(done.out.split())


def test_the_newest_judging_counts_and_judges_are_told_apart(
    folder: Path, call: Callable[..., Done]
) -> None:
    call(*judging("judged", "one.yaml"))
    shutil.copytree(folder / "judged", folder / "again")
    call(*judging("again", "one.yaml"))
    done = call("compare", "judged", "again")
    counts = read_run(folder / "judged").tasks["demo_fact"].pipelines["factuality"].verdicts
    assert counts is not None
    said = ", ".join(f"{number} {status}" for status, number in counts.items())
    assert f"verdicts of demo_fact, filter factuality: {said} → {said}" in done.out
    shutil.copytree(folder / "judged", folder / "other")
    call(*judging("other", "two.yaml", "--bridge"))
    run = read_run(folder / "other")
    assert not [one for one in run.problems if one.severity == "error"]
    seen = run.tasks["demo_fact"].pipelines["factuality"].judge
    assert seen is not None
    assert seen.model == "scripted:two.yaml"
    refused = call("compare", "judged", "other", code=2)
    assert "filter 'factuality': judge scripted:one.yaml and scripted:two.yaml" in refused.err
    # what the exact judge says can be compared all the same
    gate = ["--gate", "demo_fact/fact_errors,exact"]
    done = call("compare", "judged", "other", *gate)
    assert "! not compared: task 'demo_fact', filter 'factuality': judge scripted" in done.out
    assert "fact_errors,factuality" not in done.out
    # the same name, other rules: another judge
    (folder / "one.yaml").write_text(SCRIPT.replace("Score: 0", "Score: 1"))
    call(*judging("again", "one.yaml"))
    refused = call("compare", "judged", "again", code=2)
    assert "judge's sampling parameters" in refused.err


def test_a_corrected_run_is_compared_and_blessed(folder: Path, call: Callable[..., Done]) -> None:
    call(
        *["labels", "export", "judged", "--out", "sheets", "--format", "csv", "--task", "demo_fact"]
    )
    fill(folder / "sheets" / "labels.csv", folder / "ann.csv", lambda row: len(row["response"]) % 2)
    call("correct", "judged", "--labels", "ann.csv", "--task", "demo_fact")
    run = read_run(folder / "judged")
    assert {one.severity for one in run.problems} == {"note"}
    assert "rests on people's labels (eft-eval correct): not paired" in run.problems[0].text
    key = MetricKey("fact_errors_ppi", "exact")
    column = run.tasks["demo_fact"].columns[key]
    assert column.reported == newest_entry(folder / "judged")[str(key)]
    assert not column.is_mean
    call("compare", "out", "judged")
    bless(folder / "judged", folder / "baseline.json")
    found = compare_runs(read_run(folder / "baseline.json"), [run])
    assert found.outcome == "pass"
    (row,) = [row for row in found.candidates[0].rows if row.metric == key.metric]
    assert row.decision is None
    assert row.candidate is not None
    assert (row.candidate.reported, row.candidate.mean) == (column.reported, None)
    # no documents stand behind it: gating it is refused, and is no pass
    with pytest.raises(ConfigError, match="cannot be paired"):
        compare_runs(run, [run], GateSettings(gated=("demo_fact/fact_errors_ppi",)))
