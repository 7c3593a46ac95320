"""The first sections: verdict, runs, scores, differences, what the arms carry over."""

from __future__ import annotations

from typing import Literal

from eft_eval.comparing.comparison import Candidate, Row
from eft_eval.reporting.report import Improvement, Report
from eft_eval.reporting.scores import Score
from eft_eval.reports.document import (
    Bar,
    Block,
    Cell,
    Figure,
    Panel,
    Section,
    Table,
    Texts,
    Tone,
    columns,
)
from eft_eval.reports.numbers import NONE, counted, documents, ends, known, number, reported
from eft_eval.reports.views.bars import bar, figure, improvement_cell, improvement_note
from eft_eval.reports.views.comparison import ARROWS, candidate_blocks

__all__ = ["differences", "improvements", "named", "score_cell", "scores", "verdict_of"]

_WORDS = {"regression": "Regression", "pass": "Pass", "inconclusive": "Inconclusive"}


def verdict_of(report: Report) -> tuple[Tone, str, tuple[str, ...]]:
    """Return tone, word and sentences of the verdict; a study has none."""
    found = report.comparison
    if found is None or not report.gate:
        return "plain", "", ()
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


def named(name: str, better: Literal["higher", "lower"] | None) -> str:
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
        row = [Cell(named(name, known[0].better)), Cell(_counts(known))]
        row += [score_cell(found.get(name)) for found in by_run]
        rows.append(tuple(row))
    return Table(caption, columns("metric", numbers=numbers), tuple(rows), note)


def _counts(found: list[Score]) -> str:
    """Return the number of documents; of several runs with different numbers all of them."""
    texts = []
    for one in found:
        text = documents(one.documents, one.clusters) if one.documents else NONE
        texts.append(f"{text} ({one.missing} missing)" if one.missing else text)
    return ", ".join(dict.fromkeys(texts))


def score_cell(score: Score | None) -> Cell:
    """Return a score with its interval, or why there is none."""
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
            panels.append(Panel(named(name, known.better), "mean over documents", bars, {}))
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
        if len(names) > 1 and report.gate:
            blocks.append(Texts((f"{name}: {candidate.sentence}",)))
        caption = f"{name} against {report.runs[0].short}"
        blocks += candidate_blocks(found, candidate, caption, gate=report.gate)
    blocks += _difference_figure(report, names, found.candidates)
    lead = "Each metric is compared document by document."
    if report.gate:
        lead += (
            " A regression is a drop beyond the tolerance that the data confirm; where they decide "
            "neither way, the outcome is inconclusive, with the number of documents that would."
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
        if report.gate and row.decision is not None and row.decision.tolerance:
            sign = 1.0 if row.better == "lower" else -1.0
            marks["tolerance"] = sign * row.decision.tolerance
        better = {"higher": "right", "lower": "left", None: ""}[row.better]
        axis = f"candidate - baseline{f' (better: {better})' if better else ''}"
        found.append(Panel(named(title, row.better), axis, tuple(bars), marks))
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
