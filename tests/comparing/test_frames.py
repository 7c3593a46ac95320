"""Runs and comparisons as pandas frames, and what a notebook shows of them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from written_runs import write_run

from eft_eval.comparing import Comparison, Run, compare_runs, read_run

pd = pytest.importorskip("pandas")

BEFORE = {"qa": {"acc": [1.0, 0.0, 1.0, 1.0, 0.0, 1.0]}, "sums": {"exact": [1.0, 1.0, None, 0.0]}}
AFTER = {"qa": {"acc": [1.0, 0.0, 0.0, 1.0, 0.0, 0.0]}, "sums": {"exact": [1.0, 0.0, 1.0, 0.0]}}


def runs(folder: Path) -> tuple[Run, Run]:
    return (
        read_run(write_run(folder / "before", BEFORE)),
        read_run(write_run(folder / "after", AFTER)),
    )


def compared(folder: Path) -> Comparison:
    before, after = runs(folder)
    return compare_runs(before, [after])


def test_a_run_as_a_frame(tmp_path: Path) -> None:
    run, _ = runs(tmp_path)
    frame = run.to_frame().set_index(["task", "metric"])
    assert [*frame.columns] == ["filter", "value", "stderr", "higher_is_better", "documents"]
    assert frame.loc[("qa", "acc"), "value"] == pytest.approx(4 / 6)
    assert frame.loc[("sums", "exact"), "documents"] == 4


def test_documents_as_a_frame(tmp_path: Path) -> None:
    run, _ = runs(tmp_path)
    frame = run.to_frame(documents=True)
    assert len(frame) == 10
    assert frame["value"].isna().sum() == 1  # the one without a number
    assert frame.groupby("task")["value"].mean().to_dict() == pytest.approx(
        {"qa": 4 / 6, "sums": 2 / 3}
    )
    assert frame["doc_hash"].nunique() == 10
    assert [*frame[frame["task"] == "sums"]["doc_id"]] == [0, 1, 2, 3]


def test_a_comparison_as_a_frame(tmp_path: Path) -> None:
    comparison = compared(tmp_path)
    frame = comparison.to_frame().set_index("task")
    rows = {row.task: row for row in comparison.candidates[0].rows}
    assert {*frame.index} == {*rows}
    qa = frame.loc["qa"]
    assert qa["difference"] == pytest.approx(-2 / 6)
    assert (qa["baseline"], qa["mean"]) == pytest.approx((4 / 6, 2 / 6))
    difference = rows["qa"].difference
    assert difference is not None
    assert (qa["lower"], qa["upper"]) == (difference.lower, difference.upper)
    assert qa["documents"] == 6
    assert frame.loc["sums", "documents"] == 3  # one has no number in the baseline


def test_joined_documents_give_the_difference(tmp_path: Path) -> None:
    before, after = (run.to_frame(documents=True) for run in runs(tmp_path))
    joined = before.merge(after, on=["task", "metric", "filter", "doc_hash"], validate="1:1")
    gain = (joined["value_y"] - joined["value_x"]).groupby(joined["task"]).mean()
    frame = compared(tmp_path).to_frame().set_index("task")["difference"]
    assert gain.to_dict() == pytest.approx(frame.to_dict())


def test_what_a_notebook_shows_is_short(tmp_path: Path) -> None:
    values = {"qa": {"acc": [float(value) for value in np.arange(500) % 2]}}
    run = read_run(write_run(tmp_path / "many", values))
    task = run.tasks["qa"]
    comparison = compare_runs(run, [run])
    for shown in (run, task, *task.columns.values(), *task.pipelines.values(), comparison):
        assert len(repr(shown)) < 400, shown
    assert "acc,none" in repr(task)
    assert "'qa'" in repr(run)
    assert "pass" in repr(comparison)


def test_an_empty_run_has_the_columns(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "none", {"qa": {"acc": [math.nan, math.nan]}}))
    assert [*run.to_frame(documents=True).columns][-1] == "value"
