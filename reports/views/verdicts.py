"""Stored verdicts by judge, prompt and status, with tokens and cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from eft_eval.judging.upkeep import Group
from eft_eval.reports.document import Document, Table, cells, columns

__all__ = ["verdicts"]


def verdicts(groups: Sequence[Group], path: Path) -> Document:
    """Return the table of verdicts with their sums.

    Args:
        groups: What `summary` returned.
        path: The store's file, for the caption.
    """
    numbers = ("verdicts", "tokens", "USD", "first", "last")
    rows = tuple(
        cells(
            group.judge,
            group.prompt,
            group.status,
            str(group.verdicts),
            str(group.tokens),
            _cost(group.cost_usd, group.unpriced, group.verdicts),
            group.first,
            group.last,
        )
        for group in groups
    )
    cost = sum(group.cost_usd for group in groups)
    unpriced = sum(group.unpriced for group in groups)
    count = sum(group.verdicts for group in groups)
    without = f"; {unpriced} without a known price" if unpriced else ""
    note = f"{count} verdicts, {cost:.4f} USD{without}"
    heads = columns("judge", "prompt", "status", numbers=numbers)
    return (Table(f"Verdicts in {path}", heads, rows, note),)


def _cost(usd: float, unpriced: int, count: int) -> str:
    if unpriced == count:
        return "?"
    return f"{usd:.4f}" + (" + ?" if unpriced else "")
