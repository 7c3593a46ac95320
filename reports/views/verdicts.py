"""The table of stored verdicts in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from eft_eval.judging.upkeep import Group
from eft_eval.reports.views.recipes import make_console

__all__ = ["print_groups"]


def print_groups(groups: Sequence[Group], path: Path, console: Console | None = None) -> None:
    """Print groups of verdicts with their sums.

    Args:
        groups: What `summary` returned.
        path: The store's file, for the title.
        console: Where to; the terminal by default.
    """
    table = Table(title=f"Verdicts in {path}", title_justify="left")
    for name in ("judge", "prompt", "status"):
        table.add_column(name, overflow="fold")
    for name in ("verdicts", "tokens", "USD", "first", "last"):
        table.add_column(name, justify="right", no_wrap=True)
    for group in groups:
        table.add_row(
            group.judge,
            group.prompt,
            group.status,
            str(group.verdicts),
            str(group.tokens),
            _cost(group.cost_usd, group.unpriced, group.verdicts),
            group.first,
            group.last,
        )
    out = console or make_console()
    out.print(table)
    cost = sum(group.cost_usd for group in groups)
    unpriced = sum(group.unpriced for group in groups)
    count = sum(group.verdicts for group in groups)
    without = f"; {unpriced} without a known price" if unpriced else ""
    out.print(f"{count} verdicts, {cost:.4f} USD{without}", highlight=False)


def _cost(usd: float, unpriced: int, count: int) -> str:
    if unpriced == count:
        return "?"
    return f"{usd:.4f}" + (" + ?" if unpriced else "")
