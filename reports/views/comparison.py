"""A comparison of runs: the figures of the record as blocks, nothing computed."""

from __future__ import annotations

from collections.abc import Iterator

from eft_eval.comparing.comparison import Candidate, Comparison, Row, RunName, Side
from eft_eval.reports.document import (
    Cell,
    Column,
    Document,
    Page,
    Section,
    Table,
    Texts,
    cells,
    columns,
    warnings,
)
from eft_eval.reports.numbers import (
    counted,
    documents,
    ends,
    known,
    number,
    p_value,
    span,
)
from eft_eval.statistics.document_planning import ComparePlan

__all__ = [
    "ARROWS",
    "candidate_blocks",
    "candidate_pages",
    "compare_plan",
    "comparison",
    "figure",
    "measured",
    "run_label",
    "tolerance",
    "tolerances",
    "warned",
]

ARROWS = {"higher": "↑", "lower": "↓", None: ""}


def comparison(found: Comparison) -> Document:
    """Return one candidate in full, several as a table against the baseline."""
    several = len(found.candidates) > 1
    runs = [f"baseline: {run_label(found.baseline)}"]
    runs += [f"candidate: {run_label(one.run)}" for one in found.candidates]
    blocks: list[Table | Texts] = [Texts(tuple(runs))]
    if any(one.rows for one in found.candidates):
        blocks.append(_overview(found) if several else _table(found.candidates[0]))
    for one in found.candidates:
        head = f"{one.run.label}: " if several else ""
        blocks += [*_facts(one, head), *_changes(one, head)]
    blocks.append(_made(found, found.candidates[0]))
    for one in found.candidates:
        head = f"{one.run.label}: " if several else ""
        blocks.append(Texts((f"{head}{one.sentence}",), tone=one.outcome))
    return tuple(blocks)


def candidate_pages(found: Comparison) -> tuple[Page, ...]:
    """Return each candidate in full on a page of its own."""
    pages = []
    for one in found.candidates:
        runs = (f"Baseline: {run_label(found.baseline)}", f"Candidate: {run_label(one.run)}")
        section = Section("differences", "", "", (Texts(runs), *candidate_blocks(found, one)))
        pages.append(Page(one.run.label, one.outcome, one.outcome, (one.sentence,), (section,)))
    return tuple(pages)


def candidate_blocks(
    found: Comparison, one: Candidate, caption: str = "", *, gate: bool = True
) -> Document:
    """Return a candidate's table, what is to be said of it, and how it was made.

    Args:
        found: The comparison.
        one: The candidate.
        caption: Of the table.
        gate: Whether outcomes are shown.
    """
    tables = (_table(one, caption, gate),) if one.rows else ()
    return *tables, *_facts(one), *_changes(one), _made(found, one, gate)


def compare_plan(plan: ComparePlan) -> Document:
    """Return how many documents a comparison needs."""
    rows = (
        cells("certify that no larger drop happened", f"{plan.certify:,}"),
        cells(f"find a true drop of {plan.resolution:g}", f"{plan.detect:,}"),
    )
    note = (
        f"one-sided α {plan.alpha:g}, power {plan.power:g}, {plan.metrics} gated metric(s), "
        f"deviation of the paired differences {plan.deviation:.4g}, "
        f"design effect {plan.design_effect:.4g}"
    )
    caption = f"Documents to resolve {plan.resolution:g}"
    return (Table(caption, columns("to", numbers=("documents",)), rows, note),)


def run_label(run: RunName) -> str:
    """Return how to call a run."""
    return f"{run.label} ({run.model}, {run.date})" if run.date else f"{run.label} ({run.model})"


def figure(side: Side | None) -> float | None:
    """Return a run's figure: the mean over the paired documents, else as reported."""
    if side is None:
        return None
    return side.reported if side.mean is None else side.mean


def _difference(row: Row) -> Cell:
    """Return candidate - baseline, and its interval."""
    if row.difference is None or not known(row.difference.estimate):
        return Cell(number(None), _bounds(row))
    shown = [ends(row.difference, "+.4f")] + ([text] if (text := _bounds(row)) else [])
    return Cell(number(row.difference.estimate, "+.4f"), "; ".join(one for one in shown if one))


def _bounds(row: Row) -> str:
    """Return how far unknown scores could move a difference; nothing where all are known."""
    found = row.bounds
    if found is None or not found.unknown:
        return ""
    between = span(found.lower + 0.0, found.upper + 0.0, "+.4f")
    return f"bounds {between} of {found.unknown:,} unknown"


def measured(row: Row) -> str:
    """Return the difference of a row in words; nothing where nothing was paired."""
    if row.difference is None:
        return f"n = {row.documents}" if row.decision is not None and row.documents else ""
    return f"{_joined(_difference(row))}, n = {documents(row.documents, row.clusters)}"


def tolerance(row: Row) -> str:
    """Return the largest drop of a gated metric that is accepted, in words."""
    return "" if row.decision is None else f"tolerance {row.decision.tolerance:g}"


def tolerances(candidate: Candidate) -> str:
    """Return the tolerances of all gated metrics; nothing where none is gated."""
    found = {row.decision.tolerance for row in candidate.rows if row.decision is not None}
    if len(found) > 1:
        return f"tolerances {min(found):g} to {max(found):g}"
    return "".join(f"tolerance {one:g}" for one in found)


