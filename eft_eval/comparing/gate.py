"""The gate: regression, pass or inconclusive, from the gains of the gated metrics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from eft_eval.comparing.comparison import Decision, Outcome
from eft_eval.statistics.document_planning import POWER, items_to_decide
from eft_eval.statistics.paired import Difference, holm

__all__ = ["Gated", "decide", "worst"]

_SLACK = 1e-12  # a drop that equals the tolerance does not exceed it by rounding


class Gated(NamedTuple):
    """One gated metric.

    Attributes:
        name: For the sentences.
        gain: Of candidate over baseline in the better direction; None where the candidate has no
            such metric.
        documents: Documents that the gain comes from.
        tolerance: Largest accepted drop.
        accept_inconclusive: Whether policy lets it pass undecided.
        absent: Why the candidate has no figure, where it has none.
    """

    name: str
    gain: Difference | None
    documents: int
    tolerance: float
    accept_inconclusive: bool
    absent: str = ""


def decide(gated: Sequence[Gated], alpha: float) -> list[Decision]:
    """Return the decision on each gated metric.

    Regression: the one-sided upper bound of the gain is below 0 at Holm's level and the drop is
    beyond the tolerance. Pass: the lower bound, at level 1 - α, is above -tolerance (each metric
    must pass on its own, so no correction is needed), or nothing changed at all, or policy allows.
    A metric that the candidate lacks is a regression. All else is inconclusive.

    Args:
        gated: The metrics, of one candidate.
        alpha: One-sided error probability.
    """
    tested = [index for index, one in enumerate(gated) if one.gain is not None]
    raw = [_p_worse(gated[index].gain) for index in tested]
    adjusted = dict(zip(tested, holm(raw), strict=True))
    rejected = sum(p <= alpha for p in adjusted.values())
    decisions = []
    for index, one in enumerate(gated):
        if one.gain is None:
            decisions.append(_absent(one))
            continue
        own = _p_worse(one.gain)
        below = sum(p < own for p in raw)
        step = min(below, rejected) if adjusted[index] <= alpha else rejected
        share = alpha / (len(tested) - min(step, len(tested) - 1))
        decisions.append(_decide(one, one.gain, alpha, share, adjusted[index]))
    return decisions


def worst(outcomes: Sequence[Outcome]) -> Outcome:
    """Return regression if one is, else inconclusive if one is, else pass."""
    if "regression" in outcomes:
        return "regression"
    return "inconclusive" if "inconclusive" in outcomes else "pass"


def _p_worse(gain: Difference | None) -> float:
    assert gain is not None
    return 1.0 if math.isnan(gain.interval.estimate) else gain.p_below()


def _absent(one: Gated) -> Decision:
    reason = f"{one.name} is missing in the candidate: {one.absent}"
    return Decision("regression", reason, one.tolerance, *(None,) * 8)


def _decide(one: Gated, gain: Difference, alpha: float, share: float, adjusted: float) -> Decision:
    estimate = gain.interval.estimate
    upper, lower = gain.bound(1 - share).upper, gain.bound(1 - alpha).lower
    outcome, reason, needed = _outcome(one, gain, adjusted <= alpha, lower, alpha, share)
    return Decision(
        outcome=outcome,
        reason=reason,
        tolerance=one.tolerance,
        gain=_number(estimate),
        upper=_number(upper),
        upper_level=1 - share,
        lower=_number(lower),
        lower_level=1 - alpha,
        p_worse=gain.p_below(),
        p_worse_holm=adjusted,
        items_to_decide=needed,
    )


def _outcome(
    one: Gated, gain: Difference, worse: bool, lower: float, alpha: float, share: float
) -> tuple[Outcome, str, int | None]:
    estimate, tolerance = gain.interval.estimate, one.tolerance
    change = _change(one.name, estimate)
    if math.isnan(estimate):
        return _undecided(one, f"{one.name} has no document with a number in both runs", None)
    beyond = -estimate > tolerance + _SLACK
    if worse and beyond:
        limit = f", beyond the tolerance of {tolerance:g}" if tolerance else ""
        return "regression", f"{change}{limit}, more than chance explains", None
    if gain.standard_error == 0 and estimate == 0:
        return "pass", f"{one.name} is the same on every document", None
    if lower > -tolerance - (_SLACK if tolerance else 0):
        if worse:
            return "pass", f"{change}, within the tolerance of {tolerance:g}", None
        within = f"no drop beyond {tolerance:g}" if tolerance else "no drop"
        return "pass", f"{change}: {within} is left with confidence", None
    if gain.standard_error == 0 and not beyond:
        return "pass", f"{change} on every document, within the tolerance of {tolerance:g}", None
    if math.isnan(gain.standard_error):
        return _undecided(one, f"{change} on the one document that both runs scored", None)
    needed = _needed(one, gain, alpha, share)
    hint = f"; {needed:,} documents would decide" if needed else ""
    left = "a drop is not ruled out" if estimate == 0 else "which chance may explain"
    return _undecided(one, f"{change}, {left}{hint}", needed)


def _undecided(one: Gated, reason: str, needed: int | None) -> tuple[Outcome, str, int | None]:
    if one.accept_inconclusive:
        return "pass", f"{reason} (undecided, accepted by policy)", needed
    return "inconclusive", reason, needed


def _needed(one: Gated, gain: Difference, alpha: float, share: float) -> int | None:
    """Return with how many documents the difference seen, were it true, would be decided."""
    estimate, error = gain.interval.estimate, gain.standard_error
    if not error > 0:
        return None
    room = estimate + one.tolerance
    if abs(room) <= _SLACK:  # on the border: no number of documents decides
        return None
    if room > 0:
        return items_to_decide(one.documents, gain.freedom + 1, error, room, alpha, POWER)
    return items_to_decide(one.documents, gain.freedom + 1, error, -estimate, share, POWER)


def _change(name: str, estimate: float) -> str:
    if estimate == 0:
        return f"{name} did not change on average"
    return f"{name} got {'worse' if estimate < 0 else 'better'} by {abs(estimate):.4g}"


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
