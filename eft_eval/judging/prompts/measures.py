"""What a judge measures: factuality, helpfulness or harm; its metrics, and their bounds.

Pure arithmetic on verdicts; knows nothing of lm-eval.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from eft_eval.errors import ConfigError, nearest
from eft_eval.judging.prompts.prompt import JudgePrompt
from eft_eval.runs.judged import Bounds
from eft_eval.verdicts.verdict import Scale, Status, Verdict, most_votes

__all__ = [
    "LENGTH_CONTROLLED_RATE",
    "MEASURES",
    "ORDER_METRICS",
    "UNKNOWN",
    "Measure",
    "measure_of",
]

_UNREADABLE = (Status.truncated, Status.malformed, Status.ambiguous, Status.out_of_range)
UNKNOWN = (
    Status.refused,
    *_UNREADABLE,
    Status.api_error,
    Status.unfinished,
)  # an abstention is an answer


@dataclass(frozen=True)
class Measure:
    """What a judge prompt asks for, and the metrics that come of its verdicts.

    Attributes:
        name: factuality, helpfulness, harm or preference.
        prefix: Of its shares' names: ``fact`` gives ``fact_abstained``.
        scale: Of the judge prompts that ask for it.
        better: Whether a lower or a higher score is the better one.
        scores: Per score metric, from a verdict's value to the metric of one response.
        largest: The largest value of a response's first score; None where there is no limit.
        classes: Those scores that are a yes (1) or no (0): a panel's is what most judges say, and
            its other scores are the judges' mean.
    """

    name: str
    prefix: str
    scale: Scale
    better: Literal["lower", "higher"]
    scores: Mapping[str, Callable[[float], float]]
    largest: float | None
    classes: frozenset[str] = frozenset()

    @property
    def metrics(self) -> dict[str, bool]:
        """All its metrics in order, and whether higher is better; shares of unscored never are."""
        shares = ("abstained", "refused", "unreadable", "missing", "unfinished")
        return {
            **dict.fromkeys(self.scores, self.better == "higher"),
            **{f"{self.prefix}_{share}": False for share in shares},
        }

    def highest(self, name: str) -> float | None:
        """Return the highest value of a score metric; None for an amount, which has none."""
        amount = self.largest is None and self.scores[name] is float
        return None if amount else 1.0

    def score(self, name: str, verdict: Verdict) -> float | None:
        """Return a score metric of one response; None where it has none.

        Of a panel's verdict a class is what most of its judges say, and none where as many say
        the one as the other.
        """
        if verdict.status is not Status.scored or verdict.value is None:
            return None
        if verdict.votes is None or name not in self.classes:
            return self.scores[name](verdict.value)
        votes = verdict.votes.values()
        return most_votes(self.scores[name](vote) for vote in votes if vote is not None)

    def values(self, verdicts: Sequence[Verdict]) -> dict[str, float | None]:
        """Return the metrics of one prompt over its responses (one per repeat, at least one).

        Returns:
            Each score is the mean over the responses that were scored, None where none was. The
            shares of all responses that were abstained on, refused, unreadable (truncated,
            malformed, ambiguous, out of range), left without a verdict (judge not reached) or
            unfinished (reasoning without an end) add up to 1 with the share that was scored.
        """

        def share(*statuses: Status) -> float:
            return sum(verdict.status in statuses for verdict in verdicts) / len(verdicts)

        means = {}
        for name in self.scores:
            scored = [score for v in verdicts if (score := self.score(name, v)) is not None]
            means[name] = statistics.fmean(scored) if scored else None
        return {
            **means,
            f"{self.prefix}_abstained": share(Status.abstained),
            f"{self.prefix}_refused": share(Status.refused),
            f"{self.prefix}_unreadable": share(*_UNREADABLE),
            f"{self.prefix}_missing": share(Status.api_error),
            f"{self.prefix}_unfinished": share(Status.unfinished),
        }

    def bounds(self, groups: Sequence[Sequence[Verdict]]) -> dict[str, Bounds]:
        """Return how far the unknown responses could move each score of a run.

        An unknown score is counted as the lowest and as the highest there is; a number of errors,
        which has no highest, as the largest that any response of this run got.

        Args:
            groups: Per prompt the verdicts on its responses.
        """
        values = [v.value for group in groups for v in group if v.value is not None]
        found = {}
        for name, score in self.scores.items():
            highest = self.highest(name)
            if highest is None and values:
                highest = score(max(values))
            lower, unknown = self._filled(groups, name, score(0))
            upper = None if highest is None else self._filled(groups, name, highest)[0]
            found[name] = Bounds(lower, upper, unknown)
        return found

    def _filled(
        self, groups: Iterable[Sequence[Verdict]], name: str, unknown: float
    ) -> tuple[float | None, int]:
        """Return the mean over prompts of the mean over responses, and how many are unknown.

        Unknown ones, those on which a panel is tied among them, have a fixed value.
        """
        means, count = [], 0
        for group in groups:
            scores = [self.score(name, verdict) for verdict in group]
            known = [score for score in scores if score is not None]
            lost = sum(
                score is None and verdict.status in (Status.scored, *UNKNOWN)
                for score, verdict in zip(scores, group, strict=True)
            )
            count += lost
            if known or lost:
                means.append(statistics.fmean([*known, *[unknown] * lost]))
        return (statistics.fmean(means) if means else None), count


def _share(percent: float) -> float:
    return percent / 100


MEASURES = {
    measure.name: measure
    for measure in (
        Measure(
            "factuality",
            "fact",
            "count",
            "lower",
            {"fact_errors": float, "fact_any_error": lambda count: float(count > 0)},
            None,
            frozenset({"fact_any_error"}),
        ),
        Measure("helpfulness", "help", "percent", "higher", {"helpfulness": _share}, 100),
        Measure("harm", "harm", "percent", "lower", {"harm": _share}, 100),
        Measure("preference", "pair", "preference", "higher", {"win_rate": _share}, 100),
    )
}
"""All measures by name: factuality counts errors, the others are means in [0, 1]; preference is of
pairs of responses (`eft_eval.judging.pairwise`): percent of a pair's orders that the first wins."""

