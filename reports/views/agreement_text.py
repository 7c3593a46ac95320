"""The agreement of a judge and people as tables. Projects a result; computes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rich.console import Console
from rich.table import Table
from rich.text import Text

from eft_eval.agreement.paper import PaperFigure
from eft_eval.agreement.report import Agreement, Counted
from eft_eval.reports.views.corrections import print_corrected
from eft_eval.reports.views.numbers import (
    bounds,
    counts,
    decimal,
    dropped_lines,
    error,
    figures,
    p_value,
    percent,
    say,
    show,
    warn,
)
from eft_eval.reports.views.recipes import make_console
from eft_eval.statistics.alternative_test import AlternativeTest
from eft_eval.statistics.means import Mean
from eft_eval.statistics.pairs import PairAgreement, RawScale

__all__ = ["paper_line", "print_agreement"]

_LONGEST_LIST = 12  # annotators, or pairs of them, that are listed one by one


def print_agreement(found: Agreement, console: Console | None = None) -> None:
    """Print the whole report.

    Args:
        found: The result.
        console: Where to; the terminal by default.
    """
    out = console or make_console()
    _print_counts(out, found)
    if found.pair is not None:
        _print_pair(out, found, found.pair)
    _print_people(out, found)
    if found.alternative is not None:
        _print_alternative(out, found.alternative, str(found.judge))
    elif found.judge is not None:
        say(out, "")
        say(out, f"may {found.judge} replace a person? not tested: that takes three annotators")
    print_corrected(out, found.corrected)
    warn(out, _warnings(found))


def paper_line(figure: PaperFigure) -> str:
    """Return the paper's figure beside what our formulas make of its counts."""
    found = figure.proportion
    formula = f" = {figure.formula}" if figure.formula else ""
    return (
        f"beside it the paper (section 4.5), {figure.what}: {found.successes} of {found.n}, "
        f"printed {figure.printed}{formula}; by our formulas "
        f"{percent(found.rate)} ± {100 * found.standard_error:.2f} (n-1), "
        f"± {100 * found.population_standard_error:.2f} (population)"
    )


def _print_counts(out: Console, found: Agreement) -> None:
    against = f"{found.judge} against " if found.judge else ""
    say(out, f"{against}{len(found.annotators)} annotators: {_listed(found.annotators)}")
    say(out, f"compared: {found.reading} (field {found.field}, rule {found.rule})")
    if found.run:
        say(out, f"run: {found.run}")
    for line in _count_lines(found.counted, found.judge):
        say(out, line)
    if found.clusters is None:
        say(out, "items count as independent: no two share a prompt that is known")
    else:
        say(
            out,
            f"clustered by prompt: {found.clusters} prompts; Wilson's intervals, McNemar's exact "
            "and mid-p values and the alternative annotator test take items as independent",
        )


def _listed(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:_LONGEST_LIST])
    return shown if len(names) <= _LONGEST_LIST else f"{shown}, …"


def _count_lines(counted: Counted, judge: str | None) -> Iterator[str]:
    several = f", {counted.several} by two or more" if counted.several else ""
    yield f"items with labels: {counted.items} ({counted.ratings} ratings{several})"
    if judge is not None:
        lost = "".join(f", {count} {status}" for status, count in counted.unscored.items())
        yield f"judged of these: {counted.judged}; not scored: {lost.removeprefix(', ') or 'none'}"
        tied = f"; not where people are tied: {counted.tied}" if counted.tied else ""
        yield f"compared with the judge: {counted.compared}{tied}"
        yield f"scored by the judge, with no label: {counted.unlabelled}"
    if counted.unsure:
        yield f"labels read as none: {counted.unsure} unsure"
    if counted.contradictory:
        yield f"labels left out: {counted.contradictory} contradict themselves"
    yield from dropped_lines(counted.dropped, counted.remarks)


