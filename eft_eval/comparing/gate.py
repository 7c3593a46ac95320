"""The gate: regression, pass or inconclusive, from the gains of the gated metrics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from eft_eval.comparing.comparison import Decision, Outcome
from eft_eval.statistics.document_planning import POWER, detectable_effect, items_to_decide
from eft_eval.statistics.paired import Difference, holm

__all__ = ["Gated", "decide", "decide_all", "worst"]

_Result = TypeVar("_Result", bound=str)
_BADNESS = ("regression", "not comparable", "inconclusive", "pass")
_SLACK = 1e-12  # a drop that equals the tolerance, or none, does not exceed it by rounding


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
        least: The gain with every unknown score at its worst for the candidate; None where every
            score is known.
        most: The same at its best.
        unknown: Number of unknown scores.
    """

    name: str
    gain: Difference | None
    documents: int
    tolerance: float
    accept_inconclusive: bool
    absent: str = ""
    least: Difference | None = None
    most: Difference | None = None
    unknown: int = 0

    @property
    def ends(self) -> tuple[Difference, Difference]:
        """The gain at its least and at its most; both are the gain where all is known."""
        assert self.gain is not None
        return self.least or self.gain, self.most or self.gain


class _Levels(NamedTuple):
    """Error probabilities of a metric's two bounds; whether it is worse, and with which p-value."""

    worse: float
    kept: float
    adjusted: float
    is_worse: bool


def decide(gated: Sequence[Gated], alpha: float) -> list[Decision]:
    """Return the decision on each gated metric of one candidate; see `decide_all`."""
    return decide_all([gated], alpha)[0]


def decide_all(candidates: Sequence[Sequence[Gated]], alpha: float) -> list[list[Decision]]:
    """Return the decision on each gated metric of each candidate.

    Regression: the one-sided upper bound of the gain is below 0 at Holm's level and the drop is
    beyond the tolerance. Pass: the lower bound, at level 1 - α, is above -tolerance (each metric
    must pass on its own, so only several candidates need Holm's correction), or nothing changed
    at all, or policy allows. A metric that the candidate lacks is a regression. All else is
    inconclusive. Where scores are unknown, a regression must stand with all of them at their
    best, a pass with all of them at their worst.

    Args:
        candidates: The metrics of each candidate.
        alpha: One-sided error probability.
    """
    places = [(i, j) for i, some in enumerate(candidates) for j, one in enumerate(some) if one.gain]
    raw = [_p_worse(candidates[i][j].ends[1]) for i, j in places]
    worse = dict(zip(places, _steps(raw, alpha), strict=True))
    p_kept = [max((_p_drop(one) for one in some), default=1.0) for some in candidates]
    kept = [share for share, _ in _steps(p_kept, alpha)]
    decisions: list[list[Decision]] = []
    for i, some in enumerate(candidates):
        decisions.append([])
        for j, one in enumerate(some):
            if one.gain is None:
                decisions[-1].append(_absent(one))
            else:
                share, adjusted = worse[i, j]
                levels = _Levels(share, kept[i], adjusted, adjusted <= alpha)
                decisions[-1].append(_decide(one, levels))
    return decisions


def worst(outcomes: Sequence[_Result]) -> _Result:
    """Return regression if one is, else "not comparable", else inconclusive, else pass."""
    return min(outcomes, key=_BADNESS.index)


def _steps(p_values: Sequence[float], alpha: float) -> list[tuple[float, float]]:
    """Return for each test its share of α in Holm's steps, and whether its p-value, adjusted."""
    adjusted = holm(p_values)
    rejected = sum(p <= alpha for p in adjusted)
    found = []
    for own, p in zip(p_values, adjusted, strict=True):
        step = min(sum(other < own for other in p_values), rejected) if p <= alpha else rejected
        share = alpha / (len(p_values) - min(step, len(p_values) - 1))
        found.append((share, p))
    return found


def _p_worse(gain: Difference) -> float:
    return 1.0 if math.isnan(gain.interval.estimate) else gain.p_below()


def _p_drop(one: Gated) -> float:
    """Return the one-sided p-value of "the drop is at least the tolerance"; 0 or 1 if certain."""
    if one.gain is None:
        return 1.0
    least = one.ends[0]
    if math.isnan(least.interval.estimate) or math.isnan(least.standard_error):
        return 1.0
    if least.standard_error == 0:
        return 0.0 if _kept(least, one.tolerance) else 1.0
    return least.negated().p_below(one.tolerance)


def _kept(least: Difference, tolerance: float) -> bool:
    """Whether a gain without spread is within the tolerance, on every document."""
    return -least.interval.estimate <= tolerance + _SLACK


def _absent(one: Gated) -> Decision:
    reason = f"{one.name} is missing in the candidate: {one.absent}"
    return Decision("regression", reason, one.tolerance)


def _decide(one: Gated, levels: _Levels) -> Decision:
    assert one.gain is not None
    least, most = one.ends
    upper, lower = most.bound(1 - levels.worse).upper, least.bound(1 - levels.kept).lower
    found = _outcome(one, levels, lower, upper)
    nothing = math.isnan(one.gain.interval.estimate)
    accepted = found.outcome == "inconclusive" and one.accept_inconclusive and not nothing
    return Decision(
        outcome="pass" if accepted else found.outcome,
        reason=f"{found.reason} (undecided, accepted by policy)" if accepted else found.reason,
        tolerance=one.tolerance,
        gain=_number(one.gain.interval.estimate),
        upper=_number(upper),
        upper_level=1 - levels.worse,
        lower=_number(lower),
        lower_level=1 - levels.kept,
        p_worse=_p_worse(most),
        p_worse_holm=levels.adjusted,
        items_to_decide=found.needed,
        detectable=_detectable(one.gain, levels.worse),
        accepted=accepted,
        incomplete=nothing,
    )


