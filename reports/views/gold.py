"""The disagreement protocol as tables: what was drawn, and whom gold sides with."""

from __future__ import annotations

from shlex import quote

from rich.console import Console

from eft_eval.agreement.protocol import GoldReport, GoldSample
from eft_eval.reports.views.agreement_text import paper_line
from eft_eval.reports.views.numbers import (
    bounds,
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

__all__ = ["print_gold", "print_gold_sample"]


def print_gold_sample(drawn: GoldSample, filled: str, console: Console | None = None) -> None:
    """Print what was drawn, and what to do next.

    Args:
        drawn: What was drawn and written.
        filled: What the gold labels will be read from.
        console: Where to; the terminal by default.
    """
    out = console or make_console()
    draw = drawn.draw
    say(
        out,
        f"drawn (seed {draw.seed}): {len(draw.disagreements)} of {draw.of_disagreements} "
        f"disagreements, {len(draw.agreements)} of {draw.of_agreements} agreements, shuffled",
    )
    if drawn.tied:
        say(out, f"not drawn from: {drawn.tied} items on which people are tied")
    say(out, f"the blind project: {drawn.exported.folder}")
    say(out, f"who said what, not for the adjudicator's eyes: {drawn.key}")
    say(out, f"next: {drawn.exported.next_step}")
    say(out, f"then: eft-eval gold import {filled} --key {quote(str(drawn.key))} --by WHO")
    warn(out, draw.warnings)


def print_gold(found: GoldReport, console: Console | None = None) -> None:
    """Print whom gold sides with, with and without the finite-population factor.

    Args:
        found: The result.
        console: Where to; the terminal by default.
    """
    out = console or make_console()
    outcome = found.outcome
    blind = "blind" if found.blind else "NOT blind"
    say(out, f"adjudicated by: {found.adjudicated_by} ({', '.join(found.adjudicators)}), {blind}")
    say(out, f"{found.judge} against {found.people} ({found.rule}), run {found.run}")
    say(
        out,
        f"{outcome.agreements + outcome.disagreements} items: {outcome.agreements} agreements, "
        f"{outcome.disagreements} disagreements; {found.drawn} drawn, {found.unlabelled} of these "
        f"without a gold label ({found.tied} tied, {found.unsure} unsure, "
        f"{found.contradictory} contradictory)",
    )
    if found.people_tied:
        say(out, f"neither: {found.people_tied} items on which people are tied")
    for line in dropped_lines(found.dropped, found.remarks):
        say(out, line)
    _print_share(out, found)
    say(out, paper_line(found.paper))
    if found.agreements_checked:
        say(
            out,
            f"agreements checked: {outcome.agreements_checked}, right: {outcome.agreements_right}",
        )
    else:
        say(out, "agreements checked: none")
    texts = [outcome.caveat] if outcome.caveat else []
    if not found.blind:
        texts.append("the adjudicator could see who had said what")
    if found.clustered is not None:
        texts.append(
            "some disagreements share a prompt: all rows but the clustered one, and the test of "
            "the sides, take them as independent"
        )
        texts += found.clustered.warnings
    warn(out, [*texts, *outcome.warnings])


def _print_share(out: Console, found: GoldReport) -> None:
    outcome = found.outcome
    title = (
        f"gold on {outcome.adjudicated} disagreements: {outcome.with_judge} with the judge, "
        f"{outcome.with_human} with people, {outcome.neither} with neither"
    )
    table = figures(found.level)
    share = outcome.share
    table.add_row(
        "share with the judge, of unlimited disagreements, √(p(1-p)/(n-1))",
        percent(share.rate),
        error(share.standard_error, share=True),
        bounds(share.wilson, share=True),
    )
    if found.clustered is not None:
        table.add_row(
            "the same, clustered by prompt",
            percent(found.clustered.interval.estimate),
            error(found.clustered.standard_error, share=True),
            bounds(found.clustered.interval, share=True),
        )
    table.add_row(
        f"share with the judge, of these {outcome.disagreements} disagreements "
        f"(finite-population factor {decimal(outcome.finite_factor)})",
        percent(outcome.finite_interval.estimate),
        error(outcome.finite_standard_error, share=True),
        bounds(outcome.finite_interval, share=True),
    )
    for name, interval in (
        ("implied accuracy of the judge", outcome.judge_accuracy),
        ("implied accuracy of people", outcome.human_accuracy),
        ("judge minus people", outcome.accuracy_gain),
    ):
        table.add_row(name, percent(interval.estimate), "", bounds(interval, share=True))
    show(out, title, table)
    say(out, f"gold sides with either equally often: p = {p_value(outcome.sides_p_value)} (exact)")
