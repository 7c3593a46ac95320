"""Numbers as words, for every form: what does not exist is a dash."""

from __future__ import annotations

import math
from collections.abc import Mapping

from eft_eval.statistics.interval import Interval

__all__ = [
    "NONE",
    "bounds",
    "counted",
    "decimal",
    "documents",
    "ends",
    "error",
    "known",
    "number",
    "p_value",
    "percent",
    "reported",
    "span",
    "with_ends",
]

NONE = "–"
_LARGE = 1e6


def known(value: float | None) -> bool:
    """Return whether a number exists."""
    return value is not None and not math.isnan(value)


def number(value: float | None, form: str = ".4f") -> str:
    """Return a number in a format of Python's; a large one with six significant digits."""
    if value is None or math.isnan(value):
        return NONE
    if form.endswith(".4f") and abs(value) >= _LARGE:
        form = form.replace(".4f", ".6g")
    return format(value, form)


def decimal(value: float | None) -> str:
    """Return a number with three decimals."""
    return number(value, ".3f")


def percent(value: float | None) -> str:
    """Return a share as percent."""
    return NONE if not known(value) else f"{value:.1%}".replace("%", " %")


def error(value: float, *, share: bool) -> str:
    """Return a standard error: in points of percent for a share."""
    if math.isnan(value):
        return NONE
    return f"± {100 * value:.2f}" if share else f"± {value:.3f}"


def span(lower: float | None, upper: float | None, form: str = ".4f") -> str:
    """Return two ends in brackets; nothing where one does not exist."""
    if not known(lower) or not known(upper):
        return ""
    return f"[{number(lower, form)}, {number(upper, form)}]"


def ends(interval: Interval, form: str = ".4f") -> str:
    """Return the ends of an interval; nothing where it has none."""
    return span(interval.lower, interval.upper, form)


def with_ends(interval: Interval, form: str = ".4f") -> str:
    """Return an estimate, and behind it the ends of its interval where it has any."""
    return f"{number(interval.estimate, form)} {ends(interval, form)}".strip()


def bounds(interval: Interval, *, share: bool) -> str:
    """Return the ends of an interval, of a share in percent, and how it was made."""
    factor, form = (100, ".1f") if share else (1, ".3f")
    shown = interval._replace(lower=factor * interval.lower, upper=factor * interval.upper)
    return f"{ends(shown, form)} {interval.method}" if ends(shown) else NONE


def reported(value: float | None, found: Interval | None) -> tuple[str, str]:
    """Return an estimate and, apart, the ends of its interval."""
    return number(value), "" if found is None else ends(found)


def p_value(value: float | None) -> str:
    """Return a p-value."""
    return "< 0.0001" if value is not None and value < 0.0001 else number(value)


def documents(count: int, clusters: int | None) -> str:
    """Return the number of documents, and of clusters where there are any."""
    return str(count) if clusters is None else f"{count} in {clusters}"


def counted(counts: Mapping[str, int] | None, none: str = "none") -> str:
    """Return counts by what they are of."""
    return ", ".join(f"{count} {name}" for name, count in (counts or {}).items()) or none
