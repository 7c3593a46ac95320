"""The section of token traces: the paper's Figure 7 on a page."""

from __future__ import annotations

from eft_eval.reporting.report import Report
from eft_eval.reports.document import Cell, Column, Section, Table, TokenView, Trace
from eft_eval.reports.views.texts import prompt_quote, visible
from eft_eval.runs.traces import TokenTrace
from eft_eval.runs.traces import Trace as Traced

__all__ = ["traces"]

MOST_TOKENS = 2_000
_SHOWN = 12
_STEPS = ((0.5, 3, "▲"), (0.2, 2, "△"), (0.05, 1, ""))
_LONGEST = 4_000


def traces(report: Report) -> Section | None:
    """Return the section; None without a trace."""
    if not report.traces:
        return None
    blocks = tuple(
        _trace(found, f"trace-{number}") for number, found in enumerate(report.traces, start=1)
    )
    lead = (
        "How far the composite is from its draft member's choice at every token (total variation, "
        "0 to 1): ▲ 0.5 and more, △ 0.2 and more, underlined from 0.05. Point at a token, or move "
        "with Tab and the arrow keys, to see who would have said what."
    )
    return Section("traces", "Token by token", lead, blocks)


def _trace(found: Traced, name: str) -> Trace:
    changed = sorted(found.tokens, key=lambda token: -token.total_variation)[:_SHOWN]
    left = len(found.tokens) - MOST_TOKENS
    cut = f"cut: the first {MOST_TOKENS:,} of {len(found.tokens):,} tokens" if left > 0 else ""
    columns = (
        Column("token", False),
        *map(Column, ("distance", "p", "p of the draft")),
        Column("likeliest token of each", False),
    )
    return Trace(
        name=name,
        title=f"{visible(found.composite)}, against its {visible(found.draft)} member alone",
        prompt=prompt_quote(found.prompt, len(found.prompt), _LONGEST),
        tokens=tuple(_token(token) for token in found.tokens[:MOST_TOKENS]),
        table=Table("Most changed tokens", columns, tuple(map(_row, changed))),
        cut=cut,
    )


def _row(token: TokenTrace) -> tuple[Cell, ...]:
    said = ", ".join(f"{one.member}: {_named(one.token)}" for one in token.choices)
    numbers = (token.total_variation, token.probability, token.draft_probability)
    return (Cell(_named(token.token)), *(Cell(f"{one:.2f}") for one in numbers), Cell(said))


def _token(token: TokenTrace) -> TokenView:
    step, mark = next(
        ((step, mark) for least, step, mark in _STEPS if token.total_variation >= least), (0, "")
    )
    details = {
        "token": _named(token.token),
        "distance": f"{token.total_variation:.3f}",
        "probability": f"{token.probability:.3f}",
        "draft": f"{token.draft_probability:.3f}",
        "entropy": f"{token.entropy:.2f} nats",
        "choices": [
            [visible(o.member), _named(o.token), f"{o.probability:.2f}"] for o in token.choices
        ],
        "raised": [[_named(one.token), f"{one.change:+.2f}"] for one in token.raised],
        "lowered": [[_named(one.token), f"{one.change:+.2f}"] for one in token.lowered],
    }
    text = visible(token.token)
    breaks = "\n" in text
    return TokenView(
        text=text.replace("\n", "⏎"),
        step=step,
        mark=mark,
        label=f"{_named(token.token)}, distance {token.total_variation:.2f}",
        details=details,
        breaks=breaks,
    )


def _named(text: str) -> str:
    """Return a token in quotes, with its line ends shown."""
    return f"“{visible(text)}”".replace("\n", "⏎").replace("\t", "⇥")
