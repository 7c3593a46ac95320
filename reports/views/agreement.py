"""Judge and people: how far they agree, and scores corrected by labels."""

from __future__ import annotations

from collections.abc import Iterator

from eft_eval.agreement.report import Agreement, Counted, Rater
from eft_eval.reporting.report import Report
from eft_eval.reports.document import (
    Block,
    Cell,
    Document,
    Section,
    Table,
    Texts,
    cells,
    columns,
    warnings,
)
from eft_eval.reports.numbers import bounds, counted, decimal, p_value, percent
from eft_eval.reports.views.corrections import corrected_metrics
from eft_eval.reports.views.estimates import estimate, estimates, mean
from eft_eval.reports.views.gold import paper_line
from eft_eval.reports.views.labels import dropped_lines
from eft_eval.statistics.interval import Interval
from eft_eval.statistics.kappa import Kappa
from eft_eval.statistics.pairs import PairAgreement
from eft_eval.statistics.panel import PairOfAnnotators

__all__ = ["agreement", "agreement_section"]

_LONGEST_LIST = 12  # annotators, or pairs of them, that are listed one by one
_Row = tuple[Cell, ...]


def agreement_section(report: Report) -> Section | None:
    """Return a report's section; None without an agreement and without corrected scores."""
    blocks: list[Block] = [block for found in report.agreements for block in agreement(found)]
    for run in report.runs:
        if run.corrected:
            blocks.append(Texts((f"Scores of {run.short}, corrected by labels",)))
            blocks += corrected_metrics(run.corrected)
        blocks += warnings(run.corrected_warnings)
    if not blocks:
        return None
    lead = "How far the judge can be trusted, and what people's labels make of its scores."
    return Section("agreement", "Judge and people", lead, tuple(blocks))


def agreement(found: Agreement) -> Document:
    """Return all that is known of a judge and people."""
    return (
        Texts(tuple(_count_lines(found))),
        *(_pair(found, found.pair) if found.pair is not None else ()),
        *_judges(found),
        *_people(found),
        *_alternative(found),
        *corrected_metrics(found.corrected),
        *warnings(_warnings(found)),
    )


def _count_lines(found: Agreement) -> Iterator[str]:
    against = f"{found.judge} against " if found.judge else ""
    more = ", …" if len(found.annotators) > _LONGEST_LIST else ""
    names = ", ".join(found.annotators[:_LONGEST_LIST])
    yield f"{against}{len(found.annotators)} annotators: {names}{more}"
    rule = found.rule.replace("error", found.event)
    yield f"compared: {found.reading} (field {found.field}, rule {rule})"
    if found.run:
        yield f"run: {found.run}"
    yield from _used(found.counted, found.judge)
    if found.clusters is None:
        yield "items count as independent: no two share a prompt that is known"
    else:
        yield (
            f"clustered by prompt: {found.clusters} prompts; Wilson's intervals, McNemar's exact "
            "and mid-p values and the alternative annotator test take items as independent"
        )


def _used(found: Counted, judge: str | None) -> Iterator[str]:
    several = f", {found.several} by two or more" if found.several else ""
    yield f"items with labels: {found.items} ({found.ratings} ratings{several})"
    if judge is not None:
        yield f"judged of these: {found.judged}; not scored: {counted(found.unscored)}"
        tied = f"; not where people are tied: {found.tied}" if found.tied else ""
        yield f"compared with the judge: {found.compared}{tied}"
        yield f"scored by the judge, with no label: {found.unlabelled}"
    if found.unsure:
        yield f"labels read as none: {found.unsure} unsure"
    if found.contradictory:
        yield f"labels left out: {found.contradictory} contradict themselves"
    yield from dropped_lines(found.dropped, found.remarks)


def _pair(found: Agreement, pair: PairAgreement) -> Iterator[Table | Texts]:
    people = "people's commonest answer" if len(found.annotators) > 1 else found.annotators[0]
    caption = f"{found.judge} and {people}, n = {pair.n}"
    yield estimates(caption, list(_pair_rows(found, pair)), found.level)
    lines = []
    if (test := pair.mcnemar) is not None:
        clustered = "" if test.clustered is None else f", {p_value(test.clustered)} (clustered)"
        lines.append(
            f"McNemar: {found.event} by people only {test.first_only}, by the judge only "
            f"{test.second_only}; p = {p_value(test.exact)} (exact), {p_value(test.mid_p)} (mid-p)"
            f"{clustered}"
        )
    if found.paper is not None:
        lines.append(paper_line(found.paper))
    if lines:
        yield Texts(tuple(lines))
    if pair.table is not None:
        names = [_category(found, value) for value in pair.categories]
        rows = zip(names, pair.table, strict=True)
        yield Table(
            "Counts: people in rows, the judge in columns",
            columns("", numbers=tuple(names)),
            tuple(cells(name, *map(str, row)) for name, row in rows),
        )
    if pair.strata:
        yield _strata(pair)
    if 1 < len(found.each) <= _LONGEST_LIST:
        yield _couples(f"{found.judge} and each annotator", found.each, ("annotator",))