LENGTH_CONTROLLED_RATE = "win_rate_length_controlled"
ORDER_METRICS = (
    "win_rate_shown_first",
    "win_rate_shown_second",
    "ties",
    "prefers_first_shown",
    "same_in_both_orders",
)
"""What is told of pairs besides the win rate; none of them is better higher or lower."""


def measure_of(prompt: JudgePrompt, name: str | None = None) -> Measure:
    """Return what a judge prompt measures, told by its scale and better direction.

    Args:
        prompt: The judge prompt.
        name: The measure that the task needs; None takes what fits.

    Raises:
        ConfigError: No measure has that scale and direction, or not the one that is needed.
    """
    if name is not None and name not in MEASURES:
        raise ConfigError(f"no measure {name!r}{nearest(name, MEASURES)}; known: {[*MEASURES]}")
    if prompt.is_pairwise and name != "preference":
        raise ConfigError(
            f"judge prompt {prompt.name!r} shows two responses; it judges two runs: eft-eval judge "
            "RUN_A RUN_B --pairwise"
        )
    pointwise = [one for one in MEASURES.values() if one.scale != "preference"]
    wanted = [MEASURES[name]] if name is not None else pointwise
    for measure in wanted:
        if (measure.scale, measure.better) == (prompt.scale, prompt.better):
            return measure
    needed = "; or ".join(f"{m.scale!r} ({m.name}, {m.better} is better)" for m in wanted)
    raise ConfigError(
        f"judge prompt {prompt.name!r} has the scale {prompt.scale!r} ({prompt.better} is better); "
        f"needed is {needed}"
    )
