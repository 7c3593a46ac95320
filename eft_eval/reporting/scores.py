"""One run's metrics with intervals, and several runs' numbers over the same documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eft_eval.comparing.pairing import keys_of
from eft_eval.judging.prompts.ranges import mean_of_metric, within_range
from eft_eval.runs.records import Column, ItemSeen, MetricKey, Pipeline, Run, TaskRun
from eft_eval.statistics.interval import Interval
from eft_eval.statistics.means import Mean
from eft_eval.statistics.paired import Codes

__all__ = ["Aligned", "Score", "align", "codes_of", "column_of", "mean_of_column", "scores_of"]


class Score(NamedTuple):
    """One metric of one task of one run.

    Attributes:
        task: Name of the task, or of the group.
        metric: Name of the metric.
        filter: Name of the filter.
        better: "higher", "lower", or None where that is not known.
        value: The aggregate as reported; None where it is no number.
        standard_error: As reported; None where there is none.
        interval: Of the mean over the documents: Wilson's for a rate, t or clustered t else; None
            without samples, and where the aggregate is not their mean.
        documents: Documents with a number; 0 without samples.
        missing: Documents without one.
        clusters: Number of clusters; None where the documents are independent.
        verdicts: The judge's verdicts by status; None where there is no judge.
    """

    task: str
    metric: str
    filter: str
    better: Literal["higher", "lower"] | None
    value: float | None
    standard_error: float | None
    interval: Interval | None
    documents: int
    missing: int
    clusters: int | None
    verdicts: Mapping[str, int] | None

    @property
    def name(self) -> str:
        """``task/metric,filter``."""
        return f"{self.task}/{self.metric},{self.filter}"


class Aligned(NamedTuple):
    """Several runs' numbers over the documents that all of them have a number for.

    Attributes:
        values: A row for each run, a column for each document.
        clusters: What each document belongs to; None where all are independent.
        dropped: Documents left out, as a run lacks them, has no number there, or has other text.
    """

    values: NDArray[np.float64]
    clusters: Codes | None
    dropped: int


def scores_of(run: Run, level: float = 0.95) -> tuple[Score, ...]:
    """Return all metrics of a run, of its tasks and then of its groups."""
    found = [
        _score(task, key, column, level)
        for task in run.tasks.values()
        for key, column in task.columns.items()
    ]
    for group in run.groups.values():
        found += [
            Score(
                group.name, *key, _better(column), column.reported, column.reported_error,
                None, 0, 0, None, None,
            )
            for key, column in group.columns.items()
        ]  # fmt: skip
    return tuple(found)


def mean_of_column(column: Column, items: Sequence[ItemSeen], level: float) -> Mean:
    """Return the mean over the documents that have a number, at least one; see `mean_of_metric`.

    Args:
        column: The metric.
        items: The filter's documents, in the order of the values.
        level: Confidence level.
    """
    pairs = zip(column.values, items, strict=True)
    kept = [(value, item.cluster) for value, item in pairs if value is not None]
    values = np.array([value for value, _ in kept], dtype=np.float64)
    codes = codes_of([cluster for _, cluster in kept])
    dropped = len(column.values) - len(kept)
    return mean_of_metric(column.key.metric, values, codes, level, dropped)


def align(columns: Sequence[tuple[Column, Pipeline]]) -> Aligned:
    """Return several runs' columns of one metric over the documents they share.

    Args:
        columns: Per run the column and the filter that its values belong to.
    """
    by_key = [
        dict(zip(keys_of(pipeline.items), zip(column.values, pipeline.items, strict=True),
                 strict=True))
        for column, pipeline in columns
    ]  # fmt: skip
    rows, words, dropped = [], [], 0
    for key in sorted(set().union(*by_key)):
        values = [found[key][0] if key in found else None for found in by_key]
        texts = {found[key][1].text for found in by_key if key in found} - {""}
        if None in values or len(texts) > 1:  # other texts under one hash are other documents
            dropped += 1
            continue
        rows.append(values)
        words.append(by_key[0][key][1].cluster)
    table = np.array(rows, dtype=np.float64).reshape(len(rows), len(columns)).T
    return Aligned(table, codes_of(words), dropped)


def column_of(run: Run, task: str, key: MetricKey) -> tuple[Column, Pipeline] | None:
    """Return a metric that is the mean of its documents, with the filter; None for any other."""
    of_task = run.tasks.get(task)
    if of_task is None or key not in of_task.columns or key.filter not in of_task.pipelines:
        return None
    column = of_task.columns[key]
    return (column, of_task.pipelines[key.filter]) if column.is_mean else None


def codes_of(words: Sequence[str]) -> Codes | None:
    """Return cluster names as numbers; None where every document has its own."""
    known: dict[str, int] = {}
    codes = [known.setdefault(word, len(known)) for word in words]
    return None if len(known) == len(words) else np.array(codes, dtype=np.int64)


def _score(task: TaskRun, key: MetricKey, column: Column, level: float) -> Score:
    pipeline = task.pipelines.get(key.filter)
    mean = None
    if column.is_mean and pipeline is not None and any(v is not None for v in column.values):
        mean = mean_of_column(column, pipeline.items, level)
    return Score(
        task.name,
        *key,
        _better(column),
        column.reported,
        column.reported_error,
        within_range(key.metric, mean.interval) if mean else None,
        sum(value is not None for value in column.values),
        column.values.count(None),
        mean.clusters if mean else None,
        pipeline.verdicts if pipeline else None,
    )


def _better(column: Column) -> Literal["higher", "lower"] | None:
    if column.higher_is_better is None:
        return None
    return "higher" if column.higher_is_better else "lower"
