"""Normalised improvements averaged over families."""

from __future__ import annotations

from collections.abc import Iterator

from eft_eval.reports.document import Block, Cell, Page, Panel, Section, Table, columns
from eft_eval.reports.numbers import NONE, documents, with_ends
from eft_eval.reports.views.bars import bar, figure, improvement_cell
from eft_eval.reports.views.demo import CAVEAT
from eft_eval.study.averages import Averaged, FamiliesResults

__all__ = ["families_page"]


_NOTHING = {
    False: "No family is whole yet: there is nothing to say.",
    True: "The families have no metric with documents in common: nothing is averaged.",
}


def families_page(found: FamiliesResults) -> Page:
    """Return the page of several families' scaling studies."""
    names = ", ".join(found.families) or "none"
    notes = [f"Families: {names}. Seeds of the noise: {', '.join(map(str, found.seeds))}."]
    if found.missing:
        notes.append(f"Not whole, and so left out: {', '.join(found.missing)}.")
    notes += [f"{text}." for text in found.left_out]
    if "demo" in found.families:
        notes.append(CAVEAT)
    return Page(
        title=f"scaling, {len(found.families)} families",
        tone="plain",
        verdict="Study",
        sentences=tuple(_sentences(found)) or (_NOTHING[bool(found.families)],),
        sections=(_section(found),) if found.averages else (),
        notes=tuple(notes),
        footer=f"Made by eft-eval {found.version}, from the studies' runs alone.",
    )


def _sentences(found: FamiliesResults) -> Iterator[str]:
    for one in found.averages:
        if not one.families:
            yield (
                f"{one.metric}: no family's large tuned model is clearly better than its small "
                "one: nothing is averaged."
            )
            continue
        said = ", ".join(
            f"{arm} {with_ends(interval, '.2f')}" for arm, interval in one.improvements.items()
        )
        yield (
            f"{one.metric}: of the improvement from small to large tuned, on average over "
            f"{_families(one)}, {said}."
        )


def _families(one: Averaged) -> str:
    left = f" (without {', '.join(one.left_out)}: too little to divide by)" if one.left_out else ""
    return f"{', '.join(one.families)}{left}"


def _section(found: FamiliesResults) -> Section:
    arms = list(dict.fromkeys(arm for one in found.averages for arm in one.improvements))
    rows, panels = [], []
    for one in found.averages:
        row = [Cell(one.metric), Cell(", ".join(one.families) or NONE)]
        row.append(Cell(documents(one.documents, one.clusters)))
        row += [improvement_cell(one.improvements.get(arm)) for arm in arms]
        rows.append(tuple(row))
        bars = tuple(bar(arm, interval) for arm, interval in one.improvements.items())
        if bars:
            marks = {"small tuned": 0.0, "large tuned": 1.0}
            panels.append(Panel(one.metric, "mean normalised improvement", bars, marks))
    level = f"{100 * found.level:.4g} %"
    note = (
        f"Means of the families' normalised improvements with {level} intervals (delta method) "
        "over the documents that all families share, clustered where prompts repeat: of these "
        "families, not of others. Families whose large tuned model is not clearly better are left "
        "out."
    )
    heads = columns("metric", "families", numbers=("n", *arms))
    table = Table("Normalised improvement, averaged over families", heads, tuple(rows), note)
    caption = (
        f"Normalised improvement averaged over families, with {level} intervals; dashed: the small "
        "tuned models (0) and the large tuned ones (1)."
    )
    blocks: tuple[Block, ...] = (table, *figure("families", caption, panels))
    lead = "How far each arm goes from the small tuned model (0) to the large tuned one (1)."
    return Section("families", "Averaged over families", lead, blocks)
