"""What judging two runs against each other gave: win rates, what the judge makes of places."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from eft_eval.reports.document import Cell, Document, Table, Texts, cells, columns
from eft_eval.reports.numbers import NONE, number, percent
from eft_eval.statistics.interval import Interval
from eft_eval.statistics.length_control import LENGTH_MODEL

if TYPE_CHECKING:
    from eft_eval.judging.pairs import PairCounts, PairedTask
    from eft_eval.judging.pairwise import JudgedPairs, TwoRuns
    from eft_eval.judging.preferences import Figures

__all__ = ["judged_pairs"]

_NAMES = {
    "win_rate": "win rate of A",
    "win_rate_shown_first": "A shown first",
    "win_rate_shown_second": "B shown first",
    "ties": "ties",
    "prefers_first_shown": "first one shown preferred (no bias: 0.5)",
    "same_in_both_orders": "same outcome in both orders",
}


def judged_pairs(found: JudgedPairs, runs: TwoRuns) -> Document:
    """Return a table for every task of pairs, and what was left out of it."""
    blocks: list[Table | Texts] = []
    for task in found.tasks:
        figures, judge = found.figures[task.name], found.judges[task.name]
        title = f"{task.name}: A {runs.a.label}, B {runs.b.label}, judged by {judge.model}"
        heads = columns("", numbers=("value", "standard error", "95 % interval"))
        blocks.append(Table(title, heads, tuple(_rows(figures))))
        blocks.append(Texts(tuple(_said(task, figures))))
    blocks.append(Texts(tuple(f"written: {path}" for path in found.files)))
    return tuple(blocks)


def _rows(figures: Figures) -> Iterator[tuple[Cell, ...]]:
    for metric, name in _NAMES.items():
        mean = figures.metrics[metric]
        yield _row(name, mean.interval, mean.standard_error)
    length = figures.length_controlled
    if length is not None and not length.reason:
        name = "length-controlled win rate of A"
        yield _row(name, length.interval, length.standard_error)
    for metric, mean in figures.metrics.items():
        if metric not in _NAMES and mean.interval.estimate > 0:
            share = metric.removeprefix("pair_")
            yield _row(f"pairs {share}", mean.interval, mean.standard_error)
    if figures.bounds.unknown:
        lower, upper = figures.bounds.lower, figures.bounds.upper
        ends = f"{number(lower)} to {number(upper)}"
        name = f"bounds, whatever {figures.bounds.unknown} unknown pairs are"
        yield cells(name, "", "", ends)


def _row(name: str, interval: Interval, error: float) -> tuple[Cell, ...]:
    lower, upper = number(interval.lower), number(interval.upper)
    ends = NONE if NONE in (lower, upper) else f"{lower} to {upper}"
    return cells(name, number(interval.estimate), number(error), ends)


def _said(task: PairedTask, figures: Figures) -> Iterator[str]:
    counts = task.counts
    scored = figures.metrics["win_rate"]
    yield f"{counts.documents} documents, {counts.pairs} pairs; {scored.n} documents scored"
    if figures.prompts < counts.documents:
        yield f"prompts repeat: standard errors are clustered by {figures.prompts} prompts"
    yield from _odd(counts)
    yield from scored.warnings
    same = figures.metrics["same_in_both_orders"].interval.estimate
    if same < 0.5:
        yield (
            f"the judge gives {percent(1 - same)} of the pairs another outcome in the other order: "
            "places count more for it than responses"
        )
    length = figures.length_controlled
    if length is None:
        return
    if length.reason:
        yield f"no length-controlled win rate: {length.reason}"
        return
    yield f"length-controlled: {LENGTH_MODEL}; its coefficient is {number(length.slope)}"
    yield from length.warnings


def _odd(counts: PairCounts) -> Iterator[str]:
    left_out = (
        (counts.only_first, "only in A"),
        (counts.only_second, "only in B"),
        (counts.other_text, "with other texts in B"),
    )
    if any(count for count, _ in left_out):
        said = ", ".join(f"{count} {what}" for count, what in left_out if count)
        yield f"documents left out: {said}"
    if counts.unpaired:
        yield f"responses left out, as the other run has fewer repeats: {counts.unpaired}"
    if counts.prompts_changed:
        yield f"documents that A and B were asked with other prompts: {counts.prompts_changed}"
    for count, what in (
        (counts.absent, "pairs of which a response never came"),
        (counts.unfinished, "pairs with a response whose reasoning did not end"),
        (counts.empty_first, "empty responses of A"),
        (counts.empty_second, "empty responses of B"),
        (counts.equal, "pairs of equal responses"),
    ):
        if count:
            yield f"{what}: {count}"
