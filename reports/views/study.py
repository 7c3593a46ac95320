"""A study's page: what it found in sentences, then tables and figures."""

from __future__ import annotations

from collections.abc import Iterator
from math import isnan

from eft_eval.reports.document import Block, Cell, Page, Panel, Section, Table, columns
from eft_eval.reports.numbers import documents, ends, number, reported, with_ends
from eft_eval.reports.views.bars import bar, figure, improvement_cell, improvement_note
from eft_eval.reports.views.demo import CAVEAT
from eft_eval.reports.views.scores import named
from eft_eval.reports.views.study_parts import (
    distances,
    parts_sentences,
    sequence,
    speed,
    trade_off,
)
from eft_eval.study.numbers import Aggregate
from eft_eval.study.results import Scores, StudyResults
from eft_eval.study.scaling import CarriedOver

__all__ = ["study_page"]

_NOTHING = {
    False: "No arm is whole yet: there is nothing to say.",
    True: "The arms that are whole leave nothing to compare; their scores are below.",
}


def study_page(found: StudyResults) -> Page:
    """Return the page of a study."""
    sections = (
        _carried_over(found),
        _contrasts(found),
        trade_off(found),
        speed(found),
        distances(found),
        sequence(found),
        _scores(found),
        _aggregates(found),
    )
    seeds = ", ".join(map(str, found.seeds))
    notes = [f"Models: {found.description or found.family}. Seeds of the noise: {seeds}."]
    if found.missing:
        notes.append(f"Not whole, and so left out: {', '.join(found.missing)}.")
    notes += [f"{text}; its documents are left out of every arm." for text in found.unscored]
    if found.family == "demo":
        notes.append(CAVEAT)
    return Page(
        title=f"{found.analysis}, {found.family}",
        tone="plain",
        verdict="Study",
        sentences=tuple(_sentences(found)) or (_NOTHING[bool(found.arms)],),
        sections=tuple(one for one in sections if one is not None),
        notes=tuple(notes),
        footer=f"Made by eft-eval {found.version}, from the study's runs alone.",
    )


def _sentences(found: StudyResults) -> Iterator[str]:
    """Yield the findings, each with its interval, or that there is none."""
    yield from parts_sentences(found)
    for one in found.carried_over:
        yield f"{one.metric}: {_carried_sentence(one)}"
    for contrast in found.contrasts:
        apart = [
            f"{arm} {with_ends(interval, '+.4f')}"
            for arm, interval in contrast.differences.items()
            if interval.lower > 0 or interval.upper < 0
        ]
        said = ", ".join(apart) or "no arm differs with that confidence"
        yield f"{contrast.metric} against {contrast.against}: {said}"


def _carried_sentence(one: CarriedOver) -> str:
    gap = f"large tuned - small tuned is {with_ends(one.gap, '+.4f')}"
    known = {arm: interval for arm, interval in one.improvements.items() if interval is not None}
    if not known and isnan(one.gap.lower) and one.gap.estimate:
        return f"{gap}, without an interval: nothing is said of the arms between."
    if not known and (one.gap.upper < 0 if one.higher_is_better else one.gap.lower > 0):
        return f"{gap}: the large tuned model is the worse one, no improvement to carry over."
    if not one.improvements:
        return f"{gap}; no arm between them is whole."
    if not known:
        return f"{gap}, too little to divide by: nothing is said of the arms between."
    said = ", ".join(f"{arm} {with_ends(interval, '.2f')}" for arm, interval in known.items())
    return f"of the improvement from small to large tuned, {said}."


def _level(found: StudyResults) -> str:
    return f"{100 * found.level:.4g} %"


