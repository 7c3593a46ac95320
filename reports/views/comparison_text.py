"""A comparison in the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from eft_eval.comparing.comparison import Candidate, Comparison
from eft_eval.reports.views import comparison as cells
from eft_eval.reports.views.recipes import make_console
from eft_eval.statistics.document_planning import ComparePlan

__all__ = ["print_compare_plan", "print_comparison"]

_COLOURS = {"regression": "bold red", "pass": "green", "inconclusive": "yellow"}


def print_comparison(comparison: Comparison, console: Console | None = None) -> None:
    """Print a comparison: one candidate in full, several as a table against the baseline."""
    out = console or make_console()
    out.print(Text(f"baseline: {cells.run_label(comparison.baseline)}"))
    for candidate in comparison.candidates:
        out.print(Text(f"candidate: {cells.run_label(candidate.run)}"))
    if len(comparison.candidates) > 1:
        out.print(_overview(comparison))
    else:
        out.print(_table(comparison.candidates[0]))
    several = len(comparison.candidates) > 1
    for candidate in comparison.candidates:
        head = f"{candidate.run.label}: " if several else ""
        for line in cells.verdict_lines(candidate):
            out.print(Text(f"{head}verdicts of {line}"))
        for note in cells.notes(candidate):
            out.print(Text(f"! {head}{note}", style="yellow"))
    out.print(Text(cells.caption(comparison, comparison.candidates[0])))
    for candidate in comparison.candidates:
        head = f"{candidate.run.label}: " if several else ""
        out.print(Text(f"{head}{candidate.sentence}", style=_COLOURS[candidate.outcome]))


def print_compare_plan(plan: ComparePlan, console: Console | None = None) -> None:
    """Print how many documents a comparison needs."""
    out = console or make_console()
    table = Table(title=f"documents to resolve {plan.resolution:g}", title_justify="left")
    table.add_column("to")
    table.add_column("documents", justify="right")
    table.add_row("certify that no larger drop happened", f"{plan.certify:,}")
    table.add_row(f"find a true drop of {plan.resolution:g}", f"{plan.detect:,}")
    out.print(table)
    out.print(
        f"one-sided α {plan.alpha:g}, power {plan.power:g}, {plan.metrics} gated metric(s), "
        f"deviation of the paired differences {plan.deviation:.4g}, "
        f"design effect {plan.design_effect:.4g}"
    )


def _table(candidate: Candidate) -> Table:
    table = Table()
    table.add_column("metric", overflow="fold")
    table.add_column("")
    for head in ("n", "baseline", "candidate", "difference", "p", "p worse"):
        table.add_column(head, justify="right")
    table.add_column("outcome")
    for row in candidate.rows:
        outcome = cells.outcome(row)
        table.add_row(
            Text(f"{row.task}/{row.metric},{row.filter}"),
            cells.better(row),
            cells.documents(row),
            cells.value(row.baseline),
            cells.value(row.candidate),
            Text(cells.difference(row)),
            cells.p_value(row),
            cells.worse(row),
            Text(outcome, style=_COLOURS.get(outcome, "")),
        )
    return table


def _overview(comparison: Comparison) -> Table:
    table = Table()
    table.add_column("metric", overflow="fold")
    table.add_column("baseline", justify="right")
    for number, _ in enumerate(comparison.candidates, start=1):
        table.add_column(f"candidate {number}", overflow="fold")
    names = dict.fromkeys(row.name for one in comparison.candidates for row in one.rows)
    by_name = [{row.name: row for row in one.rows} for one in comparison.candidates]
    for name in names:
        rows = [found.get(name) for found in by_name]
        first = next(row for row in rows if row is not None)
        texts = [
            "not compared"
            if row is None
            else f"{cells.value(row.candidate)} ({cells.difference(row)}) {cells.outcome(row)}"
            for row in rows
        ]
        table.add_row(Text(name), cells.value(first.baseline), *(Text(text) for text in texts))
    return table
