"""Rows of estimates with standard errors and intervals, as judge and people are shown."""

from __future__ import annotations

from eft_eval.reports.document import Cell, Table, cells, columns
from eft_eval.reports.numbers import bounds, decimal, error, percent
from eft_eval.statistics.interval import Interval
from eft_eval.statistics.means import Mean

__all__ = ["estimate", "estimates", "mean"]


def estimates(caption: str, rows: list[tuple[Cell, ...]], level: float) -> Table:
    """Return a table of such rows, whose intervals are of a confidence level such as 0.95."""
    numbers = ("value", "standard error", f"{100 * level:.4g} % interval")
    return Table(caption, columns("", numbers=numbers), tuple(rows))


def estimate(
    name: str, interval: Interval, standard_error: float | None = None, *, share: bool
) -> tuple[Cell, ...]:
    """Return a row; a share is in percent, and its standard error in points of it."""
    value = (percent if share else decimal)(interval.estimate)
    errors = "" if standard_error is None else error(standard_error, share=share)
    return cells(name, value, errors, bounds(interval, share=share))


def mean(name: str, found: Mean, *, share: bool) -> tuple[Cell, ...]:
    """Return the row of a mean."""
    return estimate(name, found.interval, found.standard_error, share=share)
