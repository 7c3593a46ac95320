"""Several people over the same items: how far they agree with each other."""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

import numpy as np

from eft_eval.statistics.kappa import Kappa, kappa_of
from eft_eval.statistics.means import Mean, check_level, mean_of, share_of
from eft_eval.statistics.ratings import Clusters, Panel, Rule, read_clusters, read_panel, select

__all__ = ["PairOfAnnotators", "PanelAgreement", "panel_agreement"]


class PairOfAnnotators(NamedTuple):
    """Two people's agreement over the items that both rated."""

    first: str
    second: str
    n: int
    agreement: float
    kappa: Kappa


class PanelAgreement(NamedTuple):
    """How far the people of a panel agree with each other.

    Attributes:
        agreement: Mean over items of the share of agreeing pairs of people (Fleiss 1971, P̄),
            with a t interval, clustered where clusters were given.
        items: Items with at least two ratings.
        single: Items left out because they have one rating or none.
        pairs: Every two people who share an item.
        warnings: What keeps a figure from being read as it stands.
    """

    agreement: Mean
    items: int
    single: int
    pairs: tuple[PairOfAnnotators, ...]
    warnings: tuple[str, ...]


def panel_agreement(
    panel: Panel,
    *,
    rule: Rule = "any error",
    clusters: Clusters | None = None,
    level: float = 0.95,
) -> PanelAgreement:
    """Return the human–human agreement: over all pairs, and for every two people.

    Args:
        panel: Ratings by person, over the same items; None where one is missing.
        rule: "any error" compares whether a count is above 0; "raw" the ratings themselves.
        clusters: What each item belongs to; None where all are independent.
        level: Confidence level.
    """
    check_level(level)
    matrix = read_panel(panel, rule)
    values = matrix.values
    codes = read_clusters(clusters, values.shape[1])
    sizes = (~np.isnan(values)).sum(axis=0)
    pairable = sizes >= 2
    agreeing = np.zeros(values.shape[1])
    pairs = []
    for first, second in combinations(range(len(values)), 2):
        both = ~(np.isnan(values[first]) | np.isnan(values[second]))
        if not both.any():
            continue
        equal = values[first] == values[second]
        agreeing += equal
        kappa = kappa_of(
            values[first, both], values[second, both], "none", select(codes, both), level
        )
        pairs.append(
            PairOfAnnotators(
                matrix.names[first],
                matrix.names[second],
                int(both.sum()),
                float(equal[both].mean()),
                kappa,
            )
        )
    shares = agreeing[pairable] / (sizes * (sizes - 1) / 2)[pairable]
    mean = share_of(mean_of(shares, select(codes, pairable), level))
    single = int((~pairable).sum())
    return PanelAgreement(mean, int(pairable.sum()), single, tuple(pairs), mean.warnings)