def _carried_over(found: StudyResults) -> Section | None:
    if not found.carried_over:
        return None
    arms = list(found.carried_over[0].improvements)
    rows, panels = [], []
    for one in found.carried_over:
        row = [Cell(one.metric), Cell(documents(one.documents, one.clusters))]
        row.append(Cell(number(one.gap.estimate, "+.4f"), ends(one.gap, "+.4f")))
        row += [improvement_cell(one.improvements[arm]) for arm in arms]
        rows.append(tuple(row))
        bars = tuple(
            bar(arm, interval) for arm, interval in one.improvements.items() if interval is not None
        )
        if bars:
            marks = {"small tuned": 0.0, "large tuned": 1.0}
            panels.append(Panel(one.metric, "normalised improvement", bars, marks))
    heads = columns("metric", numbers=("n", "large tuned - small tuned", *arms))
    table = Table("Normalised improvement", heads, tuple(rows), improvement_note(found.level))
    caption = (
        f"Normalised improvement with {_level(found)} intervals; dashed: the small tuned model (0) "
        "and the large tuned one (1)."
    )
    lead = "How far each arm goes from the small tuned model (0) to the large tuned one (1)."
    blocks: tuple[Block, ...] = (table, *figure("improvements", caption, panels))
    return Section("improvements", "What the arms carry over", lead, blocks)


def _contrasts(found: StudyResults) -> Section | None:
    if not found.contrasts:
        return None
    against = found.contrasts[0].against
    arms = list(found.contrasts[0].differences)
    rows, panels = [], []
    for one in found.contrasts:
        row = [Cell(one.metric)]
        for arm in arms:
            interval = one.differences[arm]
            row.append(Cell(number(interval.estimate, "+.4f"), ends(interval, "+.4f")))
        rows.append(tuple(row))
        bars = tuple(bar(arm, one.differences[arm]) for arm in arms)
        panels.append(Panel(one.metric, f"difference to {against}", bars, {"none": 0.0}))
    note = (
        f"Paired over documents, with {_level(found)} t intervals, clustered where prompts repeat."
    )
    table = Table(
        f"Differences to {against}", columns("metric", numbers=tuple(arms)), tuple(rows), note
    )
    caption = f"Differences to {against} with {_level(found)} intervals; dashed: none."
    blocks: tuple[Block, ...] = (table, *figure("differences", caption, panels))
    return Section("differences", "Differences", "Each arm minus one of them.", blocks)


def _named(one: Scores | Aggregate) -> str:
    if one.higher_is_better is None:
        return one.metric
    return named(one.metric, "higher" if one.higher_is_better else "lower")


def _scores(found: StudyResults) -> Section | None:
    if not found.scores:
        return None
    rows, panels = [], []
    for one in found.scores:
        name = _named(one)
        count = documents(one.documents, one.clusters)
        row = [Cell(name), Cell(f"{count} ({one.dropped} dropped)" if one.dropped else count)]
        row += [Cell(*reported(one.means[arm].estimate, one.means[arm])) for arm in found.arms]
        rows.append(tuple(row))
        bars = tuple(bar(arm, one.means[arm]) for arm in found.arms)
        panels.append(Panel(name, "mean over documents", bars, {}))
    several = f" Means over {len(found.seeds)} seeds." if len(found.seeds) > 1 else ""
    note = (
        f"Below each figure its {_level(found)} interval over documents: Wilson's for rates of one "
        "seed, Student's t else, clustered where prompts repeat. n: documents that every run has a "
        f"number for.{several} ↑ higher, ↓ lower is better."
    )
    table = Table("Scores", columns("metric", numbers=("n", *found.arms)), tuple(rows), note)
    caption = f"Scores with {_level(found)} intervals. ↑ higher, ↓ lower is better."
    blocks: tuple[Block, ...] = (table, *figure("scores", caption, panels))
    return Section("scores", "Scores", "Every metric of every arm.", blocks)


def _aggregates(found: StudyResults) -> Section | None:
    if not found.aggregates:
        return None
    rows = []
    for one in found.aggregates:
        figures = [one.values[arm] for arm in found.arms]
        row = [Cell(_named(one)), *(Cell("no number" if f is None else number(f)) for f in figures)]
        rows.append((*row, Cell(one.reason)))
    several = f" Means over {len(found.seeds)} seeds." if len(found.seeds) > 1 else ""
    note = f"Without intervals, so that nothing follows from a difference.{several}"
    heads = (*columns("metric", numbers=found.arms), *columns("why"))
    table = Table("As lm-eval reports them", heads, tuple(rows), note)
    lead = "Metrics that are no mean over documents that all runs share."
    return Section("aggregates", "Further metrics", lead, (table,))
