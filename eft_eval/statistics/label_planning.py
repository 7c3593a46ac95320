"""How many labels for a wished precision, and the cheapest mix of labels and verdicts."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from eft_eval.errors import ConfigError
from eft_eval.statistics.means import normal_quantile

__all__ = ["LabelPlan", "MixPlan", "cheapest_mix", "labels_needed"]

_LARGEST_PLAN = 5_000_000  # labels


class LabelPlan(NamedTuple):
    """How many labels a wished half-width takes.

    Attributes:
        labels: Number of labels.
        half_width: Half-width that they are expected to give.
        level: Confidence level.
        warnings: What keeps the plan from being read as it stands.
    """

    labels: int
    half_width: float
    level: float
    warnings: tuple[str, ...]


class MixPlan(NamedTuple):
    """The cheapest mix of labels and verdicts for a wished half-width.

    Attributes:
        labels: Responses that a person labels.
        verdicts: Responses that the judge judges, the labelled ones among them; 0 where labels
            alone are cheapest.
        cost: Cost of the mix.
        half_width: Half-width that it is expected to give.
        labels_only: Labels needed without a judge.
        labels_only_cost: Their cost.
        saving: Share of that cost that the mix saves.
        level: Confidence level.
        warnings: What keeps the plan from being read as it stands.
    """

    labels: int
    verdicts: int
    cost: float
    half_width: float
    labels_only: int
    labels_only_cost: float
    saving: float
    level: float
    warnings: tuple[str, ...]


def labels_needed(
    half_width: float,
    *,
    rate: float = 0.5,
    deviation: float | None = None,
    population: int | None = None,
    level: float = 0.95,
) -> LabelPlan:
    """Return how many labels give a rate, or a mean, to ``± half_width``.

    ``n = ⌈z² σ² / h²⌉`` with ``σ² = p(1-p)``; from a finite population of N, ``n / (1 + n/N)``
    (Cochran 1977, section 4.4). At p = 0.61: 92 for ±10 points, 366 for ±5.

    Args:
        half_width: Wished half-width h, in the units of the mean (0.05 is 5 points).
        rate: Expected rate p; 0.5 is the worst case.
        deviation: Expected standard deviation of a label that is no rate, in place of ``rate``.
        population: Number of responses, where the answer is to speak of these alone.
        level: Confidence level.
    """
    wanted = _variance_wanted(half_width, level)
    variance = _variance(rate, deviation)
    needed = variance / wanted
    if population is not None:
        if population < 1:
            raise ConfigError(f"population is {population}; expected 1 or more")
        needed = needed / (1 + needed / population)
    labels = max(1, math.ceil(needed - 1e-9))
    rest = 1.0 if population is None else max(0.0, 1 - labels / population)
    reached = float(half_width * math.sqrt(variance / labels * rest / wanted))
    return LabelPlan(labels, reached, level, _few(labels))


def cheapest_mix(
    half_width: float,
    *,
    label_cost: float,
    verdict_cost: float,
    correlation: float | None = None,
    variance_reduction: float | None = None,
    rate: float = 0.5,
    deviation: float | None = None,
    most_verdicts: int | None = None,
    fewest_labels: int = 30,
    level: float = 0.95,
) -> MixPlan:
    """Return the cheapest numbers of labels and verdicts for ``± half_width``.

    Power-tuned prediction-powered inference (PPI++, arXiv 2311.01453) with n labels among T
    verdicts has ``var θ = σ² ((1 - ρ²)/n + ρ²/T)``, ρ the correlation of label and verdict. All
    n are searched; T is the least that suffices for each. Without rounding and bounds the optimum
    is ``T/n = √(ρ²/(1-ρ²) · label cost/verdict cost)``. Labels alone are the answer where they
    cost no more.

    Args:
        half_width: Wished half-width, in the units of the mean.
        label_cost: Cost of one label.
        verdict_cost: Cost of one verdict; a labelled response needs one as well.
        correlation: ρ, as `Corrected.correlation` of a pilot.
        variance_reduction: ρ², in place of the correlation.
        rate: Expected rate p; 0.5 is the worst case.
        deviation: Expected standard deviation of a label that is no rate, in place of ``rate``.
        most_verdicts: Most verdicts there can be: the number of responses.
        fewest_labels: Fewest labels of a mix; below 30 the interval is rough.
        level: Confidence level.
    """
    if label_cost <= 0 or verdict_cost < 0:
        raise ConfigError(
            f"a label costs {label_cost} and a verdict {verdict_cost}; expected a label above 0 "
            "and a verdict of 0 or more"
        )
    share = _share(correlation, variance_reduction)
    alone = labels_needed(half_width, rate=rate, deviation=deviation, level=level)
    if alone.labels > _LARGEST_PLAN:
        raise ConfigError(
            f"±{half_width} takes {alone.labels:,} labels; expected a half-width that takes at "
            f"most {_LARGEST_PLAN:,}"
        )
    variance = _variance(rate, deviation)
    wanted = _variance_wanted(half_width, level) / variance if variance else math.inf
    candidates = np.arange(
        max(fewest_labels, math.floor((1 - share) / wanted) + 1), alone.labels
    )  # fewer cannot suffice, more are no mix
    labels, verdicts, reached = alone.labels, 0, alone.half_width
    cost = alone_cost = alone.labels * label_cost
    if share > 0 and len(candidates):
        totals = np.ceil(share / (wanted - (1 - share) / candidates) - 1e-9)
        totals = np.maximum(totals, candidates)
        costs = candidates * label_cost + totals * verdict_cost
        if most_verdicts is not None:
            costs = np.where(totals <= most_verdicts, costs, np.inf)
        best = int(costs.argmin())
        if costs[best] < cost:
            labels, verdicts, cost = int(candidates[best]), int(totals[best]), float(costs[best])
            scaled = (1 - share) / labels + share / verdicts
            reached = float(half_width * math.sqrt(scaled / wanted))
    warnings = list(_few(labels))
    if most_verdicts is not None and alone.labels > most_verdicts and not verdicts:
        warnings.append(
            f"±{half_width:g} takes {alone.labels} labels, more than the {most_verdicts} responses"
        )
    return MixPlan(
        labels=labels,
        verdicts=verdicts,
        cost=cost,
        half_width=reached,
        labels_only=alone.labels,
        labels_only_cost=alone_cost,
        saving=1 - cost / alone_cost,
        level=level,
        warnings=tuple(warnings),
    )


def _variance_wanted(half_width: float, level: float) -> float:
    if not half_width > 0:
        raise ConfigError(f"half-width is {half_width}; expected a number above 0, such as 0.05")
    return (half_width / normal_quantile(level)) ** 2


def _variance(rate: float, deviation: float | None) -> float:
    if deviation is not None:
        if deviation < 0:
            raise ConfigError(f"deviation is {deviation}; expected 0 or more")
        return deviation**2
    if not 0 <= rate <= 1:
        raise ConfigError(f"rate is {rate}; a proportion lies in [0, 1]")
    return rate * (1 - rate)


def _share(correlation: float | None, variance_reduction: float | None) -> float:
    """Return ρ²; exactly one of the two is given."""
    if (correlation is None) == (variance_reduction is None):
        raise ConfigError("expected either the correlation or the variance reduction")
    if correlation is not None:
        if not -1 <= correlation <= 1:
            raise ConfigError(f"correlation is {correlation}; expected a number in [-1, 1]")
        return max(0.0, correlation) ** 2  # a negative one is not used: λ is held above 0
    assert variance_reduction is not None
    if not 0 <= variance_reduction <= 1:
        raise ConfigError(f"variance reduction is {variance_reduction}; expected one in [0, 1]")
    return variance_reduction


def _few(labels: int) -> tuple[str, ...]:
    if labels >= 30:
        return ()
    return (f"{labels} labels: the normal formula is rough below 30",)
