"""Two raters over the same items: agreement, κ, base rates, 2×2 table, McNemar, per stratum.

Raw agreement alone hides chance: 61 % is κ = 0.22 where both say "error" half of the time, and
0.07 where they say it 70 % of the time. So the base rates, and the agreement of somebody who
always gives the commonest answer, are part of every result.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from eft_eval.errors import ConfigError
from eft_eval.statistics.interval import Interval
from eft_eval.statistics.kappa import Kappa, kappa_of
from eft_eval.statistics.means import (
    NAN,
    Mean,
    Proportion,
    check_level,
    mean_of,
    proportion,
    share_of,
    wilson_interval,
)
from eft_eval.statistics.ratings import (
    Clusters,
    Codes,
    Ratings,
    Rule,
    Values,
    apply_rule,
    read_clusters,
    read_pair,
    select,
)
from eft_eval.statistics.tables import ConstantBaseline, McNemar, Table, clustered_mcnemar, mcnemar

__all__ = ["PairAgreement", "RawScale", "pair_agreement"]

_FEW_ITEMS = 30


class RawScale(NamedTuple):
    """What only ratings on a raw scale have.

    Attributes:
        linear: κ with linear weights.
        quadratic: κ with quadratic weights.
        spearman: Spearman's rank correlation; NaN where a rater is constant.
        kendall: Kendall's τ-b; NaN where a rater is constant.
        difference: Mean of second minus first rating: who counts more, and by how much.
    """

    linear: Kappa
    quadratic: Kappa
    spearman: float
    kendall: float
    difference: Mean


@dataclass(frozen=True)
class PairAgreement:
    """The agreement of two raters over the same items.

    Attributes:
        rule: How ratings were read: "any error" (a count above 0) or "raw".
        n: Items that both rated.
        dropped: Items left out because a rating is missing.
        missing_first: Items that the first rater lacks; some may lack both.
        missing_second: Items that the second rater lacks.
        agreement: Share of equal ratings, with both standard errors and Wilson's interval, which
            take the items as independent.
        clustered: The same share with a clustered standard error; None without clusters.
        kappa: Cohen's κ; clustered where clusters were given.
        first_rate: Share of items where the first rater sees an error, with Wilson's interval;
            None on the raw scale.
        second_rate: The second rater's.
        baseline: What always giving the commonest answer would reach.
        categories: The distinct ratings, in order.
        first_shares: Share of each category in the first rater's answers.
        second_shares: Share of each category in the second rater's.
        table: Counts, a row for each category of the first rater and a column for each of the
            second; None above 25 categories.
        mcnemar: McNemar's test; None on the raw scale.
        scale: Weighted κ and rank correlations; None under "any error".
        strata: The same, for each stratum by itself.
        warnings: What keeps a figure from being read as it stands.
    """

    rule: Rule
    n: int
    dropped: int
    missing_first: int
    missing_second: int
    agreement: Proportion
    clustered: Mean | None
    kappa: Kappa
    first_rate: Interval | None
    second_rate: Interval | None
    baseline: ConstantBaseline
    categories: tuple[float, ...]
    first_shares: tuple[float, ...]
    second_shares: tuple[float, ...]
    table: tuple[tuple[int, ...], ...] | None
    mcnemar: McNemar | None
    scale: RawScale | None
    strata: Mapping[str, PairAgreement]
    warnings: tuple[str, ...]


def pair_agreement(
    first: Ratings,
    second: Ratings,
    *,
    rule: Rule = "any error",
    clusters: Clusters | None = None,
    strata: Iterable[str] | None = None,
    level: float = 0.95,
) -> PairAgreement:
    """Return how far two raters agree about the same items (section 4.5 of the paper).

    Args:
        first: One rater's answers, such as the humans'; None where one is missing.
        second: The other's, such as the judge's, for the same items.
        rule: "any error" compares whether a count is above 0, as the paper; "raw" compares the
            ratings themselves.
        clusters: What each item belongs to, such as its prompt; None where all are independent.
        strata: A name for each item; each name's items are also compared by themselves.
        level: Confidence level of every interval.
    """
    check_level(level)
    left, right = read_pair(first, second, ("the first rater's ratings", "the second's"))
    left = apply_rule(left, rule, "the first rater's ratings")
    right = apply_rule(right, rule, "the second's")
    codes = read_clusters(clusters, len(left))
    whole = _compare(left, right, codes, rule, level)
    if strata is None:
        return whole
    names = np.array([str(name) for name in strata])
    if len(names) != len(left):
        raise ConfigError(f"{len(names)} strata for {len(left)} items; expected one for each item")
    parts = {}
    for name in np.unique(names):
        here = names == name
        parts[str(name)] = _compare(left[here], right[here], select(codes, here), rule, level)
    return replace(whole, strata=parts)


def _few(n: int) -> tuple[str, ...]:
    if not 1 < n < _FEW_ITEMS:
        return ()
    return (f"{n} items: figures from fewer than {_FEW_ITEMS} are rough",)


def _mcnemar(first: Values, second: Values, codes: Codes | None) -> McNemar:
    found = mcnemar(int((first > second).sum()), int((second > first).sum()))
    if codes is None:
        return found
    return found._replace(clustered=clustered_mcnemar(first, second, codes))


def _compare(
    left: Values, right: Values, codes: Codes | None, rule: Rule, level: float
) -> PairAgreement:
    no_left, no_right = np.isnan(left), np.isnan(right)
    kept = ~(no_left | no_right)
    first, second, codes = left[kept], right[kept], select(codes, kept)
    equal = first == second
    binary = rule == "any error"
    agreement = proportion(int(equal.sum()), len(equal), level)
    clustered = None if codes is None else share_of(mean_of(equal.astype(np.float64), codes, level))
    kappa = kappa_of(first, second, "none", codes, level)
    table = Table.of(first, second, binary)
    return PairAgreement(
        rule=rule,
        n=len(first),
        dropped=int((~kept).sum()),
        missing_first=int(no_left.sum()),
        missing_second=int(no_right.sum()),
        agreement=agreement,
        clustered=clustered,
        kappa=kappa,
        first_rate=wilson_interval(first.sum(), len(first), level) if binary else None,
        second_rate=wilson_interval(second.sum(), len(second), level) if binary else None,
        baseline=table.baseline,
        categories=table.categories,
        first_shares=table.first_shares,
        second_shares=table.second_shares,
        table=table.counts,
        mcnemar=(_mcnemar(first, second, codes) if binary else None),
        scale=None if binary else _raw_scale(first, second, codes, level),
        strata={},
        warnings=(
            *_few(len(first)),
            *agreement.warnings,
            *(clustered.warnings if clustered is not None else ()),
            *kappa.warnings,
            *table.warnings(agreement.rate),
        ),
    )


def _raw_scale(first: Values, second: Values, codes: Codes | None, level: float) -> RawScale:
    varies = len(first) > 1 and np.ptp(first) > 0 and np.ptp(second) > 0
    spearman = kendall = NAN
    if varies:
        from scipy import stats

        spearman = float(np.corrcoef(stats.rankdata(first), stats.rankdata(second))[0, 1])
        kendall = float(stats.kendalltau(first, second).statistic)
    return RawScale(
        linear=kappa_of(first, second, "linear", codes, level),
        quadratic=kappa_of(first, second, "quadratic", codes, level),
        spearman=spearman,
        kendall=kendall,
        difference=mean_of(second - first, codes, level),
    )
