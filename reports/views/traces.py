"""Token traces: the paper's Figure 7."""

from __future__ import annotations

from eft_eval.characters import one_line
from eft_eval.reporting.distances import STEPS
from eft_eval.reporting.report import Report
from eft_eval.reports.document import (
    Block,
    Cell,
    Document,
    Section,
    Table,
    Texts,
    TokenView,
    Trace,
    cells,
    columns,
)
from eft_eval.reports.numbers import ends, number, percent
from eft_eval.reports.views.quotes import prompt_quote
from eft_eval.runs.traces import TokenTrace
from eft_eval.runs.traces import Trace as Traced

__all__ = ["MEANING", "MOST_TOKENS", "token_view", "trace", "trace_block", "traces"]

MOST_TOKENS = 2_000
MOST_TRACES = 20
_SHOWN = 12  # rows of the table
# from this distance on a token is coloured, and marked for those who see no colour
_STEPS = ((0.5, 3, "▲"), (0.2, 2, "△"), (0.05, 1, ""))
_LONGEST = 4_000
_HEADS = (
    *columns("token", numbers=("distance", "p", "p of the draft")),
    *columns("likeliest token of each"),
)
MEANING = (
    "How far the composite is from its draft member's choice at every token (total variation, "
    "0 to 1): ▲ 0.5 and more, △ 0.2 and more, underlined from 0.05."
)


def trace(found: Traced) -> Document:
    """Return one trace with what its marks mean."""
    return Texts((MEANING,), small=True), trace_block(found, "trace")


def traces(report: Report) -> Section | None:
    """Return a report's section; None without a trace."""
    if not report.traces:
        return None
    shown = (
        trace_block(found, f"trace-{place}")
        for place, found in enumerate(report.traces[:MOST_TRACES], start=1)
    )
    blocks: list[Block] = [_distances(report), *shown]
    if (left := len(report.traces) - MOST_TRACES) > 0:
        blocks.append(Texts((f"{left:,} more traces are in the table alone.",), small=True))
    lead = (
        f"{MEANING} Point at a token, or move with Tab and the arrow keys, to see who would have "
        "said what."
    )
    return Section("traces", "Token by token", lead, tuple(blocks))


def _distances(report: Report) -> Table:
    """Return the distances over all traced tokens, by task."""
    heads = columns(
        "composite",
        "task",
        numbers=("responses", "tokens", "mean", "median", "90 %", *(f"≥ {s:g}" for s in STEPS)),
    )
    rows = tuple(
        (
            *cells(f"{one.composite}, draft {one.draft}", one.task or "no run's"),
            *cells(f"{one.responses:,}", f"{one.tokens:,}"),
            Cell(number(one.mean.estimate, ".3f"), ends(one.mean, ".3f")),
            *cells(number(one.median, ".3f"), number(one.upper, ".3f")),
            *cells(*map(percent, one.shares)),
        )
        for one in report.distances
    )
    note = (
        "Total variation between composite and draft at each token of the traced responses: mean "
        f"with {100 * report.level:.4g} % interval, clustered by prompt (from two prompts on), "
        "median, ninth decile, and the shares of tokens at least so far. A trace is of the task "
        "that has its prompt among the runs' documents."
    )
    return Table("Distance from the draft by task", heads, rows, note)


def trace_block(found: Traced, name: str) -> Trace:
    """Return one trace, whose id on the page is ``name``."""
    changed = sorted(found.tokens, key=lambda token: -token.total_variation)[:_SHOWN]
    left = len(found.tokens) - MOST_TOKENS
    cut = f"cut: the first {MOST_TOKENS:,} of {len(found.tokens):,} tokens" if left > 0 else ""
    return Trace(
        name=name,
        title=f"{found.composite}, against its {found.draft} member alone",
        prompt=prompt_quote(found.prompt, len(found.prompt), _LONGEST),
        tokens=tuple(token_view(token) for token in found.tokens[:MOST_TOKENS]),
        table=Table("Most changed tokens", _HEADS, tuple(map(_row, changed))),
        cut=cut,
    )


def _row(token: TokenTrace) -> tuple[Cell, ...]:
    said = ", ".join(f"{one.member}: {_named(one.token)}" for one in token.choices)
    numbers = (token.total_variation, token.probability, token.draft_probability)
    return cells(_named(token.token), *(f"{one:.2f}" for one in numbers), said)


def token_view(token: TokenTrace) -> TokenView:
    """Return one token with all that is said of it."""
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
            [one_line(o.member), _named(o.token), f"{o.probability:.2f}"] for o in token.choices
        ],
        "raised": [[_named(one.token), f"{one.change:+.2f}"] for one in token.raised],
        "lowered": [[_named(one.token), f"{one.change:+.2f}"] for one in token.lowered],
    }
    return TokenView(
        text=token.token.replace("\r\n", "\n").replace("\n", "⏎"),
        step=step,
        mark=mark,
        label=f"{_named(token.token)}, distance {token.total_variation:.2f}",
        details=details,
        breaks="\n" in token.token,
    )


def _named(text: str) -> str:
    """Return a token in quotes, in one line."""
    return f"“{one_line(text)}”"
