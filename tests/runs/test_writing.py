"""New files beside the old: each takes the place of what it revises, and of nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from file_opens import counted_opens
from judged_runs import DATE, OLDER, hashes, write_labels, write_two_files
from typer.testing import CliRunner

from eft_eval.agreement.correct import correct_run
from eft_eval.cli.app import app
from eft_eval.comparing import read_run
from eft_eval.exporting import ClaimSettings, claims_of
from eft_eval.labels import read_items
from eft_eval.reporting.report import make_report
from eft_eval.runs.records import MetricKey
from eft_eval.runs.saved import open_run
from eft_eval.runs.writing import NewMetric, Revision

KEY = MetricKey("fact_errors", "factuality")
OLD_FILE, NEW_FILE = f"results_{OLDER}.json", f"results_{DATE}.json"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_two_files(tmp_path / "run")


@pytest.fixture
def judge(tmp_path: Path) -> Any:
    """The command `judge` with a judge that says 5 of hh's responses, and 7 of the others."""
    script = tmp_path / "judge.yaml"
    script.write_text("- {match: 'Of hh', reply: 'Score: 5'}\n- {match: '.', reply: 'Score: 7'}\n")

    def ask(source: Path | str, *options: str) -> Any:
        words = ["judge", str(source), "--judge", f"scripted:{script}", *options]
        return CliRunner().invoke(app, words)

    return ask


def errors_of(folder: Path) -> dict[str, float | None]:
    """What `compare` reads: the mean number of errors by task."""
    tasks = read_run(folder).tasks
    return {name: task.columns[KEY].reported for name, task in tasks.items()}


def files_of(folder: Path) -> dict[str, str]:
    return {name: task.results_file.name for name, task in read_run(folder).tasks.items()}


def test_judging_a_run_of_two_files_revises_both(folder: Path, judge: Any) -> None:
    before = hashes(folder)
    assert judge(folder).exit_code == 0
    assert errors_of(folder) == {"eli5_fact": 7.0, "hh_fact": 5.0}
    after = hashes(folder)
    assert {name: after[name] for name in before} == before
    assert len(after) == len(before) + 4
    files = files_of(folder)
    assert files["hh_fact"] == "results_2026-11-20T10-00-00.000001.json", "it stays the older one"
    assert files["eli5_fact"] > NEW_FILE
    by_task = {
        name: json.loads((folder / file).read_text())["eft_judged_from"]
        for name, file in files.items()
    }
    assert by_task == {"eli5_fact": NEW_FILE, "hh_fact": OLD_FILE}
    assert read_run(folder).problems == tuple(
        one for one in read_run(folder).problems if one.severity == "note"
    )
    assert [item.verdict_value for item in read_items(folder)] == [7, 7, 5, 5, 5]


def test_a_task_that_only_the_older_file_has_can_be_judged(folder: Path, judge: Any) -> None:
    assert judge(folder, "--task", "hh_fact").exit_code == 0
    assert errors_of(folder) == {"eli5_fact": 1.0, "hh_fact": 5.0}
    assert files_of(folder)["eli5_fact"] == NEW_FILE
    wrong = judge(folder, "--task", "hh_facts").exception
    assert "has no task 'hh_facts' (did you mean 'hh_fact'?)" in str(wrong)


@pytest.mark.parametrize("source", [OLD_FILE, "results_2026-11-20*.json"])
def test_a_file_or_a_pattern_can_be_judged(folder: Path, judge: Any, source: str) -> None:
    assert judge(folder / source).exit_code == 0
    assert errors_of(folder) == {"eli5_fact": 1.0, "hh_fact": 5.0}


def test_an_older_file_s_revision_does_not_stand_in_for_a_newer_file(
    folder: Path, judge: Any
) -> None:
    """The newer file evaluated the task again: judging the older one changes nothing for it."""
    for kind, new, old in (
        ("results_", f"{DATE}.json", f"{OLDER}.json"),
        ("samples_", f"{DATE}.jsonl", f"{OLDER}.jsonl"),
    ):
        for file in folder.glob(f"{kind}*{old}"):
            text = file.read_text().replace("hh_fact", "eli5_fact")
            (folder / file.name.replace("hh_fact", "eli5_fact")).write_text(text)
            if "hh_fact" in file.name:
                file.unlink()
        assert [*folder.glob(f"{kind}*{new}")]
    assert judge(folder / OLD_FILE).exit_code == 0
    assert judge(folder / OLD_FILE).exit_code == 0, "and its name is free"
    assert files_of(folder) == {"eli5_fact": NEW_FILE}
    assert errors_of(folder) == {"eli5_fact": 1.0}
    revised = sorted(file.name for file in folder.glob("results_2026-11-20*"))
    assert revised == [OLD_FILE, *(f"results_2026-11-20T10-00-00.00000{n}.json" for n in (1, 2))]


