"""Scores with their standard errors and intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence

from eft_eval.exporting.claims import Figure, LabelsClaim
from eft_eval.judging.prompts.ranges import within_range
from eft_eval.reporting.scores import mean_of_column
from eft_eval.runs.records import Column, ItemSeen
from eft_eval.statistics.correction import Corrected
from eft_eval.statistics.means import normal_quantile, spread
from eft_eval.statistics.rounding import rounded, rounded_ends

__all__ = ["corrected_figure", "figure_of", "labels_of"]


def figure_of(
    column: Column, items: Sequence[ItemSeen], documents: int | None, level: float
) -> Figure:
    """Return a metric's score; its value must be a number.

    The interval is Wilson's for a rate, t for another mean, clustered t where prompts repeat, and
    normal with the run's own standard error for what is no mean of one number per document. It
    never leaves the metric's range where that is [0, 1]. What is computed here has 12 significant
    digits; what lm-eval reported is as it stands in the results.

    Args:
        column: The metric.
        items: The filter's documents, in the order of the values.
        documents: Number of documents evaluated.
        level: Confidence level.
    """
    assert column.reported is not None
    if not (column.is_mean and column.values):
        return _as_reported(column, documents, level)
    mean = mean_of_column(column, items, level)
    error = None if math.isnan(mean.standard_error) else mean.standard_error
    method = "analytic" if mean.clusters is None else "clustered by prompt"
    return Figure(
        value=column.reported,
        standard_error=rounded(error),
        error_method=None if error is None else method,
        interval=rounded_ends(within_range(column.key.metric, mean.interval)),
        n=mean.n,
        missing=mean.dropped,
        clusters=mean.clusters,
    )


def corrected_figure(column: Column, found: Corrected) -> Figure:
    """Return a corrected score with the interval that `eft-eval correct` gave it.

    Args:
        column: The metric, ``…_ppi``.
        found: What corrected it.
    """
    assert column.reported is not None
    interval = found.prediction_powered._replace(estimate=column.reported)
    error = None if math.isnan(found.standard_error) else found.standard_error
    return Figure(
        value=column.reported,
        standard_error=rounded(error),
        error_method=None if error is None else "prediction-powered",
        interval=rounded_ends(within_range(column.key.metric, interval)),
        n=found.labels + found.verdicts,
        missing=found.dropped_labels + found.dropped_verdicts,
        clusters=found.verdicts_only.clusters,
    )


def labels_of(found: Corrected, annotators: int) -> LabelsClaim:
    """Return what corrected a score."""
    uncorrected = found.verdicts_only.interval.estimate
    return LabelsClaim(
        labels=found.labels,
        verdicts=found.verdicts,
        annotators=annotators,
        verdicts_only=None if math.isnan(uncorrected) else rounded(uncorrected),
        power=rounded(found.power),
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
        interval=(
            None if interval is None else rounded_ends(within_range(column.key.metric, interval))
        ),
        n=documents,
        missing=None,
        clusters=None,
    )
