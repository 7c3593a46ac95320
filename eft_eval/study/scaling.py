"""How far each arm goes from the small tuned model to the large one (Figures 3, 4 and 6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from eft_eval.errors import ConfigError
from eft_eval.statistics.fieller import improvement_if_apart
from eft_eval.statistics.interval import Interval
from eft_eval.statistics.paired import paired_difference
from eft_eval.study.numbers import Measured
from eft_eval.study.plan import StudyPlan

__all__ = ["ENDS", "CarriedOver", "carried_over", "check_scaling"]

ENDS = ("small-tuned", "large-tuned")
"""The arms that are 0 and 1."""


@dataclass(frozen=True)
class CarriedOver:
    """One metric of the arms between the two tuned models.

    Attributes:
        metric: Its name.
        higher_is_better: Whether high numbers are good ones.
        gap: Large tuned minus small tuned, with its paired interval.
        improvements: Per arm between them the normalised improvement with Fieller's interval;
            None where the large tuned model is not clearly the better one.
        documents: Documents that all have.
        clusters: Number of clusters; None where documents are independent.
    """

    metric: str
    higher_is_better: bool
    gap: Interval
    improvements: Mapping[str, Interval | None]
    documents: int
    clusters: int | None


def check_scaling(plan: StudyPlan) -> None:
    """Check that the arms between which others lie are there.

    Raises:
        ConfigError: One is missing.
    """
    names = [arm.name for arm in plan.arms]
    if missing := [end for end in ENDS if end not in names]:
        raise ConfigError(
            f"scaling needs an arm called {missing[0]!r}, which is {ENDS.index(missing[0])} of the "
            f"normalised improvement; the arms are {', '.join(names)}"
        )


def carried_over(found: Sequence[Measured], level: float) -> tuple[CarriedOver, ...]:
    """Return the normalised improvements of all metrics; none unless both ends are there.

    Args:
        found: The metrics.
        level: Confidence level.
    """
    return tuple(
        _one(one, one.metric.higher_is_better, level)
        for one in found
        if set(ENDS) <= one.values.keys() and one.metric.higher_is_better is not None
    )


def _one(found: Measured, higher_is_better: bool, level: float) -> CarriedOver:
    small, large = (found.values[end] for end in ENDS)
    between = [arm for arm in found.values if arm not in ENDS]
    return CarriedOver(
        metric=found.metric.name,
        higher_is_better=higher_is_better,
        gap=paired_difference(large - small, found.clusters, level).interval,
        improvements={
            arm: improvement_if_apart(
                np.stack([small, found.values[arm], large]),
                not higher_is_better,
                found.clusters,
                level,
            )
            for arm in between
        },
        documents=found.documents,
        clusters=found.units,
    )
