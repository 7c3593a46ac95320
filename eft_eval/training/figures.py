"""What a training found, and the statistics of its held-out margins."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from eft_eval.statistics.interval import Interval
from eft_eval.statistics.means import mean_with_interval, share_of, wilson_interval

__all__ = ["Figures", "HeldOut", "accuracy", "held_out"]


class HeldOut(NamedTuple):
    """What was measured on held-out pairs.

    Attributes:
        pairs: How many.
        prompts: Of how many different prompts.
        accuracy: Share of the pairs whose chosen answer has the higher reward; a tie is half.
        margin: Mean difference of the rewards, β times that of the log-ratios.
    """

    pairs: int
    prompts: int
    accuracy: Interval
    margin: Interval


class Figures(NamedTuple):
    """What one training found.

    Attributes:
        pairs: How many were trained on.
        steps: Of the optimiser.
        loss: DPO's, as a mean over the first and over the last tenth of the steps.
        margin: Of the pairs of a step, likewise.
        accuracy: Share of them with a margin above zero, likewise.
        held_out: Of other pairs.
    """

    pairs: int
    steps: int
    loss: tuple[float, float]
    margin: tuple[float, float]
    accuracy: tuple[float, float]
    held_out: HeldOut


def held_out(margins: Sequence[float], prompts: Sequence[str], level: float = 0.95) -> HeldOut:
    """Return what margins say, prompts that repeat being one draw each."""
    return HeldOut(
        len(margins),
        len({*prompts}),
        accuracy(margins, prompts, level),
        mean_with_interval(margins, prompts, level).interval,
    )


def accuracy(margins: Sequence[float], prompts: Sequence[str], level: float = 0.95) -> Interval:
    """Return the share of margins above zero with its interval.

    Wilson's where every prompt is there once and no margin is zero, or where all margins are on
    one side (of the prompts); else the t interval of the mean, clustered by prompt.
    """
    right = [1.0 if one > 0 else 0.5 if one == 0 else 0.0 for one in margins]
    distinct = len({*prompts})
    if distinct == len(prompts) and 0.5 not in right:
        return wilson_interval(sum(right), len(right), level)
    found = share_of(mean_with_interval(right, prompts, level)).interval
    if math.isnan(found.lower) and found.estimate in (0.0, 1.0):
        return wilson_interval(found.estimate * distinct, distinct, level)
    return found
