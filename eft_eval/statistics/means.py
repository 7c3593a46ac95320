"""Rates and means with their standard errors: binomial, Wilson, t, clustered, finite."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Literal, NamedTuple

import numpy as np

from eft_eval.errors import ConfigError
from eft_eval.statistics.interval import Interval
from eft_eval.statistics.ratings import (
    Clusters,
    Codes,
    Ratings,
    Values,
    read_clusters,
    read_ratings,
    select,
)

__all__ = [
    "FEW_CLUSTERS",
    "Mean",
    "Proportion",
    "clustered_standard_error",
    "finite_population_factor",
    "mean_with_interval",
    "proportion",
    "proportion_standard_error",
    "wilson_interval",
]

FEW_CLUSTERS = 10
"""Below this many clusters a clustered interval is warned about."""

NAN = math.nan


class Proportion(NamedTuple):
    """A share of items with its uncertainty.

    Attributes:
        successes: Number of items that count.
        n: Number of items.
        rate: ``successes / n``; NaN without items.
        standard_error: ``√(p(1-p)/(n-1))``, as lm-eval; NaN below two items.
        population_standard_error: ``√(p(1-p)/n)``.
        wilson: Wilson's score interval.
        warnings: What keeps a figure from being read as it stands.
    """

    successes: int
    n: int
    rate: float
    standard_error: float
    population_standard_error: float
    wilson: Interval
    warnings: tuple[str, ...]


class Mean(NamedTuple):
    """A mean with its uncertainty.

    Attributes:
        interval: The mean with its t interval, clustered where clusters were given; the ends are
            NaN where the data give none.
        standard_error: Its standard error; NaN below two items, or two clusters.
        n: Number of values.
        dropped: Number of missing values left out.
        clusters: Number of clusters; None where none were given.
        warnings: What keeps a figure from being read as it stands.
    """

    interval: Interval
    standard_error: float
    n: int
    dropped: int
    clusters: int | None
    warnings: tuple[str, ...]


def check_level(level: float) -> None:
    """Raise unless ``level`` can be a confidence level."""
    if not 0 < level < 1:
        raise ConfigError(
            f"level is {level}; a confidence level lies between 0 and 1, such as 0.95"
        )


def normal_quantile(level: float) -> float:
    """Return z such that a standard normal lies within ±z with probability ``level``."""
    check_level(level)
    return NormalDist().inv_cdf((1 + level) / 2)


def t_quantile(level: float, freedom: float) -> float:
    """Return t such that Student's t with ``freedom`` lies within ±t with probability ``level``."""
    from scipy.special import stdtrit

    check_level(level)
    return float(stdtrit(freedom, (1 + level) / 2))


def spread(estimate: float, half: float, level: float, method: str) -> Interval:
    """Return the interval ``estimate ± half``."""
    return Interval(estimate, estimate - half, estimate + half, level, method)


def unknown(level: float, method: str, estimate: float = NAN) -> Interval:
    """Return an interval whose ends the data do not give."""
    return Interval(estimate, NAN, NAN, level, method)


def proportion_standard_error(
    rate: float, n: int, formula: Literal["n-1", "population"] = "n-1"
) -> float:
    """Return the standard error of a proportion.

    Args:
        rate: The proportion, in [0, 1].
        n: Number of items.
        formula: "n-1" for ``√(p(1-p)/(n-1))``, lm-eval's and the unbiased estimate (Cochran 1977,
            section 3.2); "population" for ``√(p(1-p)/n)``. The paper's 7.8 % (section 4.5) is
            "n-1" of 0.77, already rounded, and 30.

    Returns:
        The standard error; NaN where ``n`` is too small for the formula.
    """
    if not 0 <= rate <= 1:
        raise ConfigError(f"rate is {rate}; a proportion lies in [0, 1]")
    if formula not in ("n-1", "population"):
        raise ConfigError(f"unknown formula {formula!r}; known: n-1, population")
    divisor = n - 1 if formula == "n-1" else n
    return math.sqrt(rate * (1 - rate) / divisor) if divisor > 0 else NAN


def wilson_interval(successes: float, n: float, level: float = 0.95) -> Interval:
    """Return Wilson's score interval of a proportion (Wilson 1927), without continuity correction.

    ``(p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n)``. The estimate is ``successes / n``.
    """
    z = normal_quantile(level)
    if not 0 <= successes <= n:
        raise ConfigError(f"{successes} of {n} is no proportion; expected 0 <= successes <= n")
    if n == 0:
        return unknown(level, "Wilson")
    rate, ratio = float(successes / n), z * z / n
    centre = (rate + ratio / 2) / (1 + ratio)
    half = math.sqrt(rate * (1 - rate) * ratio + ratio * ratio / 4) / (1 + ratio)
    lower = 0.0 if successes == 0 else centre - half  # exactly: rounding must not leave [0, 1]
    upper = 1.0 if successes == n else centre + half
    return Interval(rate, lower, upper, level, "Wilson")


