"""Corrected metrics and plans for labels as tables."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.console import Console

from eft_eval.agreement.correct_run import CorrectedRun
from eft_eval.agreement.report import CorrectedMetric
from eft_eval.reports.views.numbers import (
    bounds,
    decimal,
    dropped_lines,
    error,
    figures,
    percent,
    say,
    show,
    warn,
)
from eft_eval.reports.views.recipes import make_console
from eft_eval.statistics.correction import Corrected
from eft_eval.statistics.label_planning import LabelPlan, MixPlan

__all__ = ["print_corrected", "print_corrected_run", "print_plan"]


def print_corrected_run(found: CorrectedRun, console: Console | None = None) -> None:
    """Print what was corrected, and where it was written."""
    out = console or make_console()
    say(
        out,
        f"labels of {', '.join(found.annotators)}; of several on one response the {found.people}",
    )
    for line in dropped_lines(found.dropped, found.remarks):
        say(out, line)
    print_corrected(out, found.metrics)
    warn(out, found.warnings)
    say(out, f"corrected: {found.corrected_from}")
    say(out, f"written: {found.results}")


def print_corrected(out: Console, metrics: Sequence[CorrectedMetric]) -> None:
    """Print a table for each corrected metric."""
    for one in metrics:
        found = one.corrected
        share = one.share
        number = percent if share else decimal
        title = (
            f"{one.task}: {one.metric}, {found.labels} labels and verdicts, {found.verdicts} "
            "verdicts alone"
        )
        table = figures(found.prediction_powered.level)
        table.add_row(
            f"corrected (prediction-powered, λ = {found.power:.2f})",
            number(found.prediction_powered.estimate),
            error(found.standard_error, share=share),
            bounds(found.prediction_powered, share=share),
        )
        for name, mean in (
            ("labels alone", found.labels_only),
            ("verdicts alone, over responses", found.verdicts_only),
            ("verdict minus label", found.bias),
        ):
            table.add_row(
                name,
                number(mean.interval.estimate),
                error(mean.standard_error, share=share),
                bounds(mean.interval, share=share),
            )
        if found.rogan_gladen is not None:
            table.add_row(
                "corrected by sensitivity and specificity (Rogan–Gladen)"
                + (", people's commonest answer" if one.by_majority else ""),
                number(found.rogan_gladen.interval.estimate),
                error(found.rogan_gladen.standard_error, share=share),
                bounds(found.rogan_gladen.interval, share=share),
            )
        show(out, title, table)
        say(
            out,
            f"worth {_worth(found)}; correlation "
            f"of label and verdict {decimal(found.correlation)}; left out for want of a score or "
            f"label: {found.dropped_labels} labelled, {found.dropped_verdicts} others",
        )
        if any(one.unused):
            say(
                out,
                f"labels not used: {one.unused.unsure} unsure, {one.unused.contradictory} "
                f"contradictory; responses on which people are tied: {one.unused.tied}",
            )
        texts = list(found.warnings)
        if found.rogan_gladen is not None:
            texts += [f"Rogan–Gladen: {text}" for text in found.rogan_gladen.warnings]
        warn(out, texts)
    if metrics:
        say(out, "corrected figures hold if the labelled responses are a random sample of the run")


def _worth(found: Corrected) -> str:
    if math.isnan(found.gain):
        return "– labels alone (one of the two has no standard error)"
    return f"{found.effective_labels:.0f} labels alone (gain {found.gain:.2f})"


def print_plan(
    alone: LabelPlan, mix: MixPlan | None, half_width: float, console: Console | None = None
) -> None:
    """Print how many labels a wished half-width takes, and the cheapest mix if there is one."""
    out = console or make_console()
    say(
        out,
        f"± {half_width:g} ({100 * alone.level:g} % interval): {alone.labels:,} labels "
        f"(expected ± {alone.half_width:.4g})",
    )
    warn(out, alone.warnings)
    if mix is None:
        return
    if mix.verdicts:
        saved = f"{100 * mix.saving:.0f} % saved; expected ± {mix.half_width:.4g}"
        say(
            out,
            f"cheapest: {mix.labels:,} labels among {mix.verdicts:,} verdicts, cost "
            f"{mix.cost:,.2f} in place of {mix.labels_only_cost:,.2f} ({saved})",
        )
    else:
        say(out, f"cheapest: {mix.labels:,} labels and no verdicts, cost {mix.cost:,.2f}")
    warn(out, mix.warnings)
