"""Normalised improvement: how far a model goes from one tuned model (0) to the other (1).

Pure functions on numbers of the same documents.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from eft_eval.statistics.interval import Interval
from eft_eval.statistics.means import mean_of, t_quantile
from eft_eval.statistics.paired import Codes, Values

__all__ = ["improvement_if_apart", "mean_improvement", "normalised_improvement"]

METHOD = "Fieller"


def improvement_if_apart(
    three: Values, lower_is_better: bool, clusters: Codes | None = None, level: float = 0.95
) -> Interval | None:
    """Return the normalised improvement; None where the large tuned model is not clearly better.

    Args:
        three: Numbers of the small tuned model, the model in between and the large tuned model,
            a column per document, shape [3, documents]; see `normalised_improvement`.
        lower_is_better: Whether low numbers are good ones.
        clusters: What each document belongs to; None where all are independent.
        level: Confidence level, also that at which the tuned models must differ.
    """
    small, arm, large = three
    found = normalised_improvement(small, arm, large, clusters, level)
    if math.isnan(found.lower):
        return None
    gap = float((large - small).mean())
    return found if (gap < 0) == lower_is_better else None


def normalised_improvement(
    small: Values,
    arm: Values,
    large: Values,
    clusters: Codes | None = None,
    level: float = 0.95,
) -> Interval:
    """Return (mean(arm) - mean(small)) / (mean(large) - mean(small)) with Fieller's interval.

    The quantity is that of the paper's Figure 3. The interval holds every ratio θ that a paired t
    test of ``mean((arm - small) - θ (large - small)) = 0`` does not reject (Fieller 1954), with
    clustered sums and C - 1 degrees of freedom where clusters are given. It needs no resampling,
    and is bounded exactly where the two tuned models differ at this level.

    Args:
        small: The small tuned model's numbers, one per document, without holes.
        arm: The same documents' numbers of the model in between.
        large: Those of the large tuned model.
        clusters: What each document belongs to; None where all are independent.
        level: Confidence level.

    Returns:
        The ratio; 0 is the small tuned model and 1 the large one, and it may lie outside. The
        ends are NaN where the tuned models do not differ at this level: then there is nothing to
        carry over, and the estimate should not be read either; and where the data give their
        difference no interval, as one document does, or the same difference in all. All NaN if
        their means are equal.
    """
    moved, gap = arm - small, large - small
    units = len(gap) if clusters is None else len(np.unique(clusters))
    top, bottom = (float(one.mean()) if units else math.nan for one in (moved, gap))
    if math.isnan(mean_of(gap, clusters, level).interval.lower) or bottom == 0:
        estimate = top / bottom if units and bottom != 0 else math.nan
        return Interval(estimate, math.nan, math.nan, level, METHOD)
    residuals = np.stack([moved - top, gap - bottom])  # [2, documents]
    if clusters is not None:
        residuals = np.stack([np.bincount(clusters, weights=row) for row in residuals])
    covariance = units / (units - 1) * (residuals @ residuals.T) / len(gap) ** 2
    t2 = t_quantile(level, units - 1) ** 2
    # a θ² - 2 b θ + c <= 0
    a = bottom * bottom - t2 * float(covariance[1, 1])
    b = top * bottom - t2 * float(covariance[0, 1])
    c = top * top - t2 * float(covariance[0, 0])
    estimate = top / bottom
    if a <= 0:
        return Interval(estimate, math.nan, math.nan, level, METHOD)
    half = math.sqrt(max(0.0, b * b - a * c))  # below 0 by rounding only
    return Interval(estimate, (b - half) / a, (b + half) / a, level, METHOD)


def mean_improvement(
    families: Sequence[Values], clusters: Codes | None = None, level: float = 0.95
) -> Interval:
    """Return the mean over families of their normalised improvements, with an interval.

    The families are those given, no sample of others: the interval is over documents, which all
    families share. It is the t interval of the mean of the ratios' influence values (the delta
    method), clustered where clusters are given.

    Args:
        families: Per family the numbers of the small tuned model, the model in between and the
            large tuned model, a column per document, shape [3, documents].
        clusters: What each document belongs to; None where all are independent.
        level: Confidence level.
    """
    estimates, influences = [], []
    for small, arm, large in families:
        moved, gap = arm - small, large - small
        ratio = float(moved.mean() / gap.mean())
        estimates.append(ratio)
        influences.append((moved - ratio * gap) / gap.mean())
    estimate = float(np.mean(estimates))
    found = mean_of(estimate + np.mean(influences, axis=0), clusters, level).interval
    return Interval(estimate, found.lower, found.upper, level, "delta method")