class _Found(NamedTuple):
    outcome: Outcome
    reason: str
    needed: int | None = None


def _outcome(one: Gated, levels: _Levels, lower: float, upper: float) -> _Found:
    assert one.gain is not None
    least, most = one.ends
    change = _change(one.name, one.gain.interval.estimate)
    if levels.is_worse and -most.interval.estimate > one.tolerance + _SLACK:
        return _Found("regression", f"{change}, {_regression(one.tolerance, upper)}")
    if passed := _passed(one, least, lower, levels.is_worse):
        return _Found("pass", passed)
    return _open(one, levels, change)


def _regression(tolerance: float, upper: float) -> str:
    if not tolerance:
        return "more than chance explains"
    sure = upper < -tolerance
    how = f"surely beyond the tolerance of {tolerance:g}"
    return how if sure else f"beyond the tolerance of {tolerance:g} and more than chance explains"


def _passed(one: Gated, least: Difference, lower: float, worse: bool) -> str:
    """Return why a metric passes; nothing where it does not."""
    assert one.gain is not None
    estimate, tolerance = one.gain.interval.estimate, one.tolerance
    change = _change(one.name, estimate)
    known = f", were all {one.unknown} unknown scores the worst" if one.unknown else ""
    if math.isnan(estimate) or math.isnan(least.interval.estimate):
        return ""
    if least.standard_error == 0 and least.interval.estimate == 0:
        return f"{one.name} is the same on every document"
    if lower > -tolerance - (_SLACK if tolerance else 0):
        if worse:
            return f"{change}, within the tolerance of {tolerance:g}{known}"
        within = f"no drop beyond {tolerance:g}" if tolerance else "no drop"
        return f"{change}: {within} is left with confidence{known}"
    if least.standard_error == 0 and _kept(least, tolerance):
        return f"{change} on every document, within the tolerance of {tolerance:g}{known}"
    return ""


def _open(one: Gated, levels: _Levels, change: str) -> _Found:
    """Return what keeps a metric from being decided: numbers, unknown scores, chance, tolerance."""
    gain, least, most = one.gain, *one.ends
    assert gain is not None
    estimate = gain.interval.estimate
    between = (
        f"{one.unknown:,} scores are unknown, so the gain lies between "
        f"{least.interval.estimate + 0.0:+.4g} and {most.interval.estimate + 0.0:+.4g}"
    )
    if math.isnan(estimate):
        nothing = f"{one.name} has no document with a number in both runs"
        return _Found("inconclusive", f"{nothing}: {between}" if one.unknown else nothing)
    if math.isnan(gain.standard_error):
        only = f"{change} on the one document that both runs scored"
        return _Found("inconclusive", f"{only}: {between}" if one.unknown else only)
    if one.unknown and _decides_alone(one, gain, levels):
        return _Found("inconclusive", f"{change} where both are scored, but {between}")
    needed = _needed(one, gain, levels)
    found = _detectable(gain, levels.worse)
    hint = ""
    if found is not None:
        hint = f"; {one.documents:,} documents find a drop of {found:.2g} (power {POWER:.0%})"
        hint = hint.replace("%", " %")
    if needed:
        hint += f", {needed:,} documents would decide"
    return _Found("inconclusive", f"{change}, {_what_is_open(one, levels)}{hint}", needed)


def _decides_alone(one: Gated, gain: Difference, levels: _Levels) -> bool:
    """Whether the scores that are known would decide, were they all."""
    beyond = -gain.interval.estimate > one.tolerance + _SLACK
    if _p_worse(gain) <= levels.worse and beyond:
        return True
    return bool(_passed(one, gain, gain.bound(1 - levels.kept).lower, False))


def _what_is_open(one: Gated, levels: _Levels) -> str:
    assert one.gain is not None
    estimate, tolerance = one.gain.interval.estimate, one.tolerance
    beyond = f" beyond the tolerance of {tolerance:g}" if tolerance else ""
    if levels.is_worse:
        return f"more than chance explains, but a drop{beyond} is neither shown nor ruled out"
    if estimate >= -_SLACK:
        return f"but a drop{beyond} is not ruled out"
    if -estimate > tolerance + _SLACK:
        return f"which chance may explain{f': the tolerance is {tolerance:g}' if tolerance else ''}"
    return f"within the tolerance of {tolerance:g}, but a drop beyond it is not ruled out"


def _needed(one: Gated, gain: Difference, levels: _Levels) -> int | None:
    """Return with how many documents the difference seen, were it true, would be decided."""
    estimate, error = gain.interval.estimate, gain.careful_error
    if not error > 0:
        return None
    room = estimate + one.tolerance
    if abs(room) <= _SLACK:  # on the border: no number of documents decides
        return None
    units = gain.freedom + 1
    if room > 0:
        return items_to_decide(one.documents, units, error, room, levels.kept, POWER)
    return items_to_decide(one.documents, units, error, -estimate, levels.worse, POWER)


def _detectable(gain: Difference, share: float) -> float | None:
    if not gain.standard_error > 0:
        return None
    return detectable_effect(gain.freedom, gain.careful_error, share, POWER)


def _change(name: str, estimate: float) -> str:
    if abs(estimate) <= _SLACK:
        return f"{name} did not change on average"
    return f"{name} got {'worse' if estimate < 0 else 'better'} by {abs(estimate):.4g}"


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
