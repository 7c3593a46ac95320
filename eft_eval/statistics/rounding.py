"""Numbers as files hold them whose bytes are compared: processors differ in a sum's last digits."""

from __future__ import annotations

from typing import overload

from eft_eval.statistics.interval import Interval

__all__ = ["rounded", "rounded_ends"]


@overload
def rounded(value: float) -> float: ...
@overload
def rounded(value: None) -> None: ...
def rounded(value: float | None) -> float | None:
    """Return a number with 12 significant digits; None stays None."""
    return None if value is None else float(f"{value:.12g}")


def rounded_ends(interval: Interval | None) -> Interval | None:
    """Return an interval whose ends have 12 significant digits; its estimate stays as it is."""
    if interval is None:
        return None
    return interval._replace(lower=rounded(interval.lower), upper=rounded(interval.upper))