def _pair_rows(found: Agreement, pair: PairAgreement) -> Iterator[_Row]:
    one, several = pair.agreement, len(found.annotators) > 1
    name = "raw agreement, standard error √(p(1-p)/(n-1))"
    yield estimate(name, one.wilson, one.standard_error, share=True)
    if pair.clustered is not None:
        yield mean("raw agreement, clustered by prompt", pair.clustered, share=True)
    if found.random_person is not None and several:
        yield mean("agreement with a person drawn at random", found.random_person, share=True)
    if found.difference is not None and several:
        yield mean("mean of judge minus people's mean", found.difference, share=False)
    yield _kappa("Cohen's κ", pair.kappa)
    for who, rate in (("people", pair.first_rate), (found.judge, pair.second_rate)):
        if rate is not None:
            yield estimate(f"base rate: {found.event}, by {who}", rate, share=True)
    always = percent(pair.baseline.with_first)
    yield cells("baseline: always people's commonest answer", always, "", "")
    if (scale := pair.scale) is not None:
        yield _kappa("κ, linear weights", scale.linear)
        yield _kappa("κ, quadratic weights", scale.quadratic)
        yield cells("Spearman's ρ", decimal(scale.spearman), "", "")
        yield cells("Kendall's τ-b", decimal(scale.kendall), "", "")
        name = "mean of judge minus people's commonest answer"
        yield mean(name, scale.difference, share=False)


def _kappa(name: str, kappa: Kappa) -> _Row:
    return estimate(name, kappa.interval, kappa.standard_error, share=False)


def _category(found: Agreement, value: float) -> str:
    if found.rule == "any error":
        no = "no" if found.event == "error" else "not"
        return found.event if value else f"{no} {found.event}"
    return found.categories[int(value)] if found.categories else f"{value:g}"


def _strata(pair: PairAgreement) -> Table:
    numbers = ("n", "raw agreement", "interval", "κ", "rate: people", "rate: judge")
    rows = tuple(
        cells(
            name,
            str(one.n),
            percent(one.agreement.rate),
            bounds(one.agreement.wilson, share=True),
            decimal(one.kappa.interval.estimate),
            *(percent(r.estimate) if r else "" for r in (one.first_rate, one.second_rate)),
        )
        for name, one in pair.strata.items()
    )
    return Table("By stratum", columns("stratum", numbers=numbers), rows)


def _couples(caption: str, found: tuple[PairOfAnnotators, ...], heads: tuple[str, ...]) -> Table:
    """Return the agreement of every two; under one head the judge, who is second, is left out."""
    rows = tuple(
        cells(
            *(one.first, one.second)[: len(heads)],
            str(one.n),
            percent(one.agreement),
            decimal(one.kappa.interval.estimate),
        )
        for one in found
    )
    return Table(caption, columns(*heads, numbers=("n", "raw agreement", "κ")), rows)


def _judges(found: Agreement) -> Iterator[Table]:
    if not found.judges:
        return
    amounts = found.judges[0].difference is not None
    rows = []
    for name, pair, difference in found.judges:
        share = pair.agreement.wilson
        if pair.clustered is not None:
            share = pair.clustered.interval
        rate = pair.second_rate
        last = ""
        if difference is not None:
            last = _with_ends(difference.interval, share=False)
        elif rate is not None:
            last = _with_ends(rate, share=True)
        rows.append(
            cells(
                name,
                str(pair.n),
                _with_ends(share, share=True),
                _with_ends(pair.kappa.interval, share=False),
                last,
            )
        )
    head = "judge minus people's mean" if amounts else f"base rate: {found.event}"
    yield Table(
        "Each judge and the panel against people's commonest answer",
        columns("", numbers=("n", "raw agreement", "κ", head)),
        tuple(rows),
    )
    gains = tuple(
        cells(
            one.first,
            one.second,
            str(one.gain.n),
            _with_ends(one.gain.interval, share=not amounts),
        )
        for one in found.judges_differences
    )
    of = "how much nearer to people's mean the second is" if amounts else "agreement with people"
    yield Table(
        f"Every two judges, over the same items: {of}, second minus first",
        columns("first", "second", numbers=("n", "gain")),
        gains,
    )


