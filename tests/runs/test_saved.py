"""A run in several results files: every reader sees the same tasks, and opens each file once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from file_opens import counted_opens
from judged_runs import DATE as NEW
from judged_runs import OLDER as OLD
from judged_runs import write_two_files

from eft_eval.agreement import agree_files
from eft_eval.comparing import read_run
from eft_eval.errors import ConfigError
from eft_eval.labels import measures_in, read_items
from eft_eval.runs.saved import open_run

SOURCES: Sequence[Callable[[Path], Any]] = (
    lambda folder: folder,
    lambda folder: str(folder.parent),
    lambda folder: folder / "results_*.json",
)


@pytest.mark.parametrize("source", SOURCES)
def test_every_reader_sees_the_tasks_of_all_files(
    tmp_path: Path, source: Callable[[Path], Any]
) -> None:
    given = source(write_two_files(tmp_path / "model"))
    assert list(read_run(given).tasks) == ["eli5_fact", "hh_fact"]
    items = read_items(given)
    assert [item.stratum for item in items] == ["eli5_fact"] * 2 + ["hh_fact"] * 3
    assert [item.verdict_value for item in items] == [0, 2, 3, 0, 1]
    assert [item.stratum for item in read_items(given, tasks=["hh_fact"])] == ["hh_fact"] * 3
    assert measures_in(given) == ["factuality"]


def test_a_results_file_is_a_run_of_its_own(tmp_path: Path) -> None:
    folder = write_two_files(tmp_path)
    old = folder / f"results_{OLD}.json"
    assert [item.stratum for item in read_items(old)] == ["hh_fact"] * 3
    assert list(read_run(old).tasks) == ["hh_fact"]
    with pytest.raises(ConfigError, match=r"has no task 'eli5_fact'.*: hh_fact"):
        read_items(old, tasks=["eli5_fact"])


def test_a_task_is_that_of_the_newest_file_that_has_it(tmp_path: Path) -> None:
    folder = write_two_files(tmp_path)
    file = folder / f"results_{OLD}.json"
    content = json.loads(file.read_text())
    content["configs"]["eli5_fact"] = content["configs"]["hh_fact"]
    content["results"]["eli5_fact"] = {"alias": "eli5_fact", "fact_errors,factuality": 9.0}
    file.write_text(json.dumps(content))
    run = open_run(folder)
    assert {name: task.file.date for name, task in run.tasks.items()} == {
        "eli5_fact": NEW,
        "hh_fact": OLD,
    }
    assert [item.verdict_value for item in read_items(run)] == [0, 2, 3, 0, 1]


def test_agreement_on_a_run_in_several_files_opens_each_once(tmp_path: Path) -> None:
    folder = write_two_files(tmp_path / "run")
    rows = [f"{item.item_id},jane,{number}" for number, item in enumerate(read_items(folder))]
    labels = tmp_path / "labels.csv"
    labels.write_text("\n".join(["item_id,annotator,error_count", *rows]) + "\n")
    with counted_opens(folder) as opens:
        found = agree_files([labels], folder)
    assert found.run == f"results_{NEW}.json"
    assert opens == {file.name: 1 for file in folder.iterdir()}
    assert len(opens) == 4


def test_two_files_of_one_date_with_one_task_are_refused(tmp_path: Path) -> None:
    folder = write_two_files(tmp_path / "model")
    shutil.copytree(folder, tmp_path / "again")
    for file in (*tmp_path.glob("*/results_*"),):
        content = json.loads(file.read_text())
        file.write_text(json.dumps({**content, "model_name": "one"}))
    with pytest.raises(ConfigError, match=r"'eli5_fact' is in two .*again.*model.*; give one"):
        open_run(tmp_path)
