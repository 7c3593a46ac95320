"""Estimates and intervals as text; a number that does not exist is a dash."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from rich.console import Console
from rich.table import Table
from rich.text import Text

from eft_eval.statistics.interval import Interval

__all__ = [
    "bounds",
    "counts",
    "decimal",
    "dropped_lines",
    "error",
    "figures",
    "p_value",
    "percent",
    "say",
    "show",
    "warn",
]

NONE = "–"


def percent(value: float) -> str:
    """Return a share as percent."""
    return NONE if math.isnan(value) else f"{value:.1%}".replace("%", " %")


def decimal(value: float) -> str:
    """Return a number with three decimals."""
    return NONE if math.isnan(value) else f"{value:.3f}"


def error(value: float, *, share: bool) -> str:
    """Return a standard error: in points of percent for a share."""
    if math.isnan(value):
        return NONE
    return f"± {100 * value:.2f}" if share else f"± {value:.3f}"


def bounds(interval: Interval, *, share: bool) -> str:
    """Return the ends of an interval, and how it was made."""
    if math.isnan(interval.lower) or math.isnan(interval.upper):
        return NONE
    factor, digits = (100, 1) if share else (1, 3)
    ends = ", ".join(f"{factor * end:.{digits}f}" for end in (interval.lower, interval.upper))
    return f"[{ends}] {interval.method}"


def p_value(value: float) -> str:
    """Return a p-value."""
    if math.isnan(value):
        return NONE
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def figures(level: float) -> Table:
    """Return an empty table of estimates with intervals of a confidence level, such as 0.95."""
    table = Table()
    table.add_column("", overflow="fold")
    for head in ("value", "standard error"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column(f"{100 * level:.4g} % interval", overflow="fold")
    return table


def counts(left: Iterable[str], right: Iterable[str]) -> Table:
    """Return an empty table with columns of words, then columns of numbers."""
    table = Table()
    for head in left:
        table.add_column(head, no_wrap=True)
    for head in right:
        table.add_column(head, justify="right")
    return table


def show(out: Console, title: str, table: Table) -> None:
    """Print a table under its title, which may be longer than the table is wide."""
    out.print()
    out.print(Text(title, style="bold"))
    out.print(table)


def say(out: Console, text: str) -> None:
    """Print a line; brackets in it are no markup."""
    out.print(Text(text))


def warn(out: Console, texts: Iterable[str]) -> None:
    """Print warnings, each once."""
    for text in dict.fromkeys(texts):
        out.print(Text(f"! {text}", style="yellow"))


def dropped_lines(dropped: Mapping[str, int], remarks: Iterable[str]) -> list[str]:
    """Return the lines that say which rows of label files gave no label."""
    lines = [f"rows not used: {count} × {reason}" for reason, count in dropped.items()]
    return lines + [f"note: {text}" for text in dict.fromkeys(remarks)]
