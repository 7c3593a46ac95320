"""The judges of a panel, each against people, and every two of them by how they agree with people.

Pure functions of ratings; what the panel says together is compared as any judge is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from eft_eval.agreement.report import JudgeAgainstPeople, JudgesDifference
from eft_eval.statistics.consensus import majority, mean_rating
from eft_eval.statistics.means import Mean, mean_with_interval
from eft_eval.statistics.pairs import pair_agreement
from eft_eval.statistics.ratings import Clusters, Rule, Values

__all__ = ["Compared", "differences_of_judges", "each_judge"]


@dataclass(frozen=True)
class Compared:
    """How judges are held against people.

    Attributes:
        rule: "any error" or "raw"; the ratings are read by it already.
        amounts: Whether ratings are amounts: then distances count, else equal answers.
        clusters: What each item belongs to; None where all are independent.
        level: Confidence level.
    """

    rule: Rule
    amounts: bool
    clusters: Clusters | None
    level: float


def each_judge(
    people: Mapping[str, Values], judges: Mapping[str, Values], how: Compared
) -> tuple[JudgeAgainstPeople, ...]:
    """Return each judge against people's commonest answer."""
    commonest = majority(people).values
    mean = mean_rating(people).values
    return tuple(
        JudgeAgainstPeople(
            name,
            pair_agreement(
                commonest, ratings, rule=how.rule, clusters=how.clusters, level=how.level
            ),
            _mean(ratings - mean, how) if how.amounts else None,
        )
        for name, ratings in judges.items()
    )


def differences_of_judges(
    people: Mapping[str, Values], judges: Mapping[str, Values], how: Compared
) -> tuple[JudgesDifference, ...]:
    """Return how much better the second of every two judges agrees with people than the first.

    Over the items that both rated: the difference of the shares of answers that are people's
    commonest; of amounts that of the mean distances from people's mean, first minus second.
    """
    reference = mean_rating(people).values if how.amounts else majority(people).values
    near = {}
    for name, ratings in judges.items():
        if how.amounts:
            near[name] = -np.abs(ratings - reference)
        else:
            near[name] = np.where(
                np.isnan(ratings) | np.isnan(reference), np.nan, ratings == reference
            )
    return tuple(
        JudgesDifference(first, second, _mean(near[second] - near[first], how))
        for first, second in combinations(judges, 2)
    )


def _mean(values: Values, how: Compared) -> Mean:
    return mean_with_interval(values, how.clusters, how.level)
