"""The contingency table of two raters: shares, the constant-predictor baseline, McNemar's test."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from eft_eval.errors import ConfigError
from eft_eval.statistics.means import NAN
from eft_eval.statistics.ratings import Codes, Values

__all__ = ["LARGEST_TABLE", "ConstantBaseline", "McNemar", "clustered_mcnemar", "mcnemar"]

LARGEST_TABLE = 25
"""Above this many distinct ratings no contingency table is made."""
ONE_SIDED = 0.9
"""A rater who gives one answer this often is warned about."""


class ConstantBaseline(NamedTuple):
    """Agreement with each rater of somebody who always gives that rater's commonest answer."""

    with_first: float
    with_second: float


class McNemar(NamedTuple):
    """Do the two raters say "yes" equally often?

    Attributes:
        first_only: Items to which only the first rater says yes.
        second_only: Items to which only the second does.
        exact: Two-sided exact binomial p-value (McNemar 1947).
        mid_p: Mid-p value (Fagerland, Lydersen and Laake 2013): the exact one is conservative.
        clustered: Two-sided p-value where items come in clusters, see `clustered_mcnemar`; None
            without clusters. The other two take the items as independent.
    """

    first_only: int
    second_only: int
    exact: float
    mid_p: float
    clustered: float | None = None


class Table(NamedTuple):
    """Who said what how often; the attributes are those of `PairAgreement`."""

    categories: tuple[float, ...]
    first_shares: tuple[float, ...]
    second_shares: tuple[float, ...]
    counts: tuple[tuple[int, ...], ...] | None
    baseline: ConstantBaseline

    @classmethod
    def of(cls, first: Values, second: Values, binary: bool) -> Table:
        """Count two raters' answers without holes; a binary table always has both answers."""
        known = np.array([0.0, 1.0] if binary else [])
        values = np.unique(np.concatenate([known, first, second]))
        n, size = len(first), len(values)
        left, right = np.searchsorted(values, first), np.searchsorted(values, second)
        left_counts = np.bincount(left, minlength=size)
        right_counts = np.bincount(right, minlength=size)
        counts = None
        if size <= LARGEST_TABLE:
            flat = np.bincount(left * size + right, minlength=size * size)
            counts = tuple(tuple(row) for row in flat.reshape(size, size).tolist())
        return cls(
            categories=tuple(values.tolist()),
            first_shares=tuple((left_counts / n).tolist()) if n else (NAN,) * size,
            second_shares=tuple((right_counts / n).tolist()) if n else (NAN,) * size,
            counts=counts,
            baseline=ConstantBaseline(
                float(left_counts.max() / n) if n else NAN,
                float(right_counts.max() / n) if n else NAN,
            ),
        )

    def warnings(self, agreement: float) -> list[str]:
        """Return what the base rates say about the agreement reached."""
        texts = []
        for who, shares in (("first", self.first_shares), ("second", self.second_shares)):
            commonest = max(shares, default=NAN)
            if ONE_SIDED <= commonest < 1:
                answer = self.categories[shares.index(commonest)]
                texts.append(
                    f"the {who} rater says {answer:g} of {commonest:.0%} of the items: chance "
                    "alone gives much agreement, and κ is unstable"
                )
        if agreement <= max(self.baseline):
            texts.append(
                f"agreement ({agreement:.1%}) is not above what always giving one rater's "
                f"commonest answer reaches ({max(self.baseline):.1%})"
            )
        return texts


def clustered_mcnemar(first: Values, second: Values, codes: Codes) -> float:
    """Return the p-value of McNemar's test for items that come in clusters.

    ``z = Σ_c d_c / √(Σ_c d_c²)`` with d_c a cluster's items to which only the first rater says
    yes, less those to which only the second does; normal (Durkalski, Palesch, Lipsitz and Rust
    2003, Statistics in Medicine 22). NaN where no cluster leans to either side.
    """
    sums = np.bincount(codes, weights=first - second) if len(codes) else np.zeros(0)
    squares = float(sums @ sums)
    if squares == 0:
        return NAN
    return math.erfc(abs(float(sums.sum())) / math.sqrt(2 * squares))


def mcnemar(first_only: int, second_only: int) -> McNemar:
    """Return McNemar's exact and mid-p tests from the two discordant counts.

    With ``X ~ Binomial(b + c, 1/2)`` and ``m = min(b, c)``: exact ``min(1, 2 P(X ≤ m))``, mid-p
    ``2 P(X ≤ m) - P(X = m)``. Without discordant items both are 1.
    """
    from scipy.special import bdtr

    if first_only < 0 or second_only < 0:
        raise ConfigError(f"discordant counts are {first_only} and {second_only}; expected >= 0")
    total, least = first_only + second_only, min(first_only, second_only)
    below = float(bdtr(least, total, 0.5))  # P(X <= m)
    at = below - (float(bdtr(least - 1, total, 0.5)) if least else 0.0)
    mid = 1.0 if first_only == second_only else 2 * below - at
    return McNemar(first_only, second_only, min(1.0, 2 * below), mid)
