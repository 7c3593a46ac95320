"""The disagreement protocol (section 4.5): who is right where judge and human differ.

Arithmetic only: gold labels settle a seeded draw of the disagreements. Knows
nothing of files or of who labelled.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from eft_eval.errors import ConfigError
from eft_eval.statistics.interval import Interval
from eft_eval.statistics.means import (
    NAN,
    Proportion,
    check_level,
    finite_population_factor,
    proportion,
    spread,
    t_quantile,
    unknown,
)
from eft_eval.statistics.ratings import Ratings, Rule, apply_rule, read_pair, read_ratings
from eft_eval.statistics.tables import mcnemar

__all__ = ["GoldOutcome", "gold_outcome", "gold_outcome_of_counts"]

_ASSUMED = (
    "both accuracies assume that judge and human are right wherever they agree: no agreement was "
    "checked"
)


@dataclass(frozen=True)
class GoldOutcome:
    """What gold labels say about judge and human.

    Attributes:
        agreements: Items on which judge and human agree.
        disagreements: Items on which they differ.
        adjudicated: Disagreements with a gold label.
        with_judge: Of these, gold sides with the judge.
        with_human: Of these, gold sides with the human.
        neither: Of these, gold sides with neither; only on the raw scale.
        share: Share siding with the judge, as a draw from unlimited disagreements (the paper's
            reading: 23 of 30, standard error √(p(1-p)/(n-1))).
        finite_factor: √(1 - adjudicated/disagreements).
        finite_standard_error: The standard error times this factor: as a draw from these
            disagreements and no others.
        finite_interval: The share's t interval with that standard error, within what the
            disagreements not adjudicated could still make of it.
        sides_p_value: Exact two-sided test of "gold sides with either equally often".
        judge_accuracy: Implied share of items on which the judge is right, over like items; the
            interval is held within [0, 1].
        human_accuracy: The same for the human.
        accuracy_gain: Judge's minus human's accuracy.
        agreements_checked: Agreements with a gold label.
        agreements_right: Of these, gold agrees with both.
        caveat: What the accuracies assume; empty where agreements were checked.
        warnings: What keeps a figure from being read as it stands.
    """

    agreements: int
    disagreements: int
    adjudicated: int
    with_judge: int
    with_human: int
    neither: int
    share: Proportion
    finite_factor: float
    finite_standard_error: float
    finite_interval: Interval
    sides_p_value: float
    judge_accuracy: Interval
    human_accuracy: Interval
    accuracy_gain: Interval
    agreements_checked: int
    agreements_right: int
    caveat: str
    warnings: tuple[str, ...]


def gold_outcome(
    judge: Ratings,
    human: Ratings,
    gold: Ratings,
    *,
    rule: Rule = "any error",
    level: float = 0.95,
) -> GoldOutcome:
    """Return whom the gold labels side with; see `gold_outcome_of_counts`.

    Args:
        judge: The judge's ratings of all items.
        human: The human's ratings of the same items.
        gold: Gold ratings; None where an item was not adjudicated.
        rule: "any error" compares whether a count is above 0; "raw" the ratings themselves.
        level: Confidence level.
    """
    first, second = read_pair(judge, human, ("the judge's ratings", "the human's"))
    first = apply_rule(first, rule, "the judge's ratings")
    second = apply_rule(second, rule, "the human's")
    truth = apply_rule(read_ratings(gold, "gold labels"), rule, "gold labels")
    if len(truth) != len(first):
        raise ConfigError(
            f"{len(truth)} gold labels for {len(first)} items; expected one for each item, None "
            "where it was not adjudicated"
        )
    rated = ~(np.isnan(first) | np.isnan(second))
    labelled = rated & ~np.isnan(truth)
    differ = first != second
    return gold_outcome_of_counts(
        agreements=int((rated & ~differ).sum()),
        disagreements=int((rated & differ).sum()),
        with_judge=int((labelled & differ & (truth == first)).sum()),
        with_human=int((labelled & differ & (truth == second)).sum()),
        neither=int((labelled & differ & (truth != first) & (truth != second)).sum()),
        agreements_checked=int((labelled & ~differ).sum()),
        agreements_right=int((labelled & ~differ & (truth == first)).sum()),
        level=level,
    )


def gold_outcome_of_counts(
    *,
    agreements: int,
    disagreements: int,
    with_judge: int,
    with_human: int,
    neither: int = 0,
    agreements_checked: int = 0,
    agreements_right: int = 0,
    level: float = 0.95,
) -> GoldOutcome:
    """Return the outcome of the protocol from its counts (section 4.5 of the paper).

    With agreement rate a, share s of the adjudicated disagreements, and q the share of checked
    agreements that are right (1 where none was checked): ``accuracy = a q + (1-a) s``, by the
    delta method ``var = (q-s)² a(1-a)/(N-1) + (1-a)² s(1-s)/(m-1) + a² q̃(1-q̃)/(k+2)`` for N
    items, m adjudicated disagreements and k checked agreements (q̃ with one right and one wrong
    one more), and t with m - 1 degrees of freedom. The gain is ``(1-a)(s_judge - s_human)``, in
    which q cancels.
    """
    check_level(level)
    adjudicated = with_judge + with_human + neither
    counts = (agreements, disagreements, with_judge, with_human, neither)
    if min(*counts, agreements_checked, agreements_right) < 0:
        raise ConfigError("a count is below 0; expected numbers of items")
    if adjudicated > disagreements or not agreements_right <= agreements_checked <= agreements:
        raise ConfigError(
            f"{adjudicated} adjudicated of {disagreements} disagreements, {agreements_right} right "
            f"of {agreements_checked} checked of {agreements} agreements: a part exceeds its whole"
        )
    share = proportion(with_judge, adjudicated, level)
    factor = finite_population_factor(adjudicated, disagreements) if disagreements else NAN
    finite_error = 0.0 if factor == 0 else share.standard_error * factor
    warnings = list(share.warnings)
    if agreements_checked and agreements_right == agreements_checked:
        warnings.append(
            f"all {agreements_checked} checked agreements are right: rare errors may hide"
        )
    human_share = with_human / adjudicated if adjudicated else NAN
    basis = _Basis(
        items=agreements + disagreements,
        agreement=agreements / (agreements + disagreements) if agreements + disagreements else NAN,
        adjudicated=adjudicated,
        checked=agreements_checked,
        right=agreements_right / agreements_checked if agreements_checked else 1.0,
        level=level,
    )
    return GoldOutcome(
        agreements=agreements,
        disagreements=disagreements,
        adjudicated=adjudicated,
        with_judge=with_judge,
        with_human=with_human,
        neither=neither,
        share=share,
        finite_factor=factor,
        finite_standard_error=finite_error,
        finite_interval=_finite(with_judge, adjudicated, disagreements, finite_error, level),
        sides_p_value=mcnemar(with_judge, with_human).exact if adjudicated else NAN,
        judge_accuracy=basis.accuracy(share.rate),
        human_accuracy=basis.accuracy(human_share),
        accuracy_gain=basis.gain(share.rate, human_share),
        agreements_checked=agreements_checked,
        agreements_right=agreements_right,
        caveat="" if agreements_checked else _ASSUMED,
        warnings=tuple(warnings),
    )


class _Basis(NamedTuple):
    """What the implied accuracies rest on, beside the shares of the adjudicated disagreements."""

    items: int
    agreement: float  # a
    adjudicated: int
    checked: int
    right: float  # q
    level: float

    def accuracy(self, side: float) -> Interval:
        """Return ``a q + (1-a) s`` for the share s of gold labels that side with somebody."""
        rate, right = self.agreement, self.right
        variance = (right - side) ** 2 * rate * (1 - rate) * _over(self.items)
        variance += (1 - rate) ** 2 * side * (1 - side) * _over(self.adjudicated)
        if self.checked:
            smoothed = (right * self.checked + 1) / (self.checked + 2)  # none wrong is no proof
            variance += rate**2 * smoothed * (1 - smoothed) / (self.checked + 2)
        estimate = rate * right + (1 - rate) * side
        sure = side in (0, 1)
        return _delta(estimate, variance, self.adjudicated, sure, self.level, least=0.0)

    def gain(self, judge: float, human: float) -> Interval:
        """Return ``(1-a) (s_judge - s_human)``; the two shares are of the same gold labels."""
        rate, lead = self.agreement, judge - human
        sides = judge + human - lead**2
        variance = lead**2 * rate * (1 - rate) * _over(self.items)
        variance += (1 - rate) ** 2 * sides * _over(self.adjudicated)
        gain, sure = (1 - rate) * lead, sides == 0
        return _delta(gain, variance, self.adjudicated, sure, self.level, least=-1.0)


def _over(n: int) -> float:
    return 1 / (n - 1) if n > 1 else NAN


def _delta(
    estimate: float, variance: float, n: int, sure: bool, level: float, *, least: float
) -> Interval:
    """Return a t interval within [least, 1]; none where the share would count as sure."""
    method = "delta method, t"
    if sure or not variance > 0:
        return unknown(level, method, estimate)
    found = spread(estimate, t_quantile(level, n - 1) * math.sqrt(variance), level, method)
    return found._replace(lower=max(least, found.lower), upper=min(1.0, found.upper))


def _finite(successes: int, n: int, population: int, error: float, level: float) -> Interval:
    """Return the share among ``population`` things, of which ``n`` are known."""
    method = "t, finite population"
    if n == 0:
        return unknown(level, method)
    least, most = successes / population, (successes + population - n) / population
    estimate = successes / n
    if n == population:
        return Interval(estimate, estimate, estimate, level, method)
    if not error > 0:
        return unknown(level, method, estimate)
    half = t_quantile(level, n - 1) * error
    return Interval(
        estimate, max(least, estimate - half), min(most, estimate + half), level, method
    )
