"""The first sections: verdict, runs, scores, differences, what the arms carry over, frontiers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Literal

from eft_eval.comparing.comparison import Candidate, Row
from eft_eval.reporting.frontier import Frontier
from eft_eval.reporting.report import Improvement, Report
from eft_eval.reporting.scores import Score
from eft_eval.reports.document import (
    Bar,
    Block,
    Cell,
    Figure,
    Line,
    Panel,
    Plane,
    Section,
    Table,
    Texts,
    Tone,
    columns,
)
from eft_eval.reports.numbers import NONE, counted, documents, ends, known, number, reported
from eft_eval.reports.views.bars import bar, figure, improvement_cell, improvement_note
from eft_eval.reports.views.comparison import ARROWS, candidate_blocks

__all__ = ["differences", "frontiers", "improvements", "scores", "verdict_of"]

_WORDS = {"regression": "Regression", "pass": "Pass", "inconclusive": "Inconclusive"}


def verdict_of(report: Report) -> tuple[Tone, str, tuple[str, ...]]:
    """Return tone, word and sentences of the verdict."""
    found = report.comparison
    if found is None:
        run = report.runs[0]
        text = f"One run of {run.name.model}: its figures, compared with nothing."
        return "plain", "One run", (text,)
    if len(found.candidates) == 1:
        return found.outcome, _WORDS[found.outcome], (found.candidates[0].sentence,)
    names = [run.short for run in report.runs[1:]]
    # in short; the section of differences has the sentences in full
    sentences = tuple(
        f"{name}: {one.sentence.partition(': ')[0].rstrip('.')}."
        if one.outcome != "pass"
        else f"{name}: {one.sentence}"
        for name, one in zip(names, found.candidates, strict=True)
    )
    return found.outcome, _WORDS[found.outcome], sentences


def scores(report: Report) -> Section:
    """Return every metric of every run, with interval and n."""
    names = dict.fromkeys(score.name for run in report.runs for score in run.scores)
    by_run = [{score.name: score for score in run.scores} for run in report.runs]
    main = [name for name in names if name in report.main]
    rest = [name for name in names if name not in report.main]
    level = f"{100 * report.level:.4g} %"
    note = (
        f"Below each figure its {level} interval: Wilson's for rates, Student's t else, clustered "
        "where prompts repeat. n: documents with a number; ± is lm-eval's standard error, shown "
        "where there are no samples to make an interval of. Better: ↑ higher, ↓ lower."
    )
    blocks: list[Block] = [
        _score_table(report, "Scores with intervals", main or rest, by_run, note)
    ]
    if len(report.runs) > 1 or len(main) > 1:
        blocks += _score_figure(report, main, by_run, level)
    if main and rest:
        caption = "Further metrics: shares of responses without a score, groups, no direction known"
        blocks.append(_score_table(report, caption, rest, by_run, ""))
    lines = tuple(
        f"{run.short}: verdicts of {line}" for run in report.runs for line in _verdicts(run.scores)
    )
    if lines:
        blocks.append(Texts(lines, listed=True))
    lead = "The mean over the documents that have a number. Nothing missing is averaged in."
    return Section("scores", "Scores", lead, tuple(blocks))


def _named(name: str, better: Literal["higher", "lower"] | None) -> str:
    """Return a metric's name with an arrow in its better direction."""
    return f"{name}\u00a0{ARROWS[better]}" if better else name


def _verdicts(found: tuple[Score, ...]) -> list[str]:
    lines: dict[str, None] = {}
    for score in found:
        if score.verdicts and set(score.verdicts) - {"scored"}:
            lines[f"{score.task}, {score.filter}: {counted(score.verdicts)}"] = None
    return list(lines)


def _score_table(
    report: Report, caption: str, names: list[str], by_run: list[dict[str, Score]], note: str
) -> Table:
    several = len(report.runs) > 1
    numbers = ("n", *(run.short if several else "score" for run in report.runs))
    rows = []
    for name in names:
        known = [found[name] for found in by_run if name in found]
        row = [Cell(_named(name, known[0].better)), Cell(_counts(known))]
        row += [_score_cell(found.get(name)) for found in by_run]
        rows.append(tuple(row))
    return Table(caption, columns("metric", numbers=numbers), tuple(rows), note)


