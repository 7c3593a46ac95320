"""Estimates with intervals as bars of figures, and normalised improvements as cells."""

from __future__ import annotations

from collections.abc import Sequence

from eft_eval.reports.document import Bar, Cell, Figure, Line, Panel, Plane
from eft_eval.reports.numbers import NONE, ends, number, reported
from eft_eval.statistics.interval import Interval

__all__ = ["MOST_PANELS", "bar", "figure", "improvement_cell", "improvement_note"]

MOST_PANELS = 12


def bar(label: str, interval: Interval | None, first: bool = False) -> Bar:
    """Return an estimate with its interval; ``first`` is drawn hollow."""
    assert interval is not None
    text = " ".join(filter(None, (label, *reported(interval.estimate, interval))))
    lower, upper = (interval.lower, interval.upper) if ends(interval) else (None, None)
    return Bar(label, interval.estimate, lower, upper, first, text)


def figure(name: str, caption: str, panels: Sequence[Panel | Line | Plane]) -> tuple[Figure, ...]:
    """Return a figure of at most so many panels; nothing where there are none."""
    left_out = max(0, len(panels) - MOST_PANELS)
    found = Figure(f"figure-{name}", caption, tuple(panels[:MOST_PANELS]), left_out)
    return (found,) if panels else ()


def improvement_cell(interval: Interval | None, known: bool = True) -> Cell:
    """Return a normalised improvement; a dash where nothing is known of it."""
    if not known:
        return Cell(NONE)
    if interval is None:
        return Cell("not computed")
    return Cell(number(interval.estimate, ".2f"), ends(interval, ".2f"))


def improvement_note(level: float) -> str:
    """Return what a normalised improvement is, and where there is none."""
    return (
        "(arm - small tuned) / (large tuned - small tuned) over the documents that all three have "
        f"a number for, with Fieller's {100 * level:.4g} % interval of a paired ratio "
        "(clustered where prompts repeat). Not computed where the large tuned model is not "
        "better with that confidence."
    )
