"""Scores of runs and columns that are aligned by document."""

from __future__ import annotations

from pathlib import Path

import pytest
import scipy.optimize
import scipy.stats
from statsmodels.stats.proportion import proportion_confint
from written_runs import write_run

from eft_eval.comparing import read_run
from eft_eval.reporting.scores import align, scores_of


def test_scores_are_statsmodels_and_scipys(tmp_path: Path) -> None:
    rates, counts = [1.0, 0.0, 1.0, 1.0] * 15, [float(i % 4) for i in range(60)]
    run = read_run(write_run(tmp_path / "a", {"t": {"acc": rates, "n": counts}}))
    acc, number = scores_of(run, 0.9)
    assert acc.interval is not None
    assert number.interval is not None
    assert acc.interval[1:3] == pytest.approx(
        proportion_confint(45, 60, alpha=0.1, method="wilson")
    )
    expected = scipy.stats.ttest_1samp(counts, 0).confidence_interval(0.9)
    assert number.interval[1:3] == pytest.approx((expected.low, expected.high))
    assert (acc.documents, acc.missing, acc.clusters, acc.better) == (60, 0, None, "higher")


def test_missing_numbers_are_counted_and_clusters_known(tmp_path: Path) -> None:
    values = [None, *[1.0, 0.0] * 10, 1.0]
    prompts = [f"prompt {i // 2}" for i in range(22)]
    run = read_run(write_run(tmp_path / "a", {"t": {"acc": values}}, prompts=prompts))
    (score,) = scores_of(run)
    assert (score.documents, score.missing, score.clusters) == (21, 1, 11)
    assert score.interval is not None
    assert score.interval.method == "clustered t"


def test_align_keeps_the_documents_that_all_have(tmp_path: Path) -> None:
    texts = [f"d{i}" for i in range(6)]
    first = read_run(write_run(tmp_path / "a", {"t": {"m": [0, 1, 2, 3, 4, 5]}}, documents=texts))
    second = read_run(
        write_run(tmp_path / "b", {"t": {"m": [50, 40, None, 20, 10]}}, documents=texts[:0:-1])
    )
    columns = [
        (run.tasks["t"].columns[("m", "none")], run.tasks["t"].pipelines["none"])  # type: ignore[index]  # as a MetricKey
        for run in (first, second)
    ]
    found = align(columns)
    assert found.dropped == 2  # d0 is only in the first, d3 has no number in the second
    assert sorted(map(tuple, found.values.T)) == [(1, 10), (2, 20), (4, 40), (5, 50)]
    assert align(columns[::-1]).values.tolist() == found.values[::-1].tolist()
