"""How many documents a paired comparison needs."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import NamedTuple

from eft_eval.errors import ConfigError

__all__ = ["ComparePlan", "detectable_effect", "items_to_decide", "plan_comparison"]

POWER = 0.8
_MOST = 10**12  # more documents than anybody has


class ComparePlan(NamedTuple):
    """Documents needed for a wished resolution.

    Attributes:
        certify: To show that no drop beyond the resolution happened, when nothing changed.
        detect: To find a true drop of the resolution, with Holm's correction at its strictest.
        resolution: In the metric's units.
        deviation: Standard deviation of the paired differences that was assumed.
        design_effect: Factor for clusters, ``1 + (size - 1) · ICC``.
        alpha: One-sided error probability.
        power: Probability of deciding.
        metrics: Number of gated metrics.
    """

    certify: int
    detect: int
    resolution: float
    deviation: float
    design_effect: float
    alpha: float
    power: float
    metrics: int


def plan_comparison(
    resolution: float,
    *,
    disagreement: float = 0.2,
    deviation: float | None = None,
    alpha: float = 0.05,
    power: float = POWER,
    metrics: int = 1,
    cluster_size: float = 1.0,
    correlation: float = 0.0,
) -> ComparePlan:
    """Return how many documents a comparison needs: ``n = (z_{1-α} + z_power)² σ²/ε²``.

    Args:
        resolution: ε, the smallest drop that matters, in the metric's units.
        disagreement: Share of documents on which two runs of a 0-or-1 metric differ; σ² of the
            differences where the means are equal.
        deviation: σ of the paired differences; in place of the disagreement for other metrics.
        alpha: One-sided error probability.
        power: Probability of deciding.
        metrics: Number of gated metrics.
        cluster_size: Mean number of documents that belong together.
        correlation: Of the differences within a cluster (ICC).

    Raises:
        ConfigError: A number is out of its range.
    """
    ranges = (
        ("resolution", resolution, resolution > 0 and math.isfinite(resolution), "above 0"),
        ("disagreement", disagreement, 0 < disagreement <= 1, "in (0, 1]"),
        ("deviation", deviation, deviation is None or 0 < deviation < math.inf, "above 0"),
        ("alpha", alpha, 0 < alpha < 0.5, "between 0 and 0.5"),
        ("power", power, 0.5 <= power < 1, "in [0.5, 1)"),
        ("metrics", metrics, metrics >= 1, "of 1 or more"),
        ("cluster_size", cluster_size, 1 <= cluster_size < math.inf, "of 1 or more"),
        ("correlation", correlation, 0 <= correlation <= 1, "in [0, 1]"),
    )
    for name, value, fits, expected in ranges:
        if not fits:
            raise ConfigError(f"{name} is {value}; expected a number {expected}")
    if deviation is None and resolution > disagreement:
        raise ConfigError(
            f"resolution is {resolution:g}: a metric of 0 and 1 drops by no more than the share of "
            f"documents that differ, disagreement {disagreement:g}; give a smaller resolution, a "
            "larger disagreement, or the deviation of another metric"
        )
    sigma = math.sqrt(disagreement) if deviation is None else deviation
    effect = 1 + (cluster_size - 1) * correlation
    error = sigma * math.sqrt(effect)  # of one document
    return ComparePlan(
        certify=_planned(error, resolution, alpha, power),
        detect=_planned(error, resolution, alpha / metrics, power),
        resolution=resolution,
        deviation=sigma,
        design_effect=effect,
        alpha=alpha,
        power=power,
        metrics=metrics,
    )


def items_to_decide(
    n: int, units: int, standard_error: float, margin: float, alpha: float, power: float = POWER
) -> int | None:
    """Return with how many documents in all an effect of ``margin`` would be found.

    Quantiles are those of t, as the gate's are, so that few units give no number that they
    already have.

    Args:
        n: Documents that gave the standard error.
        units: What its degrees of freedom count, plus 1: documents, prompts or clusters.
        standard_error: Of their mean; clustered errors carry the clusters' size along.
        margin: The distance to be found, above 0.
        alpha: One-sided error probability.
        power: Probability of finding it.

    Returns:
        The least such number above ``n``; None where nobody has so many.
    """
    from scipy.special import stdtrit

    def enough(documents: int) -> bool:
        freedom = max(1.0, units * documents / n - 1)
        quantiles = float(stdtrit(freedom, 1 - alpha) + stdtrit(freedom, power))
        return documents >= n * (quantiles * standard_error / margin) ** 2

    low, high = n, 2 * n
    while not enough(high):
        low, high = high, 2 * high
        if high > _MOST:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def detectable_effect(
    freedom: float, standard_error: float, alpha: float, power: float = POWER
) -> float:
    """Return the true drop that a one-sided t test finds with this power.

    Args:
        freedom: Degrees of freedom of the standard error, at least 1.
        standard_error: Of the mean difference, above 0.
        alpha: One-sided error probability.
        power: Probability of finding it.
    """
    from scipy.special import stdtrit

    quantiles = float(stdtrit(freedom, 1 - alpha) + stdtrit(freedom, power))
    return quantiles * standard_error


def _planned(deviation: float, margin: float, alpha: float, power: float) -> int:
    normal = NormalDist()
    quantiles = normal.inv_cdf(1 - alpha) + normal.inv_cdf(power)
    ratio = quantiles * deviation / margin
    if ratio > math.sqrt(_MOST):
        raise ConfigError(f"resolution is {margin:g}: more than {_MOST:,} documents; ask for less")
    return math.ceil(ratio**2 - 1e-9)
