"""The record of an estimate with its uncertainty, which every statistic returns."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Interval"]


class Interval(NamedTuple):
    """An estimate with its confidence interval.

    Attributes:
        estimate: The point estimate, in the units of what is estimated.
        lower: Lower end; NaN where the data give none.
        upper: Upper end; NaN where the data give none.
        level: Confidence level, such as 0.95.
        method: Name of the formula.
    """

    estimate: float
    lower: float
    upper: float
    level: float
    method: str
