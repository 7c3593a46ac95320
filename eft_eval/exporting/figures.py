"""Scores with their standard errors and intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from eft_eval.agreement.rates import (
    mean_with_interval,
    normal_quantile,
    spread,
    wilson_interval,
    within_unit,
)
from eft_eval.comparing.paired import is_binary
from eft_eval.comparing.records import Column, Item
from eft_eval.exporting.claims import Figure, LabelsClaim
from eft_eval.exporting.ranges import UNIT, range_of
from eft_eval.interval import Interval

__all__ = ["corrected_figure", "figure_of", "labels_of"]


def figure_of(column: Column, items: Sequence[Item], documents: int | None, level: float) -> Figure:
    """Return a metric's score; its value must be a number.

    The interval is Wilson's for a rate, t for another mean, clustered t where prompts repeat, and
    normal with the run's own standard error for what is no mean of one number per document. It
    never leaves the metric's range where that is [0, 1].

    Args:
        column: The metric.
        items: The filter's documents, in the order of the values.
        documents: Number of documents evaluated.
        level: Confidence level.
    """
    assert column.reported is not None
    if not (column.is_mean and column.values):
        return _as_reported(column, documents, level)
    kept = [
        (v, item.cluster) for v, item in zip(column.values, items, strict=True) if v is not None
    ]
    values = np.array([value for value, _ in kept], dtype=np.float64)
    words = [word for _, word in kept]
    clustered = len(set(words)) < len(words)
    mean = mean_with_interval(values, words if clustered else None, level)
    interval = mean.interval
    rate = range_of(column.key.metric) in (None, UNIT) and is_binary(values)
    if not clustered and rate:
        interval = wilson_interval(int(values.sum()), len(values), level)
    error = None if math.isnan(mean.standard_error) else mean.standard_error
    method = "clustered by prompt" if clustered else "analytic"
    return Figure(
        value=column.reported,
        standard_error=error,
        error_method=None if error is None else method,
        interval=_known(column, interval),
        n=len(values),
        missing=len(column.values) - len(values),
        clusters=mean.clusters,
    )


def corrected_figure(column: Column, found: Mapping[str, Any]) -> Figure:
    """Return a corrected score with the interval that `eft-eval correct` gave it.

    Args:
        column: The metric, ``…_ppi``.
        found: Its entry under ``eft_corrected``.
    """
    assert column.reported is not None
    corrected = found["corrected"]
    given = corrected["prediction_powered"]
    ends = [math.nan if given[end] is None else float(given[end]) for end in ("lower", "upper")]
    interval = Interval(
        column.reported, ends[0], ends[1], float(given["level"]), str(given["method"])
    )
    error = corrected["standard_error"]
    n = corrected["labels"] + corrected["verdicts"]
    missing = corrected["dropped_labels"] + corrected["dropped_verdicts"]
    clusters = corrected["verdicts_only"]["clusters"]
    method = None if error is None else "prediction-powered"
    return Figure(column.reported, error, method, _known(column, interval), n, missing, clusters)


def labels_of(found: Mapping[str, Any], annotators: int) -> LabelsClaim:
    """Return what corrected a score."""
    corrected = found["corrected"]
    return LabelsClaim(
        labels=int(corrected["labels"]),
        verdicts=int(corrected["verdicts"]),
        annotators=annotators,
        verdicts_only=corrected["verdicts_only"]["interval"]["estimate"],
        power=float(corrected["power"]),
    )


def _as_reported(column: Column, documents: int | None, level: float) -> Figure:
    value, error = column.reported, column.reported_error
    assert value is not None
    interval = None
    if error is not None and error > 0:
        half = normal_quantile(level) * error
        interval = spread(value, half, level, "normal, with lm-eval's standard error")
    return Figure(
        value=value,
        standard_error=error,
        error_method=None if error is None else "lm-eval",
        interval=None if interval is None else _known(column, interval),
        n=documents,
        missing=None,
        clusters=None,
    )


def _known(column: Column, interval: Interval) -> Interval | None:
    """Return the interval within the metric's range; None where the data give none."""
    if math.isnan(interval.lower):
        return None
    found = range_of(column.key.metric)
    if found == UNIT:
        return within_unit(interval)
    lowest = found[0] if found else -math.inf
    return interval._replace(lower=max(lowest, interval.lower))