def _with_ends(interval: Interval, *, share: bool) -> str:
    value = percent(interval.estimate) if share else decimal(interval.estimate)
    return f"{value} {bounds(interval._replace(method=''), share=share)}".rstrip()


def _people(found: Agreement) -> Iterator[Table]:
    if rows := list(_people_rows(found)):
        yield estimates("People among each other", rows, found.level)
    if len(found.raters) <= _LONGEST_LIST:
        rows = [cells(one.name, str(one.n), _answers(found, one)) for one in found.raters]
        heads = (*columns("", numbers=("n",)), *columns("answers"))
        yield Table("How everybody answers", heads, tuple(rows))
    if found.people is not None and 1 < len(found.people.pairs) <= _LONGEST_LIST:
        yield _couples("Every two people", found.people.pairs, ("first", "second"))


def _people_rows(found: Agreement) -> Iterator[_Row]:
    if found.people is not None:
        name = f"agreement of two, {found.people.items} items"
        yield mean(name, found.people.agreement, share=True)
    if (ceiling := found.ceiling) is not None:
        share = found.scale == "nominal"
        others = "the others' commonest answer" if share else "the others' mean, mean distance"
        yield mean(f"a person left out against {others}", ceiling.human, share=share)
        if ceiling.judge is not None and ceiling.difference is not None:
            yield mean(f"the judge against {others}", ceiling.judge, share=share)
            yield mean("judge minus person left out", ceiling.difference, share=share)
    for title, alphas in (("people", found.alpha), ("people and judge", found.alpha_with_judge)):
        for alpha in alphas:
            name = f"Krippendorff's α ({alpha.metric}), {title}, {alpha.items} items"
            yield estimate(name, alpha.interval, share=False)


def _answers(found: Agreement, one: Rater) -> str:
    if one.rate is not None:
        return f"{found.event}: {percent(one.rate.estimate)} {bounds(one.rate, share=True)}"
    if one.mean is not None:
        return f"mean {decimal(one.mean)}"
    named = zip(found.categories, one.shares, strict=False)
    return ", ".join(f"{word}: {percent(share)}" for word, share in named)


def _alternative(found: Agreement) -> Iterator[Table | Texts]:
    question = f"May {found.judge} replace a person?"
    test = found.alternative
    if test is None:
        if found.judge is not None:
            yield Texts((f"{question} Not tested: that takes three annotators.",))
        return
    rows = tuple(
        cells(
            one.annotator,
            str(one.n),
            percent(one.judge_advantage),
            percent(one.human_advantage),
            p_value(one.p_value),
            p_value(one.adjusted),
            "yes" if one.won else "no",
        )
        for one in test.annotators
    )
    verdict = {True: "yes", False: "no", None: "cannot be tested"}[test.passed]
    numbers = ("n", "judge as good", "person as good", "p", "adjusted p")
    yield Table(
        f"{question} (alternative annotator test, ε = {test.epsilon:g})",
        (*columns("left out", numbers=numbers), *columns("judge wins")),
        rows,
        f"winning rate ω = {decimal(test.winning_rate)}, advantage ρ = {decimal(test.advantage)}: "
        f"{verdict} (ω >= 0.5; Benjamini–Yekutieli at {test.rate:g})",
    )
    yield from warnings(test.warnings)


def _warnings(found: Agreement) -> list[str]:
    """Return what keeps figures from being read as they stand, with its place."""
    texts = [text.replace("the first rater", "people") for text in found.warnings]
    texts = [text.replace("the second rater", "the judge") for text in texts]
    for name, one in found.pair.strata.items() if found.pair is not None else ():
        texts += [f"{name}: {text}" for text in one.warnings]
    for title, alphas in (("α", found.alpha), ("α with the judge", found.alpha_with_judge)):
        texts += [f"{title}: {text}" for alpha in alphas for text in alpha.warnings]
    if found.ceiling is not None:
        texts += [f"left out: {text}" for text in found.ceiling.warnings]
    return texts