def test_judging_opens_each_file_once(folder: Path, judge: Any) -> None:
    before = {file.name: 1 for file in folder.iterdir()}
    with counted_opens(folder) as opens:
        assert judge(folder).exit_code == 0
    assert opens == before
    judged = {file.name for file in folder.iterdir()} - before.keys()
    with counted_opens(folder) as opens:
        assert judge(folder).exit_code == 0
    texts = {name for name in before if name.startswith("samples_")}
    every = {*judged, *before}
    assert opens == dict.fromkeys(every, 1), "verdicts of the new, texts of the old files"
    assert texts < every
    with counted_opens(folder) as opens:
        assert judge(folder, "--dry-run").exit_code == 0
    assert set(opens.values()) == {1}


def test_reading_a_run_to_judge_it_changes_nothing_of_it(folder: Path) -> None:
    from eft_eval.judging.responses import Selection, assign

    run = open_run(folder)
    read = json.dumps([file.content for file in run.files])
    given = assign(run, Selection(prompts=("helpfulness",), query="doc.prompt_id"))
    assert [one.step.get("query") for one in given] == ["doc.prompt_id"] * 2
    assert json.dumps([file.content for file in run.files]) == read


def test_a_run_of_two_files_is_corrected_for_every_reader(folder: Path, tmp_path: Path) -> None:
    items = read_items(folder)
    labels = write_labels(tmp_path / "l.csv", items, {"jane": [0, 1, 2, 0, 1]})
    found = correct_run(folder, [labels])
    assert {one.task for one in found.metrics} == {"eli5_fact", "hh_fact"}
    assert (found.corrected_from, len(found.others)) == (NEW_FILE, 1)
    run = read_run(folder)
    wanted = {
        (one.task, one.metric): one.corrected.prediction_powered.estimate for one in found.metrics
    }
    assert {
        (task.name, key.metric.removesuffix("_ppi")): column.reported
        for task in run.tasks.values()
        for key, column in task.columns.items()
        if key.metric.endswith("_ppi")
    } == wanted
    (reported,) = make_report([run]).runs
    assert {(one.task, one.metric) for one in reported.corrected} == wanted.keys()
    claims = claims_of(run, ClaimSettings(metrics=("*/*_ppi",)))
    assert {task.name: bool(task.claims) for task in claims.tasks} == {
        "eli5_fact": True,
        "hh_fact": True,
    }
    assert all(claim.labels is not None for task in claims.tasks for claim in task.claims)


def test_new_metrics_take_the_place_of_the_old_and_of_what_rests_on_them(folder: Path) -> None:
    file = folder / NEW_FILE
    content = json.loads(file.read_text())
    content["results"]["eli5_fact"] |= {"acc,none": 0.5, "fact_errors_ppi,factuality": 0.1}
    content["configs"]["eli5_fact"]["metric_list"] = [
        {"metric": "fact_errors"},
        {"metric": "acc"},
        {"metric": "fact_errors_ppi", "aggregation": "prediction_powered"},
    ]
    content["higher_is_better"] = {"eli5_fact": {"acc": True, "fact_errors_ppi": False}}
    content["eft_corrected"] = {"metrics": []}
    content["results"]["both"] = {"fact_errors,factuality": 4.0, "acc,none": 0.5}
    content["group_subtasks"] = {"both": ["eli5_fact"], "eli5_fact": []}
    file.write_text(json.dumps(content))
    run = open_run(folder)
    revision = Revision(run.files[0], run.files)
    new = NewMetric(MetricKey("wit", "factuality"), 0.25, None, True, "mean")
    revision.replace("eli5_fact", lambda key: key.filter == "factuality", [new])
    revision.write()
    written = json.loads(revision.file.read_text())
    assert written["results"]["eli5_fact"] == {
        "alias": "eli5_fact",
        "acc,none": 0.5,
        "wit,factuality": 0.25,
        "wit_stderr,factuality": "N/A",
    }
    assert written["configs"]["eli5_fact"]["metric_list"] == [
        {"metric": "acc"},
        {"metric": "wit", "aggregation": "mean", "higher_is_better": True},
    ]
    assert written["higher_is_better"] == {"eli5_fact": {"acc": True, "wit": True}}
    assert "eft_corrected" not in written
    assert written["results"]["both"] == {"acc,none": 0.5}
    assert json.loads(file.read_text()) == content
