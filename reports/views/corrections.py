"""Metrics corrected by labels, and plans for labels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from eft_eval.agreement.report import CorrectedMetric, CorrectedRun
from eft_eval.reports.document import Document, Table, Texts, warnings
from eft_eval.reports.numbers import decimal
from eft_eval.reports.views.estimates import estimate, estimates, mean
from eft_eval.reports.views.labels import dropped_lines
from eft_eval.statistics.correction import Corrected
from eft_eval.statistics.label_planning import LabelPlan, MixPlan

__all__ = ["corrected_metrics", "corrected_run", "label_plan"]


def corrected_run(found: CorrectedRun) -> Document:
    """Return what was corrected, and where it was written."""
    written = [f"written: {file}" for file in (*found.others, found.results)]
    people = f"labels of {', '.join(found.annotators)}; of several on one response the "
    return (
        Texts((f"{people}{found.people}", *dropped_lines(found.dropped, found.remarks))),
        *corrected_metrics(found.metrics),
        *warnings(found.warnings),
        Texts((f"corrected: {found.corrected_from}", *written)),
    )


def corrected_metrics(metrics: Sequence[CorrectedMetric]) -> Iterator[Table | Texts]:
    """Yield a table for each corrected metric, with what it is worth."""
    for one in metrics:
        found = one.corrected
        yield _metric(one)
        lines = [
            f"worth {_worth(found)}; correlation of label and verdict "
            f"{decimal(found.correlation)}; left out for want of a score or label: "
            f"{found.dropped_labels} labelled, {found.dropped_verdicts} others"
        ]
        if any(one.unused):
            lines.append(
                f"labels not used: {one.unused.unsure} unsure, {one.unused.contradictory} "
                f"contradictory; responses on which people are tied: {one.unused.tied}"
            )
        yield Texts(tuple(lines))
        gladen = found.rogan_gladen.warnings if found.rogan_gladen is not None else ()
        yield from warnings([*found.warnings, *(f"Rogan–Gladen: {text}" for text in gladen)])
    if metrics:
        yield Texts(
            ("corrected figures hold if the labelled responses are a random sample of the run",)
        )


def _metric(one: CorrectedMetric) -> Table:
    found, share = one.corrected, one.share
    powered = found.prediction_powered
    name = f"corrected (prediction-powered, λ = {found.power:.2f})"
    rows = [
        estimate(name, powered, found.standard_error, share=share),
        mean("labels alone", found.labels_only, share=share),
        mean("verdicts alone, over responses", found.verdicts_only, share=share),
        mean("verdict minus label", found.bias, share=share),
    ]
    if (gladen := found.rogan_gladen) is not None:
        name = "corrected by sensitivity and specificity (Rogan–Gladen)"
        name += ", people's commonest answer" if one.by_majority else ""
        rows.append(estimate(name, gladen.interval, gladen.standard_error, share=share))
    caption = (
        f"{one.task}/{one.metric}_ppi: {found.labels} labels and verdicts, {found.verdicts} "
        "verdicts alone"
    )
    return estimates(caption, rows, powered.level)


def _worth(found: Corrected) -> str:
    if math.isnan(found.gain):
        return "– labels alone (one of the two has no standard error)"
    return f"{found.effective_labels:.0f} labels alone (gain {found.gain:.2f})"


def label_plan(alone: LabelPlan, mix: MixPlan | None, half_width: float) -> Document:
    """Return how many labels a wished half-width takes, and the cheapest mix if there is one."""
    text = (
        f"± {half_width:g} ({100 * alone.level:g} % interval): {alone.labels:,} labels "
        f"(expected ± {alone.half_width:.4g})"
    )
    plan = (Texts((text,)), *warnings(alone.warnings))
    if mix is None:
        return plan
    text = f"cheapest: {mix.labels:,} labels and no verdicts, cost {mix.cost:,.2f}"
    if mix.verdicts:
        text = (
            f"cheapest: {mix.labels:,} labels among {mix.verdicts:,} verdicts, cost "
            f"{mix.cost:,.2f} in place of {mix.labels_only_cost:,.2f} "
            f"({100 * mix.saving:.0f} % saved; expected ± {mix.half_width:.4g})"
        )
    return (*plan, Texts((text,)), *warnings(mix.warnings))
