"""Paired statistics: the difference with its interval, and the tests. Pure functions.

Each takes the differences candidate - baseline of the same items, and gives numbers; nothing here
knows of files or of what is better.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from eft_eval.statistics.interval import Interval
from eft_eval.statistics.means import clustered_standard_error, mean_with_interval
from eft_eval.statistics.tables import mcnemar

__all__ = [
    "Difference",
    "PairedTest",
    "holm",
    "is_binary",
    "paired_difference",
    "paired_test",
    "sign_flip_test",
]

Values = NDArray[np.float64]
Codes = NDArray[np.int64]
EXACT_UNITS = 20
_STRAIGHT = 1e-6  # a skewness that small moves nothing, and would be lost in rounding
_MOST_TILT = 0.5  # one to four rare units get the bounds of a Poisson count
_BYTES = np.arange(256, dtype=np.uint8)[:, np.newaxis]
_SIGNS = 2.0 * np.unpackbits(_BYTES, axis=1) - 1.0  # [256, 8]: each byte as eight signs


class Difference(NamedTuple):
    """The mean of paired differences.

    Attributes:
        interval: The mean with its t interval, clustered where clusters were given; the ends are
            NaN where the data give none.
        standard_error: ``sd/√n``, or the clustered one; NaN below two units, 0 without spread.
        freedom: Degrees of freedom: units - 1.
        n: Number of items.
        clusters: Number of clusters; None where the items are independent.
        warnings: What keeps it from being read as it stands.
        skewness: Of the units, ``m₃/m₂^1.5``; 0 without spread.
        furthest: The largest distance of a unit from the mean.
    """

    interval: Interval
    standard_error: float
    freedom: int
    n: int
    clusters: int | None
    warnings: tuple[str, ...]
    skewness: float
    furthest: float

    @property
    def careful_error(self) -> float:
        """The standard error, were two more units as far from the mean as the furthest, either way.

        As the two pseudo-pairs of Bonett and Price (2012) for rates: what is rare is not yet in a
        small sample's spread. Never below `standard_error`, and NaN or 0 as that is.
        """
        error, units = self.standard_error, self.freedom + 1
        if not error > 0:
            return error
        spread = math.hypot(error * math.sqrt(units * (units - 1)), math.sqrt(2) * self.furthest)
        return max(error, spread / math.sqrt(units * (units + 1)))

    def negated(self) -> Difference:
        """Return the difference the other way round."""
        found = self.interval
        turned = found._replace(estimate=-found.estimate, lower=-found.upper, upper=-found.lower)
        return self._replace(interval=turned, skewness=-self.skewness)

    def bound(self, level: float) -> Interval:
        """Return the one-sided bounds of this level, both: each alone holds with it.

        Student's t with `careful_error`, further out on the side to which the units are skewed
        (the first term of Cornish and Fisher's expansion, as Johnson 1978); never further in.
        """
        from scipy.special import stdtrit

        estimate, error = self.interval.estimate, self.careful_error
        if not error > 0:
            return Interval(estimate, math.nan, math.nan, level, self.interval.method)
        t = float(stdtrit(self.freedom, level))
        far = (2 * t**2 + 1) / 6
        lower = estimate - error * (t + far * max(-self._tilt, 0.0))
        upper = estimate + error * (t + far * max(self._tilt, 0.0))
        return Interval(estimate, lower, upper, level, self.interval.method)

    def p_below(self, limit: float = 0.0) -> float:
        """Return the one-sided p-value of "the mean is below a limit".

        It is at most α where the upper `bound` at 1 - α is at most the limit. Without spread there
        is no t; then it is that of the signs, ``2^-units`` where every unit is below the limit.
        """
        from scipy.special import stdtr

        estimate, error = self.interval.estimate - limit, self.careful_error
        if error > 0:
            return float(stdtr(self.freedom, self._untilted(estimate / error)))
        if math.isnan(estimate) or estimate == 0:
            return 0.5 if estimate == 0 else 1.0
        below = 0.5 ** (self.freedom + 1)
        return below if estimate < 0 else 1.0 - below

    @property
    def _tilt(self) -> float:
        """The skewness of the mean, so far as an expansion of one term can follow it."""
        tilt = self.skewness / math.sqrt(self.freedom + 1)
        return min(max(tilt, -_MOST_TILT), _MOST_TILT)

    def _untilted(self, t: float) -> float:
        """Return the quantile z of t's distribution whose bound lies at t: z - tilt·(2z² + 1)/6."""
        tilt = max(self._tilt, 0.0)
        if tilt < _STRAIGHT:
            return t
        turn = 3 / (2 * tilt)  # the bounds of larger z would come back
        room = turn**2 - 0.5 - 3 * t / tilt
        return max(t, turn - math.sqrt(max(room, 0.0)))


class PairedTest(NamedTuple):
    """A two-sided test of "no difference".

    Attributes:
        name: "McNemar mid-p", "sign flips, exact" or "sign flips, random".
        p_value: Two-sided.
        higher: Units where the candidate's number is higher: McNemar's discordant counts.
        lower: Units where it is lower.
        flips: Number of sign flips looked at; None where none were needed.
        seed: Of the random ones, else None.
    """

    name: str
    p_value: float
    higher: int
    lower: int
    flips: int | None
    seed: int | None


def paired_difference(
    differences: Values, clusters: Codes | None = None, level: float = 0.95
) -> Difference:
    """Return the mean of paired differences with its t interval.

    ``SE = sd(d)/√n``; clustered ``SE² = C/(C-1) · Σ_c (Σ_{i∈c}(d_i - d̄))²/n²`` with C - 1 degrees
    of freedom (Miller 2024, arXiv 2411.00640).

    Args:
        differences: Candidate - baseline, one per item, without holes.
        clusters: What each item belongs to; None where all are independent.
        level: Confidence level, two-sided.
    """
    mean = mean_with_interval(differences, clusters, level)
    units = mean.n if mean.clusters is None else mean.clusters
    error = mean.standard_error
    if clusters is not None and mean.n:
        error = clustered_standard_error(differences, clusters)
        error = 0.0 if mean.standard_error == 0 else error  # rounding is no spread
    skewness, furthest = _shape(differences, clusters, units) if error > 0 else (0.0, 0.0)
    return Difference(
        interval=mean.interval,
        standard_error=error,
        freedom=max(units - 1, 0),
        n=mean.n,
        clusters=mean.clusters,
        warnings=mean.warnings,
        skewness=skewness,
        furthest=furthest,
    )


def _shape(differences: Values, clusters: Codes | None, units: int) -> tuple[float, float]:
    """Return the units' skewness, and the largest distance of one from the mean."""
    apart = differences - differences.mean()
    if clusters is not None:  # a cluster's share of the mean, in the mean's unit
        apart = np.bincount(clusters, weights=apart) * (units / len(differences))
    furthest = float(np.abs(apart).max())
    apart = apart / furthest  # powers of very large and very small numbers are none
    # codes without an item add zeros, which the sums do not feel
    second, third = float((apart**2).sum()) / units, float((apart**3).sum()) / units
    return third / second**1.5, furthest


def is_binary(*columns: Values) -> bool:
    """Whether all numbers are 0 or 1."""
    return all(bool(np.isin(values, (0.0, 1.0)).all()) for values in columns)


def paired_test(
    baseline: Values,
    candidate: Values,
    clusters: Codes | None = None,
    flips: int = 10_000,
    seed: int = 0,
) -> PairedTest:
    """Return the test that fits: McNemar's for 0 and 1, sign flips for the rest and for clusters.

    Args:
        baseline: The baseline's numbers, without holes.
        candidate: The candidate's, of the same items.
        clusters: What each item belongs to; whole clusters are flipped.
        flips: Number of random flips where there are too many for all of them.
        seed: Of the random flips.
    """
    if clusters is None and is_binary(baseline, candidate):
        higher = int(((candidate == 1) & (baseline == 0)).sum())
        lower = int(((candidate == 0) & (baseline == 1)).sum())
        return PairedTest("McNemar mid-p", mcnemar(higher, lower).mid_p, higher, lower, None, None)
    differences = candidate - baseline
    if clusters is not None:
        differences = np.bincount(clusters, weights=differences).astype(np.float64)
    return sign_flip_test(differences, flips, seed)


def sign_flip_test(differences: Values, flips: int = 10_000, seed: int = 0) -> PairedTest:
    """Return the sign-flip permutation test of a mean of 0, two-sided.

    Under the null each difference is as likely as its negative. All ``2^n`` flips for n <= 20
    that are not 0; else random ones, with p = (1 + hits)/(1 + flips), which never is 0
    (Phipson and Smyth 2010).

    Args:
        differences: One per independent unit.
        flips: Number of random flips.
        seed: Of the random flips.
    """
    moved = differences[differences != 0]
    higher, lower = int((moved > 0).sum()), int((moved < 0).sum())
    observed = abs(float(moved.sum()))
    at_least = observed - 1e-9 * float(np.abs(moved).sum())  # ties up to rounding
    if len(moved) <= EXACT_UNITS:
        sums = np.zeros(1)
        for value in moved:
            sums = np.concatenate([sums + value, sums - value])
        p = float((np.abs(sums) >= at_least).mean())
        return PairedTest("sign flips, exact", p, higher, lower, len(sums), None)
    generator = np.random.default_rng(seed)
    # eight differences share one random byte and the table of their 256 signed sums
    eights = np.pad(moved, (0, -len(moved) % 8)).reshape(-1, 8)
    totals = np.zeros(flips)
    for table in eights @ _SIGNS.T:
        totals += table[generator.integers(0, 256, flips, dtype=np.uint8)]
    hits = int((np.abs(totals) >= at_least).sum())
    p = (1 + hits) / (1 + flips)
    return PairedTest("sign flips, random", p, higher, lower, flips, seed)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p-values (Holm 1979), in the order given.

    ``max over the smaller ones of (m - rank) · p``, at most 1: those at or below α are rejected
    with a family-wise error of at most α.
    """
    adjusted = [1.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted
