"""The numbers of a study's arms: per metric over the documents that all have, mean over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from eft_eval.comparing.unscored import is_share
from eft_eval.judging.prompts.ranges import mean_of_metric, within_range
from eft_eval.reporting.scores import align, column_of
from eft_eval.runs.reading import read_run
from eft_eval.runs.records import Column, MetricKey, Pipeline, Run
from eft_eval.statistics.interval import Interval
from eft_eval.statistics.means import mean_of
from eft_eval.statistics.paired import Codes
from eft_eval.study.folder import StudyFolder

__all__ = [
    "ArmRuns",
    "Measured",
    "Metric",
    "measured",
    "measured_together",
    "metrics_of",
    "read_arms",
]

ArmRuns = Mapping[str, Sequence[Run]]
"""By arm its runs, one for each seed."""


class Metric(NamedTuple):
    """A metric whose better direction is known."""

    task: str
    key: MetricKey
    higher_is_better: bool

    @property
    def name(self) -> str:
        """``task/metric``, and the filter where it says something."""
        return f"{self.task}/{self.key}"


class Measured(NamedTuple):
    """A metric of all arms.

    Attributes:
        metric: Which.
        values: Per arm a number for each document: the mean over seeds.
        seeds: How many seeds there are.
        clusters: What each document belongs to; None where all are independent.
        dropped: Documents left out, as some run has no number there.
    """

    metric: Metric
    values: Mapping[str, NDArray[np.float64]]
    seeds: int
    clusters: Codes | None
    dropped: int

    @property
    def documents(self) -> int:
        return len(next(iter(self.values.values())))

    @property
    def units(self) -> int | None:
        """Number of clusters; None where documents are independent."""
        return None if self.clusters is None else len(np.unique(self.clusters))

    def mean(self, arm: str, level: float) -> Interval:
        """Return an arm's mean with its interval over documents: Wilson's for a rate, else t."""
        values = self.values[arm]
        name = self.metric.key.metric
        if self.seeds == 1:
            found = mean_of_metric(name, values, self.clusters, level).interval
        else:  # a document's mean over seeds is no outcome of a rate
            found = mean_of(values, self.clusters, level).interval
        return within_range(name, found) or found


def read_arms(folder: StudyFolder) -> dict[str, list[Run]]:
    """Return the runs of every arm that is whole with all seeds.

    Raises:
        ConfigError: A run's files are damaged.
    """
    found = {}
    for arm in folder.plan.arms:
        runs = [run for run in folder.plan.runs if run.arm == arm]
        if all(map(folder.is_done, runs)):
            found[arm.name] = [read_run(folder.place(run)) for run in runs]
    return found


def metrics_of(arms: ArmRuns) -> list[Metric]:
    """Return the metrics that every run has, whose direction is known, shares apart."""
    runs = [run for several in arms.values() for run in several]
    found = []
    for task in runs[0].tasks.values() if runs else ():
        for key, column in task.columns.items():
            if column.higher_is_better is None or is_share(key.metric):
                continue
            if all(column_of(run, task.name, key) for run in runs):
                found.append(Metric(task.name, key, column.higher_is_better))
    return found


def measured(arms: ArmRuns, metric: Metric) -> Measured:
    """Return a metric of all arms over the documents that every run has a number for."""
    aligned = align(_columns(arms, metric))
    seeds = len(next(iter(arms.values())))
    values = aligned.values.reshape(len(arms), seeds, -1).mean(axis=1)
    return Measured(
        metric, dict(zip(arms, values, strict=True)), seeds, aligned.clusters, aligned.dropped
    )


def measured_together(arms: ArmRuns, metrics: Sequence[Metric]) -> int:
    """Return how many documents have a number in all of several metrics, of all tasks."""
    columns = [column for metric in metrics for column in _columns(arms, metric)]
    return len(align(columns).values[0])


def _columns(arms: ArmRuns, metric: Metric) -> list[tuple[Column, Pipeline]]:
    return [
        found
        for runs in arms.values()
        for run in runs
        if (found := column_of(run, metric.task, metric.key)) is not None
    ]
