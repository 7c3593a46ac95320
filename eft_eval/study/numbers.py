"""The numbers of a study's arms: per metric over the documents that all have, mean over seeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from eft_eval.comparing.unscored import is_share
from eft_eval.errors import ConfigError
from eft_eval.judging.prompts.ranges import mean_of_metric, within_range
from eft_eval.reporting.scores import align, column_of
from eft_eval.runs.reading import read_run
from eft_eval.runs.records import Column, MetricKey, Pipeline, Run
from eft_eval.statistics.interval import Interval
from eft_eval.statistics.means import mean_of
from eft_eval.statistics.paired import Codes
from eft_eval.study.folder import StudyFolder

__all__ = [
    "Aggregate",
    "ArmRuns",
    "Measured",
    "Metric",
    "aggregates_of",
    "measured",
    "measured_together",
    "metrics_of",
    "read_arms",
]

ArmRuns = Mapping[str, Sequence[Run]]
"""By arm its runs, one for each seed."""


class Metric(NamedTuple):
    """A metric that is a mean of documents; its better direction is None where nobody says it."""

    task: str
    key: MetricKey
    higher_is_better: bool | None

    @property
    def name(self) -> str:
        """``task/metric``, and the filter where it says something."""
        return f"{self.task}/{self.key}"


class Aggregate(NamedTuple):
    """A metric as lm-eval reports it, where nothing can be said over the documents of all runs.

    Attributes:
        metric: Its name.
        higher_is_better: Its direction; None where nobody says it.
        values: Per arm the mean over seeds; None where a run has no number.
        reason: Why there is no interval.
    """

    metric: str
    higher_is_better: bool | None
    values: Mapping[str, float | None]
    reason: str


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
        ConfigError: A run's files are damaged, or samples are lost.
    """
    found = {}
    for arm in folder.plan.arms:
        runs = [run for run in folder.plan.runs if run.arm == arm]
        if all(map(folder.is_done, runs)):
            found[arm.name] = [_read(folder.place(run)) for run in runs]
    return found


def _read(place: Path) -> Run:
    run = read_run(place)
    if errors := [one.text for one in run.problems if one.severity == "error"]:
        raise ConfigError(
            f"{place}: {'; '.join(errors)}; take the folder away, and the same command makes the "
            "run anew"
        )
    return run


def metrics_of(arms: ArmRuns) -> list[Metric]:
    """Return the metrics that every run has as a mean of documents, shares apart."""
    runs = _runs(arms)
    found = []
    for task in runs[0].tasks.values() if runs else ():
        for key, column in task.columns.items():
            if is_share(key.metric):
                continue
            if all(column_of(run, task.name, key) for run in runs):
                found.append(Metric(task.name, key, column.higher_is_better))
    return found


def aggregates_of(arms: ArmRuns, found: Sequence[Measured]) -> tuple[Aggregate, ...]:
    """Return the metrics of tasks and groups that are not measured over documents.

    Args:
        arms: The runs.
        found: The metrics that are; of no document is not measured.
    """
    measured_at = {(one.metric.task, one.metric.key): one.documents for one in found}
    better: dict[tuple[str, MetricKey], bool | None] = {}
    groups: set[str] = set()
    for run in _runs(arms):
        groups |= run.groups.keys()
        for name, columns in _columns_of(run):
            for key, column in columns.items():
                if not measured_at.get((name, key)) and not is_share(key.metric):
                    better.setdefault((name, key), column.higher_is_better)
    return tuple(
        Aggregate(
            metric=f"{task}/{key}",
            higher_is_better=direction,
            values={arm: _reported(runs, task, key) for arm, runs in arms.items()},
            reason="no document has a number in every run" if (task, key) in measured_at
            else "of a group" if task in groups
            else "no mean of documents",
        )
        for (task, key), direction in better.items()
    )  # fmt: skip


def _reported(runs: Sequence[Run], task: str, key: MetricKey) -> float | None:
    """Return the mean over runs of what lm-eval reports; None where one has no number."""
    numbers = []
    for run in runs:
        column = dict(_columns_of(run)).get(task, {}).get(key)
        numbers.append(column.reported if column else None)
    known = [number for number in numbers if number is not None]
    return float(np.mean(known)) if len(known) == len(numbers) else None


def _columns_of(run: Run) -> Iterator[tuple[str, Mapping[MetricKey, Column]]]:
    yield from ((name, task.columns) for name, task in run.tasks.items())
    yield from ((name, group.columns) for name, group in run.groups.items())


def _runs(arms: ArmRuns) -> list[Run]:
    return [run for several in arms.values() for run in several]


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