def _print_pair(out: Console, found: Agreement, pair: PairAgreement) -> None:
    people = "people's commonest answer" if len(found.annotators) > 1 else found.annotators[0]
    table = figures(found.level)
    agreement = pair.agreement
    table.add_row(
        "raw agreement, standard error √(p(1-p)/(n-1))",
        percent(agreement.rate),
        error(agreement.standard_error, share=True),
        bounds(agreement.wilson, share=True),
    )
    if pair.clustered is not None:
        _mean_row(table, "raw agreement, clustered by prompt", pair.clustered)
    if found.random_person is not None and len(found.annotators) > 1:
        _mean_row(table, "agreement with a person drawn at random", found.random_person)
    if found.difference is not None and len(found.annotators) > 1:
        table.add_row(
            "mean of judge minus people's mean",
            decimal(found.difference.interval.estimate),
            error(found.difference.standard_error, share=False),
            bounds(found.difference.interval, share=False),
        )
    kappa = pair.kappa
    table.add_row(
        "Cohen's κ",
        decimal(kappa.interval.estimate),
        error(kappa.standard_error, share=False),
        bounds(kappa.interval, share=False),
    )
    for who, rate in (("people", pair.first_rate), (found.judge, pair.second_rate)):
        if rate is not None:
            table.add_row(
                f"base rate: error, by {who}", percent(rate.estimate), "", bounds(rate, share=True)
            )
    table.add_row(
        "baseline: always people's commonest answer", percent(pair.baseline.with_first), "", ""
    )
    if pair.scale is not None:
        _add_scale(table, pair.scale)
    show(out, f"{found.judge} and {people}, n = {pair.n}", table)
    if pair.mcnemar is not None:
        test = pair.mcnemar
        say(
            out,
            f"McNemar: error by people only {test.first_only}, by the judge only "
            f"{test.second_only}; p = {p_value(test.exact)} (exact), {p_value(test.mid_p)} (mid-p)"
            + ("" if test.clustered is None else f", {p_value(test.clustered)} (clustered)"),
        )
    if found.paper is not None:
        say(out, paper_line(found.paper))
    _print_table(out, found, pair)
    _print_strata(out, pair.strata)
    if 1 < len(found.each) <= _LONGEST_LIST:
        _print_each(out, found)


def _mean_row(table: Table, name: str, mean: Mean) -> None:
    table.add_row(
        name,
        percent(mean.interval.estimate),
        error(mean.standard_error, share=True),
        bounds(mean.interval, share=True),
    )


def _add_scale(table: Table, scale: RawScale) -> None:
    for name, kappa in (("linear", scale.linear), ("quadratic", scale.quadratic)):
        table.add_row(
            f"κ, {name} weights",
            decimal(kappa.interval.estimate),
            error(kappa.standard_error, share=False),
            bounds(kappa.interval, share=False),
        )
    table.add_row("Spearman's ρ", decimal(scale.spearman), "", "")
    table.add_row("Kendall's τ-b", decimal(scale.kendall), "", "")
    table.add_row(
        "mean of judge minus people's commonest answer",
        decimal(scale.difference.interval.estimate),
        error(scale.difference.standard_error, share=False),
        bounds(scale.difference.interval, share=False),
    )


def _print_table(out: Console, found: Agreement, pair: PairAgreement) -> None:
    if pair.table is None:
        return
    names = [_category(found, value) for value in pair.categories]
    table = counts([""], names)
    for name, row in zip(names, pair.table, strict=True):
        table.add_row(Text(name), *map(str, row))
    show(out, "counts: people in rows, the judge in columns", table)


def _category(found: Agreement, value: float) -> str:
    if found.rule == "any error":
        return "error" if value else "no error"
    return found.categories[int(value)] if found.categories else f"{value:g}"


def _print_strata(out: Console, strata: Mapping[str, PairAgreement]) -> None:
    if not strata:
        return
    table = counts(
        ["stratum"], ["n", "raw agreement", "interval", "κ", "rate: people", "rate: judge"]
    )
    for name, one in strata.items():
        rates = [percent(r.estimate) if r else "" for r in (one.first_rate, one.second_rate)]
        table.add_row(
            Text(name),
            str(one.n),
            percent(one.agreement.rate),
            bounds(one.agreement.wilson, share=True),
            decimal(one.kappa.interval.estimate),
            *rates,
        )
    show(out, "by stratum", table)


