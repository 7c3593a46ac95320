"""A token trace in the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from eft_eval.reports.views.recipes import make_console
from eft_eval.runs.traces import TokenTrace, Trace

_SHOWN = 12  # rows of the table
# from this distance on a token is coloured, and marked for those who see no colour
_STEPS = ((0.5, "bold white on red", "▲"), (0.2, "black on yellow", "△"), (0.05, "underline", ""))


def print_trace(trace: Trace, console: Console | None = None) -> None:
    """Print the response, coloured by distance, and the tokens that were changed most."""
    out = console or make_console()
    out.print(Text(f"{trace.composite}, against its {trace.draft} member alone"))
    text = Text()
    for token in trace.tokens:
        style, mark = _style(token.total_variation)
        text.append(token.token + mark, style=style)
    out.print(text)
    out.print("total variation from the draft: ▲ 0.5 and more, △ 0.2 and more")
    changed = sorted(trace.tokens, key=lambda token: -token.total_variation)[:_SHOWN]
    out.print(_table(changed))


def _style(distance: float) -> tuple[str, str]:
    return next(((style, mark) for least, style, mark in _STEPS if distance >= least), ("", ""))


def _table(tokens: list[TokenTrace]) -> Table:
    table = Table(title="most changed tokens", title_justify="left")
    table.add_column("token", overflow="fold")
    for head in ("distance", "p", "p of the draft"):
        table.add_column(head, justify="right")
    table.add_column("alone they would have said", overflow="fold")
    for token in tokens:
        said = ", ".join(f"{one.member}: {one.token!r}" for one in token.choices)
        table.add_row(
            Text(repr(token.token)),
            f"{token.total_variation:.2f}",
            f"{token.probability:.2f}",
            f"{token.draft_probability:.2f}",
            Text(said),
        )
    return table