def proportion(successes: int, n: int, level: float = 0.95) -> Proportion:
    """Return a proportion with both standard errors and Wilson's interval."""
    wilson = wilson_interval(successes, n, level)
    warnings: tuple[str, ...] = ()
    if n == 0:
        warnings = ("no items: nothing can be said",)
    elif n == 1:
        warnings = ("one item: the standard error with n-1 does not exist",)
    elif successes in (0, n):
        warnings = (
            f"{successes} of {n}: a standard error of 0 is no certainty, read the interval",
        )
    return Proportion(
        successes=int(successes),
        n=int(n),
        rate=wilson.estimate,
        standard_error=proportion_standard_error(wilson.estimate, n) if n else NAN,
        population_standard_error=(
            proportion_standard_error(wilson.estimate, n, "population") if n else NAN
        ),
        wilson=wilson,
        warnings=warnings,
    )


def clustered_standard_error(values: Ratings, clusters: Clusters) -> float:
    """Return the standard error of a mean whose items come in clusters; NaN below two clusters.

    ``SE² = C/(C-1) · Σ_c (Σ_{i∈c} (x_i - x̄))² / n²`` (Miller 2024, arXiv 2411.00640, with the
    small-sample factor). One item in each cluster gives ``sd/√n``.
    """
    numbers = read_ratings(values)
    codes = read_clusters(clusters, len(numbers))
    assert codes is not None
    kept = ~np.isnan(numbers)
    return standard_error(numbers[kept], codes[kept])


def standard_error(values: Values, codes: Codes | None) -> float:
    """Return the standard error of the mean of values without holes, clustered or not."""
    n = len(values)
    units = n if codes is None else len(np.unique(codes))
    if units < 2:
        return NAN
    sums = values - values.mean()
    if codes is not None:
        sums = np.bincount(codes, weights=sums)
    return math.sqrt(units / (units - 1) * float(sums @ sums)) / n


def mean_with_interval(
    values: Ratings, clusters: Clusters | None = None, level: float = 0.95
) -> Mean:
    """Return the mean with a t interval; clustered with C - 1 degrees of freedom (Miller 2024).

    Args:
        values: Numbers; missing ones are dropped and counted.
        clusters: What each value belongs to; None where all are independent.
        level: Confidence level.
    """
    numbers = read_ratings(values)
    kept = ~np.isnan(numbers)
    codes = select(read_clusters(clusters, len(numbers)), kept)
    return mean_of(numbers[kept], codes, level, dropped=int((~kept).sum()))


def mean_of(values: Values, codes: Codes | None, level: float, dropped: int = 0) -> Mean:
    """Return the mean of values without holes; see `mean_with_interval`."""
    check_level(level)
    n, method = len(values), "t" if codes is None else "clustered t"
    count = None if codes is None else len(np.unique(codes))
    units = n if count is None else count
    error = standard_error(values, codes)
    warnings = []
    if n == 0:
        return Mean(unknown(level, method), NAN, 0, dropped, count, ("no items: no mean",))
    estimate = float(values.mean())
    flat = error <= 1e-12 * float(np.abs(values).max())  # zero, up to rounding
    if units < 2:
        warnings.append(f"one {'item' if count is None else 'cluster'}: no standard error")
    elif np.ptp(values) == 0:
        warnings.append(f"all {n} values are {estimate:g}: they give no interval")
    elif flat:
        warnings.append("the clusters' sums do not differ: they give no interval")
    elif count is not None and count < FEW_CLUSTERS:
        warnings.append(f"{count} clusters: an interval from fewer than {FEW_CLUSTERS} is rough")
    interval = unknown(level, method, estimate)
    if flat:
        error = 0.0
    elif error > 0:
        interval = spread(estimate, t_quantile(level, units - 1) * error, level, method)
    return Mean(interval, error, n, dropped, count, tuple(warnings))


def share_of(mean: Mean) -> Mean:
    """Return the mean of a share, its interval held within [0, 1]."""
    return mean._replace(interval=within_unit(mean.interval))


def within_unit(found: Interval) -> Interval:
    """Return an interval with its ends held within [0, 1]; one that is not known stays so."""
    return within(found, 0.0, 1.0)


def within(found: Interval, lowest: float, highest: float) -> Interval:
    """Return an interval with its ends held within what its quantity can be; NaN stays NaN."""
    if math.isnan(found.lower):
        return found
    return found._replace(
        lower=min(highest, max(lowest, found.lower)), upper=max(lowest, min(highest, found.upper))
    )


def finite_population_factor(n: int, population: int) -> float:
    """Return the factor for a standard error when ``n`` of ``population`` things were drawn.

    ``√(1 - n/N)``, which belongs to the "n-1" formula: together they are the unbiased estimate
    for draws without replacement (Cochran 1977, section 3.2). The estimate then speaks of these
    ``population`` things and no others; it is certain when all of them were drawn.
    """
    if not 0 <= n <= population or population == 0:
        raise ConfigError(f"{n} drawn of {population}; expected 0 <= n <= population")
    return math.sqrt(1 - n / population)
