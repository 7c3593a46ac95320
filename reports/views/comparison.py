"""Cells that every form of a comparison shares: numbers of the record as text, nothing computed."""

from __future__ import annotations

from collections.abc import Mapping

from eft_eval.comparing.comparison import Candidate, Comparison, Row, RunName, Side

__all__ = [
    "better",
    "caption",
    "difference",
    "documents",
    "figure",
    "notes",
    "outcome",
    "p_value",
    "run_label",
    "value",
    "verdict_lines",
    "worse",
]

NONE = "–"


def value(side: Side | None) -> str:
    """Return a run's figure: the mean over the paired documents, else as reported."""
    if side is None:
        return "missing"
    number = figure(side)
    return NONE if number is None else f"{number:.4f}"


def figure(side: Side | None) -> float | None:
    """Return a run's figure as a number."""
    if side is None:
        return None
    return side.reported if side.mean is None else side.mean


def difference(row: Row) -> str:
    """Return candidate - baseline with its interval."""
    interval = row.difference
    if interval is None or interval.estimate != interval.estimate:
        return NONE
    text = f"{interval.estimate:+.4f}"
    if interval.lower == interval.lower:
        text += f" [{interval.lower:+.4f}, {interval.upper:+.4f}]"
    return text


def p_value(row: Row) -> str:
    """Return the p-value of the two-sided test."""
    return NONE if row.test is None else _p(row.test.p_value)


def worse(row: Row) -> str:
    """Return the one-sided p-value of "worse", after Holm's correction."""
    if row.decision is None or row.decision.p_worse_holm is None:
        return NONE
    return _p(row.decision.p_worse_holm)


def outcome(row: Row) -> str:
    """Return what the gate says; metrics that are only shown have none."""
    return "shown" if row.decision is None else row.decision.outcome


def better(row: Row) -> str:
    """Return an arrow for the better direction."""
    return {"higher": "↑", "lower": "↓", None: ""}[row.better]


def documents(row: Row) -> str:
    """Return the number of documents, and of clusters where there are any."""
    if row.clusters is not None:
        return f"{row.documents} in {row.clusters}"
    return str(row.documents)


def run_label(run: RunName) -> str:
    """Return how to call a run."""
    return f"{run.label} ({run.model}, {run.date})" if run.date else f"{run.label} ({run.model})"


def notes(candidate: Candidate) -> list[str]:
    """Return the notes on a candidate and on its metrics."""
    lines = list(candidate.notes)
    lines += [f"{row.task}/{row.metric}: {note}" for row in candidate.rows for note in row.notes]
    return lines


def verdict_lines(candidate: Candidate) -> list[str]:
    """Return one line per judged task and filter with verdicts that are no scores."""
    lines: dict[str, None] = {}
    for row in candidate.rows:
        old = row.baseline.verdicts if row.baseline else None
        new = row.candidate.verdicts if row.candidate else None
        if {*(old or ()), *(new or ())} - {"scored"}:
            lines[f"{row.task}, filter {row.filter}: {_counts(old)} → {_counts(new)}"] = None
    return list(lines)


def caption(comparison: Comparison, candidate: Candidate) -> str:
    """Return how the table was made."""
    gated = sum(row.decision is not None for row in candidate.rows)
    return (
        "difference: candidate - baseline on the same documents, "
        f"{100 * comparison.level:.4g} % interval; "
        f"p: McNemar mid-p, or sign flips (seed {comparison.seed}); p worse: one-sided, Holm over "
        f"{gated} gated metrics, α = {comparison.alpha:g}"
    )


def _counts(verdicts: Mapping[str, int] | None) -> str:
    if verdicts is None:
        return "no verdicts"
    return ", ".join(f"{count} {status}" for status, count in verdicts.items())


def _p(number: float) -> str:
    return "< 0.0001" if number < 0.0001 else f"{number:.4f}"
