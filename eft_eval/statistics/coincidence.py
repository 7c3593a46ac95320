"""The arithmetic of Krippendorff's α over weighted items, without a table of coincidences.

``Σ o_ck δ²_ck`` is a sum over items, and for squared differences each item's part follows from its
ratings' sum and sum of squares. So a resample is a row of weights, and many cost one product.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from eft_eval.errors import ConfigError
from eft_eval.statistics.ratings import Codes, Values

if TYPE_CHECKING:
    from scipy.sparse import csr_array

__all__ = ["Metric", "Units", "alphas_of", "disagreement_of", "units_of"]

Metric: TypeAlias = Literal["nominal", "ordinal", "interval", "ratio"]

_RATIO_VALUES = 2000  # the ratio metric needs a table of all pairs of distinct ratings


class Units(NamedTuple):
    """Items with at least two ratings; without clusters, equal items are kept once.

    ``U`` units, ``K`` distinct ratings in ascending order.
    """

    counts: csr_array  # how often unit u got rating k, [U, K]
    sizes: Values  # ratings of each unit, [U]
    repeats: Values  # items that this unit stands for, [U]
    values: Values  # the distinct ratings, [K]
    clusters: Codes | None  # 0 … C-1, [U]


def units_of(matrix: Values, codes: Codes | None) -> Units:
    """Return the units of ratings [raters, items] that have at least two ratings an item."""
    from scipy.sparse import csr_array

    values = np.unique(matrix)
    values = values[~np.isnan(values)]
    coded = np.sort(np.searchsorted(values, matrix), axis=0).T  # NaN becomes K and sorts last
    if codes is None:
        coded, repeats = np.unique(coded, axis=0, return_counts=True)
    else:
        repeats = np.ones(len(coded), dtype=np.int64)
        codes = np.unique(codes, return_inverse=True)[1]
    present = coded < len(values)
    rows, _ = present.nonzero()
    counts = csr_array(
        (np.ones(len(rows)), (rows, coded[present])), shape=(len(coded), len(values))
    )
    counts.sum_duplicates()
    sizes = present.sum(axis=1).astype(np.float64)
    return Units(counts, sizes, repeats.astype(np.float64), values, codes)


def alphas_of(units: Units, weights: Values, metric: Metric, disagreement: Values | None) -> Values:
    """Return α of each resample, shape [B]; NaN where all of its ratings are equal.

    Args:
        units: The items.
        weights: How often each resample holds each unit, shape [B, U].
        metric: The distance.
        disagreement: Each unit's part of ``Σ o_ck δ²_ck``, shape [U]; None where the distance
            depends on the resample, as between ranks.
    """
    totals = np.asarray(units.counts.T @ weights.T)  # n_k of each resample, [K, B]
    sizes = totals.sum(axis=0)  # n of each resample, [B]
    if disagreement is None:
        ranks = np.cumsum(totals, axis=0) - (totals + sizes) / 2  # mid-ranks, centred, [K, B]
        observed = (_squared_gaps(units, ranks).T * weights).sum(axis=1)
        expected = 2 * (sizes * (totals * ranks**2).sum(axis=0) - (totals * ranks).sum(axis=0) ** 2)
    else:
        observed = weights @ disagreement
        expected = _expected(units.values, totals, metric)
    flat = (totals > 0).sum(axis=0) < 2
    with np.errstate(divide="ignore", invalid="ignore"):
        alphas = 1 - (sizes - 1) * observed / expected
    return np.where(flat, np.nan, alphas)


def disagreement_of(units: Units, metric: Metric) -> Values | None:
    """Return ``Σ_{c,k} n_uc (n_uk - [c=k]) δ²_ck / (m_u - 1)`` of each unit, shape [U].

    None for the ordinal metric, whose distance depends on all ratings of a resample.
    """
    if metric == "ordinal":
        return None
    if metric == "interval":
        scores = units.values - units.values.mean()
        return np.asarray(_squared_gaps(units, scores[:, None])[:, 0])
    if metric == "nominal":
        same: Values = np.asarray(units.counts.multiply(units.counts).sum(axis=1)).ravel()
        return np.asarray((units.sizes**2 - same) / (units.sizes - 1))
    _check_ratio(units.values)
    crossed = np.asarray(units.counts.multiply(units.counts @ _ratio(units.values)).sum(axis=1))
    return np.asarray(crossed.ravel() / (units.sizes - 1))


def _squared_gaps(units: Units, scores: Values) -> NDArray[Any]:
    """Return each unit's ``Σ_{i≠j} (s_i - s_j)² / (m_u - 1)`` for scores [K, B], shape [U, B]."""
    sums, squares = units.counts @ scores, units.counts @ scores**2
    sizes = units.sizes[:, None]
    return np.asarray(2 * (sizes * squares - sums**2) / (sizes - 1))


def _expected(values: Values, totals: Values, metric: Metric) -> Values:
    """Return ``Σ n_c n_k δ²_ck`` of each resample, shape [B], from its totals [K, B]."""
    sizes: Values = totals.sum(axis=0)
    if metric == "nominal":
        return np.asarray(sizes**2 - (totals**2).sum(axis=0))
    if metric == "interval":
        scores = values - values.mean()
        return np.asarray(2 * (sizes * (scores**2 @ totals) - (scores @ totals) ** 2))
    return np.asarray((totals * (_ratio(values) @ totals)).sum(axis=0))


def _ratio(values: Values) -> Values:
    """Return ``((c - k)/(c + k))²`` of all pairs of ratings, shape [K, K]; 0 for two zeros."""
    sums = values[:, None] + values
    gaps = values[:, None] - values
    return np.divide(gaps, sums, out=np.zeros_like(sums), where=sums > 0) ** 2


def _check_ratio(values: Values) -> None:
    if values[0] < 0:
        raise ConfigError(f"the ratio metric needs ratings of 0 and above; given {values[0]:g}")
    if len(values) > _RATIO_VALUES:
        raise ConfigError(
            f"the ratio metric takes up to {_RATIO_VALUES} distinct ratings; given "
            f"{len(values)}: round them, or use the interval metric"
        )
