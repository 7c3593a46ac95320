"""A comparison as Markdown, for a pull request or GitHub's step summary."""

from __future__ import annotations

import re

from eft_eval.comparing.comparison import Candidate, Comparison, Row
from eft_eval.reports.views import comparison as cells

__all__ = ["LARGEST", "comparison_markdown"]

LARGEST = 512 * 1024
"""GitHub cuts a step summary off at a mebibyte; half of it leaves room for other steps."""
_MARKS = {"regression": "❌ regression", "pass": "✅ pass", "inconclusive": "⚠️ inconclusive"}
_ROOM = 8 * 1024  # for what follows the table


def comparison_markdown(comparison: Comparison) -> str:
    """Return Markdown of less than `LARGEST` bytes; rows that do not fit are counted.

    Headings start at ``###``, as it stands inside a page of others.
    """
    share = LARGEST // len(comparison.candidates)
    blocks = [_candidate(comparison, one, share) for one in comparison.candidates]
    return "\n".join(blocks)


def _candidate(comparison: Comparison, candidate: Candidate, largest: int) -> str:
    head = [
        f"### {_MARKS[candidate.outcome]}: {_plain(candidate.run.label)}",
        "",
        _short(_plain(candidate.sentence)),
        "",
        f"Baseline: {_plain(cells.run_label(comparison.baseline))}  ",
        f"Candidate: {_plain(cells.run_label(candidate.run))}",
        "",
        "| metric | | n | baseline | candidate | difference | p | p worse | outcome |",
        "|---|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    tail = ["", f"<sub>{_plain(cells.caption(comparison, candidate))}</sub>", ""]
    room = largest - _ROOM - sum(len(line.encode()) + 1 for line in (*head, *tail))
    rows, room = _fitting([_row(row) for row in candidate.rows], room, "more metrics")
    facts = [f"- verdicts of {line}" for line in cells.verdict_lines(candidate)]
    facts += [f"- {note}" for note in cells.notes(candidate)]
    notes, _ = _fitting([_plain(fact) for fact in facts], room, "more notes")
    return "\n".join([*head, *rows, *([""] if notes else []), *notes, *tail])


def _row(row: Row) -> str:
    found = (
        f"{row.task}/{row.metric},{row.filter}",
        cells.better(row),
        cells.documents(row),
        cells.value(row.baseline),
        cells.value(row.candidate),
        cells.difference(row),
        cells.p_value(row),
        cells.worse(row),
        _MARKS.get(cells.outcome(row), cells.outcome(row)),
    )
    return f"| {' | '.join(_plain(cell) for cell in found)} |"


def _fitting(lines: list[str], room: int, what: str) -> tuple[list[str], int]:
    kept: list[str] = []
    for line in lines:
        size = len(line.encode()) + 1
        if size > room:
            return [*kept, "", f"… and {len(lines) - len(kept)} {what}."], 0
        kept.append(line)
        room -= size
    return kept, room


def _short(text: str, longest: int = 4000) -> str:
    return text if len(text) <= longest else f"{text[:longest]} …"


def _plain(text: str) -> str:
    """Return text that Markdown and HTML read as text; names of runs and models are anybody's."""
    text = re.sub(r"\s+", " ", text)
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*\[\]|]|(?<!\w)_|_(?!\w))", r"\\\1", text)
