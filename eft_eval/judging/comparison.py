"""Two sets of verdicts on the same responses: agreement, κ, offset; for moving to a new judge.

Asks nobody and reads no file.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from eft_eval.judging.prompts.measures import Measure
from eft_eval.records import plain
from eft_eval.statistics.interval import Interval
from eft_eval.statistics.kappa import cohen_kappa
from eft_eval.statistics.means import mean_with_interval, share_of, wilson_interval
from eft_eval.verdicts.verdict import Verdict, most_votes

__all__ = ["Comparison", "JudgeMark", "compare", "rule_of", "split_value"]

Groups = Sequence[Sequence[Verdict]]

_SPLITS = {"count": 0.0, "percent": 50.0}
_RULES = {"count": "any error", "percent": "above 50 %"}


class JudgeMark(NamedTuple):
    """Who gave a set of verdicts.

    Attributes:
        models: The models asked, sorted.
        prompts: Names of the judge prompts with their hashes, ``name@sha256``, sorted.
        first: When the oldest verdict was given, ISO 8601, UTC; None without verdicts.
        last: When the newest was.
    """

    models: tuple[str, ...]
    prompts: tuple[str, ...]
    first: str | None
    last: str | None


@dataclass(frozen=True)
class Comparison:
    """How two sets of verdicts on the same responses agree.

    Attributes:
        measure: What both measure.
        metric: The score that ``offset`` is in: errors per response, or a mean in [0, 1].
        rule: What ``agreement`` and ``kappa`` compare: ``any error``, or ``above 50 %``.
        old: Who gave the first set.
        new: Who gave the second.
        n: Responses that both scored; all figures are of these.
        only_old: Responses that only the first scored.
        only_new: Responses that only the second scored.
        neither: Responses that neither scored.
        agreement: Share of responses that fall on the same side of the rule.
        kappa: Cohen's κ of the same.
        old_rate: Share above the rule's split, first set.
        new_rate: The same, second set.
        equal: Share of responses with exactly the same value.
        weighted_kappa: κ of the values themselves, with quadratic weights.
        old_mean: Mean score, first set.
        new_mean: Mean score, second set.
        offset: Mean of second minus first score, paired by response.
        warnings: What keeps a figure from being read as it stands.
    """

    measure: str
    metric: str
    rule: str
    old: JudgeMark
    new: JudgeMark
    n: int
    only_old: int
    only_new: int
    neither: int
    agreement: Interval
    kappa: Interval
    old_rate: float
    new_rate: float
    equal: float
    weighted_kappa: Interval
    old_mean: float
    new_mean: float
    offset: Interval
    warnings: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values for a results file; what is not known is None."""
        named: dict[str, Any] = plain(self)
        return named


def compare(
    old: Groups, new: Groups, measure: Measure, prompt_ids: Sequence[str], level: float = 0.95
) -> Comparison:
    """Return how two sets of verdicts on the same responses agree.

    Intervals are clustered by prompt where a prompt has several responses.

    Args:
        old: Per prompt the first set's verdicts on its responses.
        new: The second set's, in the same order.
        measure: What both measure.
        prompt_ids: Per prompt its identity; equal ones are one cluster.
        level: Confidence level.
    """
    metric, score = next(iter(measure.scores.items()))
    first, second, clusters = [], [], []
    sides: tuple[list[float], list[float]] = ([], [])
    scored = {(True, False): 0, (False, True): 0, (False, False): 0}
    for group_old, group_new, prompt in zip(old, new, prompt_ids, strict=True):
        for left, right in zip(group_old, group_new, strict=True):
            side, other = (_side(verdict, measure) for verdict in (left, right))
            if side is not None and other is not None:
                first.append(float(left.value or 0))
                second.append(float(right.value or 0))
                sides[0].append(side)
                sides[1].append(other)
                clusters.append(prompt)
            else:
                scored[side is not None, other is not None] += 1
    known = clusters if len({*clusters}) < len(clusters) else None  # independent otherwise
    same = [float(a == b) for a, b in zip(*sides, strict=True)]
    agreement, doubts = _agreement(same, known, level)
    kappa = cohen_kappa(*sides, clusters=known, level=level)
    weighted = cohen_kappa(first, second, weights="quadratic", clusters=known, level=level)
    differences = [score(b) - score(a) for a, b in zip(first, second, strict=True)]
    offset = mean_with_interval(differences, known, level)
    texts = [f"offset: {text}" for text in offset.warnings]
    texts += [f"agreement: {text}" for text in doubts]
    return Comparison(
        measure=measure.name,
        metric=metric,
        rule=rule_of(measure),
        old=_mark(old),
        new=_mark(new),
        n=len(first),
        only_old=scored[True, False],
        only_new=scored[False, True],
        neither=scored[False, False],
        agreement=agreement,
        kappa=kappa.interval,
        old_rate=_mean(sides[0]),
        new_rate=_mean(sides[1]),
        equal=_mean([float(a == b) for a, b in zip(first, second, strict=True)]),
        weighted_kappa=weighted.interval,
        old_mean=_mean([score(value) for value in first]),
        new_mean=_mean([score(value) for value in second]),
        offset=offset.interval,
        warnings=(*texts, *(f"κ: {text}" for text in kappa.warnings)),
    )


def split_value(value: float, measure: Measure) -> float:
    """Return 1 for a value above the rule's split (any error; above 50 %), else 0."""
    return float(value > _SPLITS[measure.scale])


def _side(verdict: Verdict, measure: Measure) -> float | None:
    """Return a verdict's side of the split: of a panel that of most judges, None on a tie."""
    if verdict.value is None:
        return None
    if verdict.votes is None:
        return split_value(verdict.value, measure)
    votes = verdict.votes.values()
    return most_votes(split_value(vote, measure) for vote in votes if vote is not None)


def rule_of(measure: Measure) -> str:
    """Return the words for `split_value`: ``any error``, or ``above 50 %``."""
    return _RULES[measure.scale]


def _mark(groups: Groups) -> JudgeMark:
    given = [v for group in groups for v in group if v.status.has_reply]
    dates = sorted(verdict.created for verdict in given)
    return JudgeMark(
        models=tuple(sorted({verdict.judge_model for verdict in given})),
        prompts=tuple(sorted({f"{v.prompt_name}@{v.prompt_sha256}" for v in given})),
        first=dates[0] if dates else None,
        last=dates[-1] if dates else None,
    )


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan


def _agreement(
    same: Sequence[float], clusters: Sequence[str] | None, level: float
) -> tuple[Interval, tuple[str, ...]]:
    """Return the share of ones: Wilson's interval, or the clustered t one within [0, 1]."""
    if clusters is None:
        return wilson_interval(sum(same), len(same), level), ()
    share = share_of(mean_with_interval(same, clusters, level))
    return share.interval, share.warnings
