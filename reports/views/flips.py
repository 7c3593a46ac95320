"""The section of the biggest flips: question and both runs' responses, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from eft_eval.reporting.flips import Change, Flip, Flips, Response, Said
from eft_eval.reporting.report import Report
from eft_eval.reports.document import (
    Answer,
    Block,
    Card,
    Cell,
    Section,
    SideView,
    Table,
    Texts,
    cells,
    columns,
)
from eft_eval.reports.numbers import number
from eft_eval.reports.views.quotes import prompt_quote, quote

__all__ = ["flips"]

LONGEST = 4_000
SHORTEST = 200
ROOM = 1_500_000
"""Characters of texts on a page: with many cards each text is cut the shorter."""


def flips(report: Report, room: int = ROOM) -> Section | None:
    """Return the section; None where nothing is compared or no document changed."""
    cards = sum(len(found.shown) for found in report.flips)
    if not cards:
        return None
    texts = sum(_count(flip) for found in report.flips for flip in found.shown)
    longest = max(SHORTEST, min(LONGEST, room // texts))
    blocks: list[Block] = []
    for found in report.flips:
        if not found.shown:
            continue
        name = report.runs[found.candidate + 1].short
        blocks.append(Texts((_summary(found, name),)))
        names = (report.runs[0].short, name)
        blocks += [_card(flip, found, names, longest) for flip in found.shown]
    lead = (
        "The documents on which a candidate differs most from the baseline, per gated metric: "
        "first those that got worse, then those that got better."
    )
    return Section("flips", "Biggest flips", lead, tuple(blocks))


def _count(flip: Flip) -> int:
    """Return how many texts a card shows: prompt, responses and reasons."""
    said = [one for one in (flip.baseline, flip.candidate) if one is not None]
    return 1 + sum(2 * len(one.responses) for one in said)


def _summary(found: Flips, name: str) -> str:
    parts = [
        f"{metric}: {down} worse, {found.better[metric]} better"
        for metric, down in found.worse.items()
    ]
    return f"{name}, {found.task} ({found.filter}): documents that changed, {'; '.join(parts)}."


def _card(flip: Flip, found: Flips, names: tuple[str, str], longest: int) -> Card:
    listed = [one for one in flip.changes if one.listed and one.gain]
    signs = {(one.gain or 0.0) < 0 for one in listed}
    tone: Literal["worse", "better", "mixed"] = "worse" if True in signs else "better"
    tone = "mixed" if len(signs) == 2 else tone
    changed = ", ".join(
        f"{one.metric} {number(one.baseline, '.4g')} → {number(one.candidate, '.4g')}"
        for one in listed
    )
    table = Table(
        f"{found.task}, document {flip.doc_id}: scores of {names[1]}",
        columns("metric", numbers=names),
        tuple(map(_row, flip.changes)),
    )
    return Card(
        title=f"{found.task}, document {flip.doc_id}: {changed}",
        tone=tone,
        prompt=prompt_quote(flip.prompt, flip.prompt_characters, longest),
        table=table,
        sides=(
            _side(f"{names[0]} (baseline)", flip.baseline, longest),
            _side(names[1], flip.candidate, longest),
        ),
    )


def _row(change: Change) -> tuple[Cell, ...]:
    both = (number(one, ".4g") for one in (change.baseline, change.candidate))
    return cells(change.metric, *both)


def _side(title: str, said: Said | None, longest: int) -> SideView:
    if said is None:
        return SideView(title, (), "no texts: its file holds only numbers", "")
    rest = said.total - len(said.responses)
    more = f"… and {rest} more response{'s' if rest > 1 else ''}" if rest else ""
    return SideView(title, tuple(_answers(said.responses, longest)), "", more)


def _answers(responses: Sequence[Response], longest: int) -> list[Answer]:
    found = []
    for one in responses:
        verdict, reason = "", None
        if one.reason is not None:
            verdict = one.reason.status
            if one.reason.value is not None:
                verdict = f"score {number(one.reason.value, '.4g')}"
            if one.reason.text:
                reason = quote(one.reason.text, len(one.reason.text), longest)
        found.append(Answer(quote(one.text, one.characters, longest), verdict, reason))
    return found
