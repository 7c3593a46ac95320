"""Arms against one of them: truncation of the up-scaling weights (Table 1), a delta's weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from eft_eval.statistics.interval import Interval
from eft_eval.statistics.paired import paired_difference
from eft_eval.study.numbers import Measured

__all__ = ["Contrast", "contrasts"]


@dataclass(frozen=True)
class Contrast:
    """One metric of the arms against the first.

    Attributes:
        metric: Its name.
        against: The arm that the others are compared with.
        differences: Per other arm its mean minus that arm's, with a paired interval.
    """

    metric: str
    against: str
    differences: Mapping[str, Interval]


def contrasts(found: Sequence[Measured], against: str, level: float) -> tuple[Contrast, ...]:
    """Return every metric's differences to one arm; none where that arm is not there.

    Args:
        found: The metrics.
        against: The arm.
        level: Confidence level.
    """
    return tuple(
        Contrast(
            one.metric.name,
            against,
            {
                arm: paired_difference(values - one.values[against], one.clusters, level).interval
                for arm, values in one.values.items()
                if arm != against
            },
        )
        for one in found
        if against in one.values
    )
