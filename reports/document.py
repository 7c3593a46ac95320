"""What is shown is made of: tables, texts, figures, pages of them; neither HTML nor Markdown.

Texts are as they came: every renderer escapes them and draws what is hidden.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

__all__ = [
    "Answer",
    "Bar",
    "Block",
    "Card",
    "Cell",
    "Column",
    "Document",
    "Facts",
    "Figure",
    "Line",
    "Page",
    "Panel",
    "Plane",
    "Quote",
    "Section",
    "SideView",
    "Table",
    "Texts",
    "TokenView",
    "Trace",
    "cells",
    "columns",
    "warnings",
]  # fmt: skip

Tone = Literal["regression", "pass", "inconclusive", "not comparable", "plain"]


class Cell(NamedTuple):
    """A cell of a table.

    Attributes:
        text: What it says.
        small: What follows in smaller type, such as an interval.
        tone: An outcome is a badge of this tone; None for everything else.
    """

    text: str
    small: str = ""
    tone: Tone | None = None


class Column(NamedTuple):
    """A column's head, and whether it holds numbers."""

    head: str
    number: bool = True


def columns(*words: str, numbers: tuple[str, ...] = ()) -> tuple[Column, ...]:
    """Return columns of words, then columns of numbers."""
    return (*(Column(head, False) for head in words), *map(Column, numbers))


def cells(*texts: str) -> tuple[Cell, ...]:
    """Return a row of texts."""
    return tuple(map(Cell, texts))


@dataclass(frozen=True)
class Table:
    """A table; the first cell of a row is its head."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    kind: str = "table"


class Bar(NamedTuple):
    """One estimate in a panel, with its interval; the ends are None where there is none."""

    label: str
    estimate: float
    lower: float | None
    upper: float | None
    first: bool
    text: str


class Panel(NamedTuple):
    """Estimates with intervals, one below the other.

    Attributes:
        title: The metric.
        axis: What the axis says.
        bars: From top to bottom.
        marks: Vertical lines, by what they mean.
    """

    title: str
    axis: str
    bars: tuple[Bar, ...]
    marks: Mapping[str, float]


class Line(NamedTuple):
    """A metric over a value: per series and value the estimate and its ends."""

    title: str
    axis: str
    series: tuple[tuple[str, tuple[tuple[float, Bar], ...]], ...]


class Plane(NamedTuple):
    """Two metrics against each other along a value, in one series or several."""

    title: str
    axis_x: str
    axis_y: str
    series: tuple[tuple[str, tuple[tuple[str, Bar, Bar], ...]], ...]


@dataclass(frozen=True)
class Figure:
    """Panels side by side under one caption.

    Attributes:
        name: Its id on the page.
        caption: What it shows and how the intervals were made.
        panels: What is drawn.
        left_out: Panels that are not drawn.
    """

    name: str
    caption: str
    panels: tuple[Panel | Line | Plane, ...]
    left_out: int = 0
    kind: str = "figure"


@dataclass(frozen=True)
class Texts:
    """Paragraphs, or a list.

    Attributes:
        lines: Each is one paragraph or one entry.
        listed: Whether they are entries of a list.
        warn: Whether they keep figures from being read as they stand.
        small: Whether they only say how something was made.
        tone: Of an outcome.
    """

    lines: tuple[str, ...]
    listed: bool = False
    warn: bool = False
    small: bool = False
    tone: Tone | None = None
    kind: str = "texts"


def warnings(texts: Iterable[str]) -> tuple[Texts, ...]:
    """Return a list of warnings, each once; nothing where there are none."""
    found = tuple(dict.fromkeys(texts))
    return (Texts(found, listed=True, warn=True),) if found else ()


class Quote(NamedTuple):
    """Somebody's text, as far as it is shown.

    Attributes:
        text: What is shown.
        cut: What is said of the rest; empty where there is none.
        long: Whether it is folded away at first.
    """

    text: str
    cut: str
    long: bool


class Answer(NamedTuple):
    """A response with what a judge said of it; `reason` is None without a judge."""

    response: Quote
    verdict: str
    reason: Quote | None


class SideView(NamedTuple):
    """One run's responses to a document; `missing` says why there are none."""

    title: str
    answers: tuple[Answer, ...]
    missing: str
    more: str


@dataclass(frozen=True)
class Card:
    """A document on which two runs differ.

    Attributes:
        title: Its number and what changed.
        tone: Whether it got worse or better.
        prompt: What the models read.
        table: Its metrics in both runs.
        sides: Baseline, candidate.
    """

    title: str
    tone: Literal["worse", "better", "mixed"]
    prompt: Quote
    table: Table
    sides: tuple[SideView, SideView]
    kind: str = "card"


@dataclass(frozen=True)
class Facts:
    """Names with values."""

    title: str
    pairs: tuple[tuple[str, str], ...]
    kind: str = "facts"


class TokenView(NamedTuple):
    """A token: its text, how far it is from the draft (0 to 3), and what its details say."""

    text: str
    step: int
    mark: str
    label: str
    details: Mapping[str, Any]
    breaks: bool


@dataclass(frozen=True)
class Trace:
    """A response token by token.

    Attributes:
        name: Its id on the page.
        title: Composite and draft.
        prompt: What was asked.
        tokens: In order.
        table: The tokens that were changed most.
        cut: What is said of tokens that are not shown.
    """

    name: str
    title: str
    prompt: Quote
    tokens: tuple[TokenView, ...]
    table: Table
    cut: str
    kind: str = "trace"


Block = Table | Figure | Texts | Card | Facts | Trace
Document = tuple[Table | Texts | Facts | Trace, ...]
"""What a command prints: blocks that a terminal can show."""


@dataclass(frozen=True)
class Section:
    """A part of the page; `name` is its id."""

    name: str
    title: str
    lead: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Page:
    """All of the page.

    Attributes:
        title: Its title.
        tone: Of the verdict.
        verdict: The verdict in one word or two; empty for a study.
        sentences: The verdict in full.
        sections: In order.
        notes: What could not be shown, and why.
        footer: Who made it.
    """

    title: str
    tone: Tone
    verdict: str
    sentences: tuple[str, ...]
    sections: tuple[Section, ...]
    notes: tuple[str, ...] = ()
    footer: str = ""
