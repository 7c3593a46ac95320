"""How much better one trade-off curve is than another: hypervolumes, with a bootstrap interval.

Pure functions on numbers of the same documents.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from eft_eval.statistics.interval import Interval
from eft_eval.statistics.paired import Codes, Values

__all__ = ["Objective", "hypervolume", "hypervolume_difference"]

DRAWS = 2000
_CHUNK = 250


class Objective(NamedTuple):
    """What two curves are both measured by.

    Attributes:
        first: Numbers of the first curve's points, [points, documents].
        second: Of the second curve's, of the same documents.
        worst: The worst value that there is.
        higher_is_better: Whether high numbers are good ones.
        clusters: What each document belongs to; None where all are independent.
    """

    first: Values
    second: Values
    worst: float
    higher_is_better: bool
    clusters: Codes | None = None

    @property
    def gains(self) -> tuple[Values, Values]:
        """Both curves' numbers as gains over the worst value."""
        sign = 1.0 if self.higher_is_better else -1.0
        return sign * (self.first - self.worst), sign * (self.second - self.worst)


def hypervolume(across: NDArray[np.float64], up: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the area that points dominate, over the worst point of both objectives (0, 0).

    Args:
        across: Gains in one objective, shape [..., points].
        up: Gains in the other.

    Returns:
        Areas, shape [...]; points below 0 add nothing.
    """
    order = np.argsort(-across, axis=-1, kind="stable")
    width = np.clip(np.take_along_axis(across, order, -1), 0, None)
    height = np.maximum.accumulate(np.clip(np.take_along_axis(up, order, -1), 0, None), axis=-1)
    steps = width - np.concatenate([width[..., 1:], np.zeros_like(width[..., :1])], axis=-1)
    area: NDArray[np.float64] = (steps * height).sum(axis=-1)
    return area


def hypervolume_difference(
    objectives: Sequence[Objective], together: bool, level: float = 0.95, seed: int = 0
) -> Interval:
    """Return the first curve's hypervolume minus the second's, with a paired bootstrap interval.

    Documents (whole clusters) are drawn with replacement, the same for all points of both curves;
    the interval holds the middle of the differences over draws (percentiles).

    Args:
        objectives: The two that are traded off.
        together: Whether both are of the same documents in the same order, which then are drawn
            together; else each has its own.
        level: Confidence level.
        seed: Of the draws.
    """
    means = [[gains.mean(axis=1) for gains in one.gains] for one in objectives]
    estimate = float(hypervolume(means[0][0], means[1][0]) - hypervolume(means[0][1], means[1][1]))
    units = [_units(one) for one in objectives]
    fewest = min(len(sizes) for _, sizes in units)
    if fewest < 2:
        return Interval(estimate, np.nan, np.nan, level, "bootstrap")
    found = np.concatenate(list(_draws(units, together, np.random.default_rng(seed))))
    lower, upper = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return Interval(estimate, float(lower), float(upper), level, "bootstrap")


_Units = tuple[tuple[Values, Values], Values]  # sums per unit of both curves, and units' sizes


def _units(objective: Objective) -> _Units:
    first, second = objective.gains
    if objective.clusters is None:
        return (first, second), np.ones(first.shape[1])
    codes = np.unique(objective.clusters, return_inverse=True)[1]

    def sums(gains: Values) -> Values:
        return np.stack([np.bincount(codes, weights=row).astype(np.float64) for row in gains])

    return (sums(first), sums(second)), np.bincount(codes).astype(np.float64)


def _draws(
    units: Sequence[_Units], together: bool, generator: np.random.Generator
) -> Iterator[NDArray[np.float64]]:
    """Yield differences of hypervolumes, over many draws."""
    for _ in range(DRAWS // _CHUNK):
        means: list[list[NDArray[np.float64]]] = []
        times = None
        for sums, sizes in units:
            if times is None or not together:
                count = len(sizes)
                times = generator.multinomial(count, np.full(count, 1 / count), size=_CHUNK)
            weight = times @ sizes
            means.append([(times @ gains.T) / weight[:, None] for gains in sums])
        yield hypervolume(means[0][0], means[1][0]) - hypervolume(means[0][1], means[1][1])
