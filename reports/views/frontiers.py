"""Frontiers: tables and figures along a value of the recipe, a line per base."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from eft_eval.reporting.frontier import AUTO, Frontier, FrontierPoint, Series, trade_off_pair
from eft_eval.reporting.report import Report
from eft_eval.reporting.scores import Score
from eft_eval.reports.document import Block, Cell, Line, Panel, Plane, Section, Table, columns
from eft_eval.reports.numbers import NONE, number
from eft_eval.reports.views.bars import bar, figure
from eft_eval.reports.views.scores import named, score_cell

__all__ = ["frontiers"]


def frontiers(report: Report) -> Section | None:
    """Return the frontiers; None where no runs differ in one value of the recipe alone."""
    if not report.frontiers:
        return None
    blocks: list[Block] = []
    for place, frontier in enumerate(report.frontiers, start=1):
        blocks += _frontier(report, frontier, place)
    lead = "Runs of composites that differ in nothing but one value of the recipe"
    several = any(len(one.series) > 1 for one in report.frontiers)
    lead += ", and in the base." if several else "."
    return Section("frontiers", "Frontiers", lead, tuple(blocks))


_ByRun = Mapping[int, Mapping[str, Score]]


def _frontier(report: Report, frontier: Frontier, place: int) -> list[Block]:
    runs = [point.run for one in frontier.series for point in one.points]
    by_run = {run: {score.name: score for score in report.runs[run].scores} for run in runs}
    names = [name for name in report.main if all(name in found for found in by_run.values())]
    title = f"Frontier {place}, {frontier.axis}"
    title += f": {frontier.meaning}" if frontier.meaning else ""
    if len(frontier.series) == 1:
        title += f"; base {frontier.series[0].base}"
    caption = f"{title}, with {100 * report.level:.4g} % intervals."
    drawn = [name for name in names if all(found[name].interval for found in by_run.values())]
    if len(frontier.series) > 1:
        caption += " Each base has a line of its own."
    panels: list[Panel | Line | Plane] = []
    known = [by_run[runs[0]][name] for name in drawn]
    table = _frontier_table(report, frontier, title, names, by_run)
    frontier = _of_numbers(frontier)
    if not frontier.series:
        return [table]
    if places := trade_off_pair([(score.task, score.metric) for score in known]):
        panels.append(_plane(frontier, by_run, *(drawn[place] for place in places)))
    for name in drawn:
        series = tuple(
            (
                one.base,
                tuple(
                    (p.value, bar(_at(frontier, p), by_run[p.run][name].interval))
                    for p in one.points
                ),
            )
            for one in frontier.series
        )
        panels.append(Line(named(name, by_run[runs[0]][name].better), frontier.axis, series))
    return [table, *figure(f"frontier-{place}", caption, panels)]


def _frontier_table(
    report: Report, frontier: Frontier, title: str, names: Sequence[str], by_run: _ByRun
) -> Table:
    several = len(frontier.series) > 1
    rows = []
    for name in names:
        for one in frontier.series:
            by_value = {point.value: by_run[point.run][name] for point in one.points}
            better = next(iter(by_value.values())).better
            head = [Cell(named(name, better)), *([Cell(one.base)] if several else [])]
            cells = [
                score_cell(by_value[v]) if v in by_value else Cell(NONE) for v in frontier.values
            ]
            rows.append((*head, *cells))
    for one in frontier.series:
        for what, texts in _speeds(report, frontier, one):
            rows.append((Cell(what), *([Cell(one.base)] if several else []), *map(Cell, texts)))
    heads = columns(
        "metric",
        *(["base"] if several else []),
        numbers=tuple(frontier.at(value) for value in frontier.values),
    )
    runs = ", ".join(
        f"{point.text}{f' on {one.base}' if several else ''} is {report.runs[point.run].short}"
        for one in frontier.series
        for point in one.points
    )
    return Table(title, heads, tuple(rows), f"Runs: {frontier.axis} = {runs}.")


def _speeds(report: Report, frontier: Frontier, one: Series) -> Iterator[tuple[str, list[str]]]:
    """Yield what a block changes: tokens per second and per round, and the acceptance."""
    if frontier.axis != "block":
        return
    made = {point.value: report.runs[point.run].decoding for point in one.points}
    for what, form, name in (
        ("tokens per second", ",.1f", "tokens_per_second"),
        ("tokens per round", ".2f", "tokens_per_round"),
        ("acceptance", ".3f", "acceptance"),
    ):
        values = [getattr(made.get(v), name, None) for v in frontier.values]
        if any(value is not None for value in values):
            yield what, [number(value, form) for value in values]


def _at(frontier: Frontier, point: FrontierPoint) -> str:
    return frontier.at(point.value)


def _of_numbers(frontier: Frontier) -> Frontier:
    """Return what can be drawn: lines of two numbers and more."""
    lines = (
        one._replace(points=tuple(point for point in one.points if point.value != AUTO))
        for one in frontier.series
    )
    return frontier._replace(series=tuple(one for one in lines if len(one.points) > 1))


def _plane(frontier: Frontier, by_run: _ByRun, across: str, up: str) -> Plane:
    series = tuple(
        (
            one.base,
            tuple(
                (
                    _at(frontier, p),
                    bar("", by_run[p.run][across].interval),
                    bar("", by_run[p.run][up].interval),
                )
                for p in one.points
            ),
        )
        for one in frontier.series
    )
    known = next(iter(by_run.values()))
    axis_x, axis_y = (named(name, known[name].better) for name in (across, up))
    return Plane("The trade-off", axis_x, axis_y, series)