def _counts(found: list[Score]) -> str:
    """Return the number of documents; of several runs with different numbers all of them."""
    texts = []
    for one in found:
        text = documents(one.documents, one.clusters) if one.documents else NONE
        texts.append(f"{text} ({one.missing} missing)" if one.missing else text)
    return ", ".join(dict.fromkeys(texts))


def _score_cell(score: Score | None) -> Cell:
    if score is None:
        return Cell("missing")
    if score.value is None:
        return Cell("no number")
    text, small = reported(score.value, score.interval)
    if not small and score.standard_error is not None:
        small = f"± {score.standard_error:.4f}"
    return Cell(text, small)


def _score_figure(
    report: Report, names: list[str], by_run: list[dict[str, Score]], level: str
) -> tuple[Figure, ...]:
    panels = []
    for name in names:
        known = next(found[name] for found in by_run if name in found)
        bars = tuple(
            bar(run.short, found[name].interval, index == 0)
            for index, (run, found) in enumerate(zip(report.runs, by_run, strict=True))
            if name in found and found[name].interval is not None
        )
        if bars:
            panels.append(Panel(_named(name, known.better), "mean over documents", bars, {}))
    caption = (
        f"Scores with {level} intervals, a panel for each metric. ↑ higher, ↓ lower is better."
    )
    if len(report.runs) > 1:
        caption += f" Hollow: the baseline, {report.runs[0].short}."
    return figure("scores", caption, panels)


def differences(report: Report) -> Section | None:
    """Return the candidates' differences to the baseline; None for one run."""
    found = report.comparison
    if found is None:
        return None
    blocks: list[Block] = []
    names = [run.short for run in report.runs[1:]]
    for name, candidate in zip(names, found.candidates, strict=True):
        if len(names) > 1:
            blocks.append(Texts((f"{name}: {candidate.sentence}",)))
        caption = f"{name} against {report.runs[0].short}"
        blocks += candidate_blocks(found, candidate, caption)
    blocks += _difference_figure(report, names, found.candidates)
    lead = (
        "Each metric is compared document by document. A regression is a drop beyond the tolerance "
        "that the data confirm; where they decide neither way, the outcome is inconclusive, with "
        "the number of documents that would."
    )
    return Section("differences", "Differences to the baseline", lead, tuple(blocks))


def _difference_figure(
    report: Report, names: list[str], candidates: tuple[Candidate, ...]
) -> tuple[Figure, ...]:
    panels: dict[str, tuple[Row, list[Bar]]] = {}
    for name, candidate in zip(names, candidates, strict=True):
        for row in candidate.rows:
            interval = row.difference
            if not row.is_gated_score or interval is None or not known(interval.estimate):
                continue
            panels.setdefault(row.name, (row, []))[1].append(bar(name, interval))
    found = []
    for title, (row, bars) in panels.items():
        marks = {"no difference": 0.0}
        if row.decision is not None and row.decision.tolerance:
            sign = 1.0 if row.better == "lower" else -1.0
            marks["tolerance"] = sign * row.decision.tolerance
        better = {"higher": "right", "lower": "left", None: ""}[row.better]
        axis = f"candidate - baseline{f' (better: {better})' if better else ''}"
        found.append(Panel(_named(title, row.better), axis, tuple(bars), marks))
    caption = (
        f"Differences to {report.runs[0].short} on the same documents, with "
        f"{100 * report.level:.4g} % intervals. Dashed: no difference"
        + ("; dotted: the tolerance." if any(len(one.marks) > 1 for one in found) else ".")
    )
    return figure("differences", caption, found)