def warned(candidate: Candidate) -> list[str]:
    """Return what is to be known before any figure of a candidate is read."""
    notes = [f"{row.task}/{row.metric}: {note}" for row in candidate.rows for note in row.notes]
    return [*candidate.notes, *notes]


def _joined(cell: Cell) -> str:
    return f"{cell.text} {cell.small}" if cell.small else cell.text


def _table(candidate: Candidate, caption: str = "", gate: bool = True) -> Table:
    heads = columns("metric", "", numbers=("n", "baseline", "candidate", "difference", "p"))
    if gate:
        heads = (*heads, Column("p worse"), Column("outcome", False))
    rows = tuple((*_measures(row), *(_decided(row) if gate else ())) for row in candidate.rows)
    return Table(caption, heads, rows)


def _measures(row: Row) -> tuple[Cell, ...]:
    return (
        Cell(row.name),
        Cell(ARROWS[row.better]),
        Cell(documents(row.documents, row.clusters)),
        Cell(_value(row.baseline)),
        Cell(_value(row.candidate)),
        _difference(row),
        Cell(p_value(None if row.test is None else row.test.p_value)),
    )


def _decided(row: Row) -> tuple[Cell, Cell]:
    made = row.decision
    return Cell(p_value(None if made is None else made.p_worse_holm)), _outcome(row)


def _overview(found: Comparison) -> Table:
    heads = ("baseline", *(f"candidate {i}" for i, _ in enumerate(found.candidates, start=1)))
    by_name = [{row.name: row for row in one.rows} for one in found.candidates]
    rows = []
    for name in dict.fromkeys(name for one in by_name for name in one):
        known_rows = [one.get(name) for one in by_name]
        first = next(row for row in known_rows if row is not None)
        texts = ["not compared" if row is None else _summary(row) for row in known_rows]
        rows.append(cells(name, _value(first.baseline), *texts))
    (baseline, *others) = heads
    made = (*columns("metric", numbers=(baseline,)), *columns(*others))
    return Table("", made, tuple(rows))


def _summary(row: Row) -> str:
    shown = _joined(_difference(row))
    accepted = f", {tolerance(row)}" if row.decision and row.decision.tolerance else ""
    return f"{_value(row.candidate)} ({shown}) {_outcome(row).text}{accepted}"


def _value(side: Side | None) -> str:
    return "missing" if side is None else number(figure(side))


def _outcome(row: Row) -> Cell:
    """Return what the gate says; metrics that are only shown have no outcome."""
    made = row.decision
    if made is None:
        return Cell("shown")
    small = [tolerance(row)] if made.tolerance else []
    if made.outcome == "inconclusive" or made.accepted:
        small += [f"n = {documents(row.documents, row.clusters)}"]
        small += [f"finds a drop of {made.detectable:.2g}"] if made.detectable else []
    small += [f"n ≈ {made.items_to_decide:,} decides"] if made.items_to_decide else []
    return Cell(made.outcome, ", ".join(small), made.outcome)


def _facts(one: Candidate, head: str = "") -> tuple[Texts, ...]:
    """Return verdicts that are no scores, and the notes on a candidate and on its metrics."""
    lines = tuple(f"{head}verdicts of {line}" for line in _verdict_lines(one))
    return (
        *([Texts(lines, listed=True)] if lines else []),
        *warnings([f"{head}{text}" for text in warned(one)]),
    )


def _changes(one: Candidate, head: str = "") -> tuple[Table, ...]:
    """Return what else differs between the two runs; nothing where nothing does."""
    if not one.changes:
        return ()
    rows = tuple(cells(change.what, change.baseline, change.candidate) for change in one.changes)
    caption = f"{head}What else changed"
    return (Table(caption, columns("", "baseline", "candidate"), rows),)


def _verdict_lines(candidate: Candidate) -> Iterator[str]:
    """Yield one line per judged task and filter with verdicts that are no scores."""
    seen = set()
    for row in candidate.rows:
        old = row.baseline.verdicts if row.baseline else None
        new = row.candidate.verdicts if row.candidate else None
        none = "no verdicts"
        line = f"{row.task}, filter {row.filter}: {counted(old, none)} → {counted(new, none)}"
        if {*(old or ()), *(new or ())} - {"scored"} and line not in seen:
            seen.add(line)
            yield line


def _made(found: Comparison, candidate: Candidate, gate: bool = True) -> Texts:
    """Return how a table was made."""
    gated = sum(
        row.decision is not None and row.decision.p_worse is not None
        for one in found.candidates
        for row in one.rows
    )
    several = f" of {len(found.candidates)} candidates" if len(found.candidates) > 1 else ""
    text = (
        "difference: candidate - baseline on the same documents, "
        f"{100 * found.level:.4g} % interval; "
        f"p: McNemar mid-p, or sign flips (seed {found.seed})"
    )
    if gate:
        text += (
            f"; p worse: one-sided, Holm over {gated} gated metrics{several}, α = {found.alpha:g}"
        )
    if any(row.bounds and row.bounds.unknown for row in candidate.rows):
        text += "; bounds: with unknown scores the best and the worst"
        text += "; p worse counts them at their best, a pass at their worst" if gate else ""
    if gate and (accepted := tolerances(candidate)):
        text += f"; {accepted}"
    return Texts((text,), small=True)