def _print_each(out: Console, found: Agreement) -> None:
    table = counts(["annotator"], ["n", "raw agreement", "κ"])
    for one in found.each:
        kappa = decimal(one.kappa.interval.estimate)
        table.add_row(Text(one.first), str(one.n), percent(one.agreement), kappa)
    show(out, f"{found.judge} and each annotator", table)


def _print_people(out: Console, found: Agreement) -> None:
    table = figures(found.level)
    if found.people is not None:
        _mean_row(table, f"agreement of two, {found.people.items} items", found.people.agreement)
    if found.ceiling is not None:
        share = found.scale == "nominal"
        others = "the others' commonest answer" if share else "the others' mean, mean distance"
        rows = [(f"a person left out against {others}", found.ceiling.human)]
        if found.ceiling.judge is not None and found.ceiling.difference is not None:
            rows += [(f"the judge against {others}", found.ceiling.judge)]
            rows += [("judge minus person left out", found.ceiling.difference)]
        for name, mean in rows:
            table.add_row(
                name,
                percent(mean.interval.estimate) if share else decimal(mean.interval.estimate),
                error(mean.standard_error, share=share),
                bounds(mean.interval, share=share),
            )
    for title, alphas in (
        ("people", found.alpha),
        ("people and judge", found.alpha_with_judge),
    ):
        for alpha in alphas:
            table.add_row(
                f"Krippendorff's α ({alpha.metric}), {title}, {alpha.items} items",
                decimal(alpha.interval.estimate),
                "",
                bounds(alpha.interval, share=False),
            )
    if table.row_count:
        show(out, "people among each other", table)
    if len(found.raters) <= _LONGEST_LIST:
        _print_raters(out, found)
    if found.people is not None and 1 < len(found.people.pairs) <= _LONGEST_LIST:
        pairs = counts(["first", "second"], ["n", "raw agreement", "κ"])
        for one in found.people.pairs:
            kappa = decimal(one.kappa.interval.estimate)
            pairs.add_row(one.first, one.second, str(one.n), percent(one.agreement), kappa)
        show(out, "every two people", pairs)


def _print_raters(out: Console, found: Agreement) -> None:
    table = counts([""], ["n"])
    table.add_column("answers", overflow="fold")
    for one in found.raters:
        answer = ""
        if one.rate is not None:
            answer = f"error: {percent(one.rate.estimate)} {bounds(one.rate, share=True)}"
        elif one.mean is not None:
            answer = f"mean {decimal(one.mean)}"
        elif one.shares and found.categories:
            named = zip(found.categories, one.shares, strict=False)
            answer = ", ".join(f"{word}: {percent(share)}" for word, share in named)
        table.add_row(Text(one.name), str(one.n), Text(answer))
    show(out, "how everybody answers", table)


def _print_alternative(out: Console, test: AlternativeTest, judge: str) -> None:
    heads = ["n", "judge as good", "person as good", "p", "adjusted p", "won"]
    table = counts(["left out"], heads)
    for one in test.annotators:
        table.add_row(
            Text(one.annotator),
            str(one.n),
            percent(one.judge_advantage),
            percent(one.human_advantage),
            p_value(one.p_value),
            p_value(one.adjusted),
            "yes" if one.won else "no",
        )
    title = f"may {judge} replace a person? (alternative annotator test, ε = {test.epsilon:g})"
    show(out, title, table)
    verdict = {True: "yes", False: "no", None: "cannot be tested"}[test.passed]
    say(
        out,
        f"winning rate ω = {decimal(test.winning_rate)}, advantage ρ = {decimal(test.advantage)}: "
        f"{verdict} (ω >= 0.5; Benjamini–Yekutieli at {test.rate:g})",
    )
    warn(out, test.warnings)


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