def improvements(report: Report) -> Section | None:
    """Return what the arms carry over; None where there are no arms."""
    if not report.improvements:
        return None
    by_metric: dict[str, list[Improvement]] = {}
    for one in report.improvements:
        by_metric.setdefault(f"{one.task}/{one.metric},{one.filter}", []).append(one)
    between = list(dict.fromkeys(one.run for one in report.improvements))
    numbers = ("n", "large tuned - small tuned", *(report.runs[index].short for index in between))
    rows, panels = [], []
    for name, found in by_metric.items():
        by_run = {one.run: one for one in found}
        gap = found[0].gap
        row = [
            Cell(name),
            Cell(", ".join(dict.fromkeys(documents(one.documents, one.clusters) for one in found))),
        ]
        row.append(Cell(number(gap.estimate, "+.4f"), ends(gap, "+.4f")))
        for index in between:
            known = index in by_run
            row.append(improvement_cell(by_run[index].interval if known else None, known))
        rows.append(tuple(row))
        bars = tuple(bar(report.runs[one.run].short, one.interval) for one in found if one.interval)
        if bars:
            marks = {"small tuned": 0.0, "large tuned": 1.0}
            panels.append(Panel(name, "normalised improvement", bars, marks))
    note = improvement_note(report.level)
    table = Table("Normalised improvement", columns("metric", numbers=numbers), tuple(rows), note)
    caption = (
        "Normalised improvement with intervals; dashed: the small tuned model (0) and the large "
        "tuned one (1), as in the paper's Figure 3."
    )
    figures = figure("improvements", caption, panels)
    lead = "How far each arm goes from the small tuned model (0) to the large tuned one (1)."
    return Section("improvements", "What the arms carry over", lead, (table, *figures))


def frontiers(report: Report) -> Section | None:
    """Return the frontiers; None where no runs differ in a weight alone."""
    if not report.frontiers:
        return None
    blocks: list[Block] = []
    for place, frontier in enumerate(report.frontiers, start=1):
        blocks += _frontier(report, frontier, place)
    lead = "Runs of one composite that differ in nothing but a weight, α."
    return Section("frontiers", "Frontiers", lead, tuple(blocks))


def _frontier(report: Report, frontier: Frontier, place: int) -> list[Block]:
    by_point = [
        {score.name: score for score in report.runs[point.run].scores} for point in frontier.points
    ]
    names = [name for name in report.main if all(name in found for found in by_point)]
    delta = f"α: weight of {PurePath(frontier.delta).name}"
    delta += f"; {frontier.others}" if frontier.others else ""
    numbers = tuple(f"α = {point.weight:g}" for point in frontier.points)
    rows = [
        (
            Cell(_named(name, by_point[0][name].better)),
            *(_score_cell(found[name]) for found in by_point),
        )
        for name in names
    ]
    runs = ", ".join(f"{p.weight:g} is {report.runs[p.run].short}" for p in frontier.points)
    table = Table(
        f"Frontier {place}, {delta}",
        columns("metric", numbers=numbers),
        tuple(rows),
        f"Runs: α = {runs}.",
    )
    caption = f"Frontier {place}, {delta}, with {100 * report.level:.4g} % intervals."
    drawn = [name for name in names if all(found[name].interval for found in by_point)]
    panels: list[Panel | Line | Plane] = []
    if frontier_pair := _pair(drawn, by_point[0]):
        panels.append(_plane(frontier, by_point, *frontier_pair))
    for name in drawn:
        points = tuple(
            (point.weight, bar(f"α = {point.weight:g}", found[name].interval))
            for point, found in zip(frontier.points, by_point, strict=True)
        )
        panels.append(Line(_named(name, by_point[0][name].better), "α", points))
    return [table, *figure(f"frontier-{place}", caption, panels)]


def _pair(names: list[str], known: Mapping[str, Score]) -> tuple[str, str] | None:
    """Return the metrics to set against each other: harm and helpfulness, else of two tasks."""
    by_metric = {known[name].metric: name for name in reversed(names)}
    if {"harm", "helpfulness"} <= by_metric.keys():
        return by_metric["harm"], by_metric["helpfulness"]
    first = names[:1]
    second = [name for name in names if known[name].task != known[names[0]].task]
    return (first[0], second[0]) if second else None


def _plane(frontier: Frontier, by_point: list[dict[str, Score]], across: str, up: str) -> Plane:
    points = tuple(
        (f"α = {p.weight:g}", bar("", found[across].interval), bar("", found[up].interval))
        for p, found in zip(frontier.points, by_point, strict=True)
    )
    axis_x, axis_y = (_named(name, by_point[0][name].better) for name in (across, up))
    return Plane("The trade-off", axis_x, axis_y, points)
