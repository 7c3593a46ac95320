"""The section of judge and people: agreement, and scores corrected by labels."""

from __future__ import annotations

from collections.abc import Iterator

from eft_eval.agreement.report import Agreement, CorrectedMetric
from eft_eval.reporting.report import Report
from eft_eval.reports.document import Block, Cell, Column, Section, Table, Texts
from eft_eval.reports.views.numbers import NONE, bounds, decimal, error, p_value, percent
from eft_eval.statistics.interval import Interval
from eft_eval.statistics.means import Mean

__all__ = ["agreement"]

_Row = tuple[Cell, ...]


def agreement(report: Report) -> Section | None:
    """Return the section; None without an agreement and without corrected scores."""
    blocks: list[Block] = []
    for found in report.agreements:
        blocks += _agreement(found)
    for run in report.runs:
        if run.corrected:
            blocks.append(_corrected(f"Scores of {run.short}, corrected by labels", run.corrected))
        if run.corrected_warnings:
            blocks.append(Texts(run.corrected_warnings, listed=True, warn=True))
    if not blocks:
        return None
    lead = "How far the judge can be trusted, and what people's labels make of its scores."
    return Section("agreement", "Judge and people", lead, tuple(blocks))


def _agreement(found: Agreement) -> Iterator[Block]:
    counted = found.counted
    people = f"{len(found.annotators)} annotator{'s' if len(found.annotators) != 1 else ''}"
    who = f"{found.judge} against {people}" if found.judge else people
    lost = ", ".join(f"{count} {status}" for status, count in counted.unscored.items()) or "none"
    lines = [f"{who}; compared: {found.reading} (field {found.field}, rule {found.rule})."]
    line = f"{counted.items} items with {counted.ratings} labels"
    if found.judge:
        line += (
            f"; judged of these {counted.judged}, not scored: {lost}; compared {counted.compared}, "
            f"with people tied on {counted.tied}"
        )
    lines.append(f"{line}; unsure labels {counted.unsure}, contradictory {counted.contradictory}.")
    if found.clusters is not None:
        lines.append(f"Clustered by prompt: {found.clusters} prompts.")
    yield Texts(tuple(lines))
    columns = (Column("", False), Column("value"), Column("standard error"), Column("interval"))
    rows = tuple(_rows(found))
    if rows:
        note = f"{100 * found.level:.4g} % intervals, with how they were made."
        yield Table(f"Agreement: {who}", columns, rows, note)
    if found.alternative is not None:
        yield _alternative(found)
    if found.corrected:
        yield _corrected("Scores of the labelled run, corrected", found.corrected)
    if found.warnings:
        yield Texts(tuple(dict.fromkeys(found.warnings)), listed=True, warn=True)


def _rows(found: Agreement) -> Iterator[_Row]:
    pair = found.pair
    if pair is not None:
        one = pair.agreement
        errors = error(one.standard_error, share=True)
        yield _row(f"raw agreement, n = {pair.n}", percent(one.rate), errors, one.wilson, True)
        if pair.clustered is not None:
            yield _mean("raw agreement, clustered by prompt", pair.clustered, True)
        kappa = pair.kappa
        errors = error(kappa.standard_error, share=False)
        yield _row("Cohen's κ", decimal(kappa.interval.estimate), errors, kappa.interval, False)
        for who, rate in (("people", pair.first_rate), (found.judge, pair.second_rate)):
            if rate is not None:
                yield _row(f"base rate: error, by {who}", percent(rate.estimate), "", rate, True)
        always = percent(pair.baseline.with_first)
        yield (Cell("baseline: always people's commonest answer"), Cell(always), Cell(""), Cell(""))
        if pair.mcnemar is not None:
            test = pair.mcnemar
            text = f"{test.first_only} by people only, {test.second_only} by the judge only"
            name = f"McNemar's mid-p (errors: {text})"
            yield (Cell(name), Cell(p_value(test.mid_p)), Cell(""), Cell(""))
    if found.random_person is not None and len(found.annotators) > 1:
        yield _mean("agreement with a person drawn at random", found.random_person, True)
    if found.people is not None:
        name = f"people among each other, {found.people.items} items"
        yield _mean(name, found.people.agreement, True)
    for title, alphas in (("people", found.alpha), ("people and judge", found.alpha_with_judge)):
        for alpha in alphas:
            name = f"Krippendorff's α ({alpha.metric}), {title}, {alpha.items} items"
            yield _row(name, decimal(alpha.interval.estimate), "", alpha.interval, False)


def _mean(name: str, mean: Mean, share: bool) -> _Row:
    number = percent if share else decimal
    errors = error(mean.standard_error, share=share)
    return _row(name, number(mean.interval.estimate), errors, mean.interval, share)


def _row(name: str, value: str, errors: str, interval: Interval, share: bool) -> _Row:
    return Cell(name), Cell(value), Cell(errors), Cell(bounds(interval, share=share))


def _alternative(found: Agreement) -> Table:
    test = found.alternative
    assert test is not None
    heads = ("n", "judge as good", "person as good", "p", "adjusted p")
    columns = (Column("left out", False), *map(Column, heads), Column("judge wins", False))
    rows = tuple(
        (
            Cell(one.annotator),
            Cell(str(one.n)),
            Cell(percent(one.judge_advantage)),
            Cell(percent(one.human_advantage)),
            Cell(p_value(one.p_value)),
            Cell(p_value(one.adjusted)),
            Cell("yes" if one.won else "no"),
        )
        for one in test.annotators
    )
    verdict = {True: "yes", False: "no", None: "cannot be tested"}[test.passed]
    note = (
        f"ε = {test.epsilon:g}; winning rate ω = {decimal(test.winning_rate)}, advantage "
        f"ρ = {decimal(test.advantage)}: {verdict}"
    )
    return Table(f"May {found.judge} replace a person?", columns, rows, note)


def _corrected(caption: str, metrics: tuple[CorrectedMetric, ...]) -> Table:
    columns = (
        Column("metric", False),
        *map(Column, ("labels", "verdicts alone", "judged", "corrected", "verdict minus label")),
    )
    rows = []
    for one in metrics:
        found, number = one.corrected, percent if one.share else decimal
        powered = found.prediction_powered
        cells = (found.verdicts_only.interval, powered, found.bias.interval)
        shown = (
            Cell(number(i.estimate), bounds(i, share=one.share).replace(NONE, "")) for i in cells
        )
        head = Cell(f"{one.task}/{one.metric}_ppi")
        rows.append((head, Cell(str(found.labels)), Cell(str(found.verdicts)), *shown))
    note = (
        "Corrected: prediction-powered inference from the labelled responses and all verdicts; it "
        "holds if the labelled responses are a random sample of the run."
    )
    return Table(caption, columns, tuple(rows), note)
