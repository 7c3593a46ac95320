"""A panel of judges: what they say together of a response, and how far they agree.

Asks nobody and reads no file. A panel scores a response only where every one of its judges does.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any, NamedTuple

from eft_eval.errors import ConfigError
from eft_eval.judging.comparison import Comparison, compare, rule_of, split_value
from eft_eval.judging.judges.registry import prefix_of
from eft_eval.judging.prompts.measures import Measure
from eft_eval.records import plain
from eft_eval.runs.judged import PANEL_OF
from eft_eval.statistics.alpha import Metric, krippendorff_alpha
from eft_eval.statistics.interval import Interval
from eft_eval.verdicts.verdict import Status, Verdict, most_votes, status_of_several

__all__ = [
    "PanelAlpha",
    "PanelFound",
    "judge_names",
    "panel_agreement",
    "panel_name",
    "panel_verdict",
    "panel_verdicts",
]

Groups = Sequence[Sequence[Verdict]]

_UNSAFE = re.compile(r"[^A-Za-z0-9._:+-]+")
_DIGITS = 6
_RESAMPLES = 1000


class PanelAlpha(NamedTuple):
    """Krippendorff's α of a panel's judges.

    Attributes:
        interval: α with its bootstrap interval, over prompts where several responses share one.
        metric: ``nominal`` for the rule's two classes, ``interval`` for the values.
        items: Responses that two judges or more scored.
        warnings: What keeps it from being read as it stands.
    """

    interval: Interval
    metric: str
    items: int
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class PanelFound:
    """How a panel's judges agree about the responses of one task and measure.

    Attributes:
        judges: Their names, in the order of the filters' names.
        measure: What they measure.
        metric: The score that offsets are in.
        rule: What agreement, κ and the nominal α are of: ``any error``, or ``above 50 %``.
        scored_by: Number of responses by how many of the judges scored them, as text.
        tied: Responses that all scored, with as many judges on either side of the rule; such a
            response has no class, and counts as unknown there.
        alphas: α by the rule and of the values.
        pairs: Every two judges: agreement, κ and the paired difference of their scores.
    """

    judges: tuple[str, ...]
    measure: str
    metric: str
    rule: str
    scored_by: Mapping[str, int]
    tied: int
    alphas: tuple[PanelAlpha, ...]
    pairs: tuple[tuple[str, str, Comparison], ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values for a results file; what is not known is None."""
        pairs = [
            {"first": first, "second": second, **found.as_dict()}
            for first, second, found in self.pairs
        ]
        return {**plain(self), "pairs": pairs}


def judge_names(models: Sequence[str]) -> tuple[str, ...]:
    """Return a short name for each judge of a panel, by which metrics are told apart.

    The last part of its name without what would break a metric's name or tell a folder of this
    machine; where two would be called the same, with the beginning of a hash of the whole. It
    does not depend on the order, nor, unless two are alike, on the other judges.

    Raises:
        ConfigError: A judge is there twice.
    """
    for model, count in Counter(models).items():
        if count > 1:
            raise ConfigError(
                f"the judge {model!r} is given twice; a panel has each judge once, at one address: "
                "its verdicts are kept by its name"
            )
    short = [_short(model) for model in models]
    alike = {name for name, count in Counter(short).items() if count > 1}
    return tuple(
        f"{name}-{hashlib.sha256(model.encode()).hexdigest()[:_DIGITS]}" if name in alike else name
        for name, model in zip(short, models, strict=True)
    )


def _short(model: str) -> str:
    prefix = prefix_of(model)
    name, *options = model.removeprefix(f"{prefix}:").split(",") if prefix else [model]
    last = PurePath(name.rstrip("/")).name or name
    whole = ":".join(filter(None, (prefix, "+".join((last, *options)))))
    return _UNSAFE.sub("_", whole)


def panel_name(names: Sequence[str]) -> str:
    """Return what a panel is called where a judge's name would stand; the order does not count."""
    return PANEL_OF + ", ".join(sorted(names))


