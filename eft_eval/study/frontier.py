"""Helpfulness against harm along α, with and without up-scaling (Figure 5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from eft_eval.errors import ConfigError
from eft_eval.judging.prompts.ranges import range_of
from eft_eval.reporting.frontier import trade_off_pair
from eft_eval.statistics.hypervolume import Objective, hypervolume, hypervolume_difference
from eft_eval.statistics.interval import Interval
from eft_eval.study.numbers import ArmRuns, Measured, measured_together
from eft_eval.study.plan import StudyPlan

__all__ = ["Curve", "CurvePoint", "TradeOff", "check_frontier", "trade_off"]


class CurvePoint(NamedTuple):
    """An arm on a curve, in both metrics."""

    arm: str
    alpha: float
    across: Interval
    up: Interval


@dataclass(frozen=True)
class Curve:
    """Arms that differ in α alone.

    Attributes:
        name: Their common name.
        points: By rising α.
        hypervolume: The area that they dominate, over the worst values that there are.
    """

    name: str
    points: tuple[CurvePoint, ...]
    hypervolume: float


@dataclass(frozen=True)
class TradeOff:
    """Two metrics along α.

    Attributes:
        across: The metric across, harm where there is any.
        up: The other.
        curves: In the design's order.
        worst: The values that hypervolumes are over, of both metrics.
        difference: Last curve's hypervolume minus the first's; None for one curve.
        together: Whether both metrics are of the same documents, drawn together.
    """

    across: str
    up: str
    curves: tuple[Curve, ...]
    worst: tuple[float, float]
    difference: Interval | None
    together: bool


def check_frontier(plan: StudyPlan) -> None:
    """Check that there is a curve to draw.

    Raises:
        ConfigError: No arm has several values of α.
    """
    if not any(arm.setting == "alpha" for arm in plan.arms):
        raise ConfigError("frontier needs an arm with several values of alpha: alpha: 0:1:0.25")


def trade_off(
    plan: StudyPlan, arms: ArmRuns, found: Sequence[Measured], level: float
) -> TradeOff | None:
    """Return the trade-off of two metrics; None where there are no two of different kinds.

    Args:
        plan: The study.
        arms: Runs that are whole.
        found: Their metrics.
        level: Confidence level.
    """
    pair = _pair(found)
    curves = _curves(plan, arms)
    if pair is None or not curves:
        return None
    worst = (_worst(pair[0]), _worst(pair[1]))
    together = measured_together(arms, [one.metric for one in pair]) == pair[0].documents
    together = together and pair[0].documents == pair[1].documents
    drawn = tuple(_curve(name, points, pair, worst, level) for name, points in curves.items())
    return TradeOff(
        across=pair[0].metric.name,
        up=pair[1].metric.name,
        curves=drawn,
        worst=worst,
        difference=_difference(list(curves.values()), pair, worst, together, level),
        together=together,
    )


def _pair(found: Sequence[Measured]) -> tuple[Measured, Measured] | None:
    found = [one for one in found if one.metric.higher_is_better is not None]
    places = trade_off_pair([(one.metric.task, one.metric.key.metric) for one in found])
    return None if places is None else (found[places[0]], found[places[1]])


def _curves(plan: StudyPlan, arms: ArmRuns) -> Mapping[str, list[tuple[float, str]]]:
    """Return the curves that are whole: per name their α and arms."""
    curves: dict[str, list[tuple[float, str]]] = {}
    for arm in plan.arms:
        if arm.setting == "alpha" and isinstance(arm.value, float):
            curves.setdefault(arm.group, []).append((arm.value, arm.name))
    return {
        name: sorted(points)
        for name, points in curves.items()
        if all(arm in arms for _, arm in points)
    }


def _worst(one: Measured) -> float:
    """Return the worst value that a metric can have; where it has no bound, the worst seen."""
    bounds = range_of(one.metric.key.metric)
    place = 0 if one.metric.higher_is_better else 1
    if bounds is not None and np.isfinite(bounds[place]):
        return bounds[place]
    means = [float(values.mean()) for values in one.values.values()]
    return min(means) if one.metric.higher_is_better else max(means)


def _objective(
    one: Measured, first: Sequence[tuple[float, str]], second: Sequence[tuple[float, str]],
    worst: float,
) -> Objective:  # fmt: skip
    rows = [np.stack([one.values[arm] for _, arm in points]) for points in (first, second)]
    return Objective(rows[0], rows[1], worst, bool(one.metric.higher_is_better), one.clusters)


def _curve(
    name: str,
    points: Sequence[tuple[float, str]],
    pair: tuple[Measured, Measured],
    worst: tuple[float, float],
    level: float,
) -> Curve:
    gains = [
        _objective(one, points, points, low).gains[0].mean(axis=1)
        for one, low in zip(pair, worst, strict=True)
    ]
    return Curve(
        name,
        tuple(
            CurvePoint(arm, alpha, pair[0].mean(arm, level), pair[1].mean(arm, level))
            for alpha, arm in points
        ),
        float(hypervolume(gains[0], gains[1])),
    )


def _difference(
    curves: Sequence[Sequence[tuple[float, str]]],
    pair: tuple[Measured, Measured],
    worst: tuple[float, float],
    together: bool,
    level: float,
) -> Interval | None:
    if len(curves) < 2:
        return None
    objectives = [
        _objective(one, curves[-1], curves[0], low) for one, low in zip(pair, worst, strict=True)
    ]
    return hypervolume_difference(objectives, together, level)
