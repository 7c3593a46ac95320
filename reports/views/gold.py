"""The disagreement protocol: what was drawn, and whom gold sides with."""

from __future__ import annotations

from eft_eval.agreement.paper import PaperFigure
from eft_eval.agreement.protocol import GoldReport, GoldSample
from eft_eval.reports.document import Document, Table, Texts, warnings
from eft_eval.reports.numbers import decimal, p_value, percent
from eft_eval.reports.views.estimates import estimate, estimates, mean
from eft_eval.reports.views.labels import dropped_lines

__all__ = ["gold", "gold_sample", "paper_line"]


def gold_sample(drawn: GoldSample) -> Document:
    """Return what was drawn and written."""
    draw = drawn.draw
    lines = [
        f"drawn (seed {draw.seed}): {len(draw.disagreements)} of {draw.of_disagreements} "
        f"disagreements, {len(draw.agreements)} of {draw.of_agreements} agreements, shuffled"
    ]
    if drawn.tied:
        lines.append(f"not drawn from: {drawn.tied} items on which people are tied")
    lines += [
        f"the blind project: {drawn.exported.folder}",
        f"who said what, not for the adjudicator's eyes: {drawn.key}",
    ]
    return Texts(tuple(lines)), *warnings(draw.warnings)


def gold(found: GoldReport) -> Document:
    """Return whom gold sides with, with and without the finite-population factor."""
    outcome = found.outcome
    blind = "blind" if found.blind else "NOT blind"
    lines = [
        f"adjudicated by: {found.adjudicated_by} ({', '.join(found.adjudicators)}), {blind}",
        f"{found.judge} against {found.people} ({found.rule}), run {found.run}",
        f"{outcome.agreements + outcome.disagreements} items: {outcome.agreements} agreements, "
        f"{outcome.disagreements} disagreements; {found.drawn} drawn, {found.unlabelled} of these "
        f"without a gold label ({found.tied} tied, {found.unsure} unsure, "
        f"{found.contradictory} contradictory)",
    ]
    if found.people_tied:
        lines.append(f"neither: {found.people_tied} items on which people are tied")
    lines += dropped_lines(found.dropped, found.remarks)
    checked = "none"
    if found.agreements_checked:
        checked = f"{outcome.agreements_checked}, right: {outcome.agreements_right}"
    after = (
        f"gold sides with either equally often: p = {p_value(outcome.sides_p_value)} (exact)",
        paper_line(found.paper),
        f"agreements checked: {checked}",
    )
    return Texts(tuple(lines)), _share(found), Texts(after), *warnings(_warnings(found))


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


def _share(found: GoldReport) -> Table:
    outcome = found.outcome
    caption = (
        f"Gold on {outcome.adjudicated} disagreements: {outcome.with_judge} with the judge, "
        f"{outcome.with_human} with people, {outcome.neither} with neither"
    )
    share = outcome.share
    name = "share with the judge, of unlimited disagreements, √(p(1-p)/(n-1))"
    rows = [estimate(name, share.wilson, share.standard_error, share=True)]
    if found.clustered is not None:
        rows.append(mean("the same, clustered by prompt", found.clustered, share=True))
    name = (
        f"share with the judge, of these {outcome.disagreements} disagreements "
        f"(finite-population factor {decimal(outcome.finite_factor)})"
    )
    finite = outcome.finite_interval
    rows.append(estimate(name, finite, outcome.finite_standard_error, share=True))
    for name, interval in (
        ("implied accuracy of the judge", outcome.judge_accuracy),
        ("implied accuracy of people", outcome.human_accuracy),
        ("judge minus people", outcome.accuracy_gain),
    ):
        rows.append(estimate(name, interval, share=True))
    return estimates(caption, rows, found.level)


def _warnings(found: GoldReport) -> list[str]:
    outcome = found.outcome
    texts = [outcome.caveat] if outcome.caveat else []
    if not found.blind:
        texts.append("the adjudicator could see who had said what")
    if found.clustered is not None:
        texts.append(
            "some disagreements share a prompt: all rows but the clustered one, and the test of "
            "the sides, take them as independent"
        )
        texts += found.clustered.warnings
    return [*texts, *outcome.warnings]