def panel_verdict(verdicts: Mapping[str, Verdict]) -> Verdict:
    """Return what a panel says of a response: the judges' mean, if every one of them scored it.

    Else it is without a score; for which reason says `status_of_several`.

    Args:
        verdicts: The judges' verdicts on the response, by the judges' names.
    """
    every = [*verdicts.values()]
    status = status_of_several(verdict.status for verdict in every)
    votes = {name: _vote(verdict) for name, verdict in verdicts.items()}
    said = [
        f"{name}: {f'{vote:g}' if vote is not None else verdicts[name].status.value}"
        for name, vote in votes.items()
    ]
    keys = "\n".join(sorted(f"{name} {verdict.key}" for name, verdict in verdicts.items()))
    scores = [vote for vote in votes.values() if vote is not None]
    return replace(
        every[0],
        key=hashlib.sha256(keys.encode()).hexdigest(),
        status=status,
        value=statistics.fmean(scores) if status is Status.scored else None,
        reason="; ".join(said),
        raw=None,
        finish_reason=None,
        judge_model=panel_name([*verdicts]),
        judge_model_returned=None,
        parameters={name: verdicts[name].parameters for name in sorted(verdicts)},
        prompt_tokens=None,
        completion_tokens=None,
        cost_usd=None,
        price_table=None,
        created=max(verdict.created for verdict in every),
        error=_error(verdicts) if status is Status.api_error else None,
        votes=votes,
    )


def _vote(verdict: Verdict) -> float | None:
    scored = verdict.status is Status.scored and verdict.value is not None
    return float(verdict.value or 0) if scored else None


def _error(verdicts: Mapping[str, Verdict]) -> str:
    lost = [(name, one.error) for name, one in verdicts.items() if one.status is Status.api_error]
    return "; ".join(f"{name}: {error}" for name, error in lost)


def panel_verdicts(by_judge: Mapping[str, Groups]) -> list[list[Verdict]]:
    """Return the panel's verdicts.

    Args:
        by_judge: Per judge and prompt its verdicts on the prompt's responses, in the same order.
    """
    return [
        [panel_verdict(dict(zip(by_judge, one, strict=True))) for one in zip(*groups, strict=True)]
        for groups in zip(*by_judge.values(), strict=True)
    ]


def panel_agreement(
    by_judge: Mapping[str, Groups],
    measure: Measure,
    prompt_ids: Sequence[str],
    level: float = 0.95,
) -> PanelFound:
    """Return how a panel's judges agree.

    Intervals are clustered by prompt where a prompt has several responses. κ and differences are
    over the responses that both judges of a pair scored, α over those that two or more did.

    Args:
        by_judge: Per judge and prompt its verdicts on the prompt's responses, in the same order.
        measure: What all of them measure.
        prompt_ids: Per prompt its identity; equal ones are one cluster.
        level: Confidence level.
    """
    first = next(iter(by_judge.values()))
    ids = [name for name, group in zip(prompt_ids, first, strict=True) for _ in group]
    clusters = ids if len({*ids}) < len(ids) else None
    votes = {
        name: [_vote(verdict) for group in groups for verdict in group]
        for name, groups in by_judge.items()
    }
    sides: dict[str, list[float | None]] = {
        name: [None if vote is None else split_value(vote, measure) for vote in of_judge]
        for name, of_judge in votes.items()
    }
    alphas = []
    kinds: tuple[tuple[Metric, Mapping[str, list[float | None]]], ...] = (
        ("nominal", sides),
        ("interval", votes),
    )
    for metric, ratings in kinds:
        alpha = krippendorff_alpha(
            ratings, metric=metric, clusters=clusters, level=level, resamples=_RESAMPLES
        )
        alphas.append(PanelAlpha(alpha.interval, metric, alpha.items, alpha.warnings))
    rows = [*zip(*sides.values(), strict=True)]
    scored = Counter(sum(side is not None for side in row) for row in rows)
    whole = [[side for side in row if side is not None] for row in rows]
    tied = sum(len(row) == len(by_judge) and most_votes(row) is None for row in whole)
    pairs = tuple(
        (a, b, compare(by_judge[a], by_judge[b], measure, prompt_ids, level))
        for a, b in itertools.combinations(by_judge, 2)
    )
    return PanelFound(
        judges=tuple(by_judge),
        measure=measure.name,
        metric=next(iter(measure.scores)),
        rule=rule_of(measure),
        scored_by={str(count): scored[count] for count in range(len(by_judge), -1, -1)},
        tied=tied,
        alphas=tuple(alphas),
        pairs=pairs,
    )
