"""Responses without a score: how far they could move a difference, and how many are too many.

A judge that was not reached, refused or could not be read says nothing of a response. So no
outcome may rest on the others alone: what is unknown is counted at its best and at its worst.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from eft_eval.comparing.comparison import Decision, DifferenceBounds, Row, Side
from eft_eval.comparing.pairing import Matched, pair_columns
from eft_eval.comparing.settings import GateSettings
from eft_eval.judging.prompts.measures import MEASURES
from eft_eval.judging.prompts.ranges import range_of
from eft_eval.runs.conditions import unfinished_responses
from eft_eval.runs.records import Column, MetricKey, Pipeline, Run, TaskRun
from eft_eval.statistics.paired import Difference, paired_difference

__all__ = [
    "SHARES",
    "Extremes",
    "Part",
    "extremes",
    "has_unscored",
    "is_share",
    "share_rows",
    "unscored_texts",
]

SHARES: Mapping[str, tuple[str, ...]] = {
    "refused": ("refused",),
    "unreadable": ("truncated", "malformed", "ambiguous", "out_of_range"),
    "missing": ("api_error",),
    "unfinished": ("unfinished",),
}
"""Shares of responses without a score, and the statuses of verdicts that they count."""
_ABSTAINED = "abstained"
_UNFINISHED = "unfinished"
_SLACK = 1e-12


class Part(NamedTuple):
    """A metric of one task in both runs.

    Attributes:
        old: The baseline's task.
        new: The candidate's.
        key: The metric.
        matched: Which documents they share.
    """

    old: TaskRun
    new: TaskRun
    key: MetricKey
    matched: Matched

    @property
    def columns(self) -> tuple[Column, Column, Pipeline, Matched]:
        """What `pair_columns` pairs."""
        left, right = self.old.columns[self.key], self.new.columns[self.key]
        return left, right, self.old.pipelines[self.key.filter], self.matched


class Extremes(NamedTuple):
    """A difference, had every document its score.

    Attributes:
        lowest: With what is unknown lowest in the candidate and highest in the baseline.
        highest: The other way round.
        bounds: Both as numbers, and how many documents are unknown in each run.
    """

    lowest: Difference
    highest: Difference
    bounds: DifferenceBounds


def is_share(metric: str) -> bool:
    """Whether a metric is a share of responses without a score, or of abstentions."""
    names = (*SHARES, _ABSTAINED)
    return any(metric == name or metric.endswith(f"_{name}") for name in names)


def has_unscored(pipeline: Pipeline) -> bool:
    """Whether a judge left responses of a filter without a score; an abstention is an answer."""
    return any(_count(pipeline, statuses)[0] for statuses in SHARES.values())


def unscored_texts(run: Run, above: float = 0.0) -> list[str]:
    """Return what says how many responses of a task and filter have no score, and for what reason.

    Args:
        run: Judged or not.
        above: The share above which it is said.
    """
    found = []
    for task in run.tasks.values():
        for name, pipeline in task.pipelines.items():
            verdicts = pipeline.verdicts or {}
            statuses = [one for several in SHARES.values() for one in several]
            counts = {one: verdicts[one] for one in statuses if verdicts.get(one)}
            number, total = sum(counts.values()), sum(verdicts.values())
            if counts and number > above * total:
                listed = ", ".join(f"{count} {one}" for one, count in counts.items())
                found.append(
                    f"{task.name}, {name}: {number} of {total} responses have no score ({listed})"
                )
    return found


def extremes(
    parts: Sequence[Part], average: bool, found: Difference, level: float
) -> Extremes | None:
    """Return how far documents without all their scores could move a difference.

    An unknown score is the metric's best or worst; where that has no limit, as a count has none,
    the best or worst that any document of the two runs got. A document that is scored in the
    baseline and not in the candidate, for whatever reason, is unknown; one that only the
    candidate scored is not compared, unless the baseline's judge is the reason.

    Args:
        parts: The metric in each task.
        average: As for `pair_columns`.
        found: The difference of the documents that both runs have scored.
        level: Confidence level of the differences.

    Returns:
        None where nothing is known of any document.
    """
    known = [(_Known.of(part.old, part.key), _Known.of(part.new, part.key)) for part in parts]
    counts = [_unknown(part, *of) for part, of in zip(parts, known, strict=True)]
    old, new = (sum(count[side] for count in counts) for side in (0, 1))
    made = [found, found]
    if old or new:
        ends = _ends(parts)
        if ends is None:
            return None
        made = []
        for fills in (ends[::-1], ends):
            filled = [_filled(part, of, fills) for part, of in zip(parts, known, strict=True)]
            pairs = pair_columns(filled, average)
            values = pairs.candidate - pairs.baseline
            made.append(paired_difference(values, pairs.clusters, level))
    low, high = made
    bounds = DifferenceBounds(low.interval.estimate, high.interval.estimate, old, new)
    return None if math.isnan(bounds.lower) else Extremes(low, high, bounds)


def _unknown(part: Part, old_known: _Known, new_known: _Known) -> tuple[int, int]:
    """Return how many documents of either run have no score, or not all of theirs."""
    new = part.columns[1].values
    shared = [pair for pair in part.matched.shared if not _has_nothing(part, old_known, pair[0])]
    return (
        sum(bool(old_known.unknown[i]) for i, _ in shared),
        sum(bool(new_known.unknown[j]) or new[j] is None for _, j in shared),
    )


def _has_nothing(part: Part, known: _Known, index: int) -> bool:
    """Whether the baseline's judge abstained: there is nothing to compare with."""
    return part.columns[0].values[index] is None and not known.unknown[index]


def _filled(
    part: Part, known: tuple[_Known, _Known], fills: tuple[float, float]
) -> tuple[Column, Column, Pipeline, Matched]:
    """Return both columns with a value for what is unknown: the baseline's, the candidate's."""
    left, right, *_ = part.columns
    old, new = list(left.values), list(right.values)
    for i, j in part.matched.shared:
        if not _has_nothing(part, known[0], i):
            old[i] = known[0].filled(i, old[i], fills[0])
            new[j] = known[1].filled(j, new[j], fills[1])
    return replace(left, values=tuple(old)), replace(right, values=tuple(new)), *part.columns[2:]


class _Known(NamedTuple):
    """Per item of a task's filter, the shares of its responses that are unknown and scored."""

    unknown: Sequence[float]
    scored: Sequence[float]

    @classmethod
    def of(cls, task: TaskRun, key: MetricKey) -> _Known:
        """Return the shares beside a metric; nothing is unknown where the run has none."""
        pipeline, values = task.pipelines[key.filter], task.columns[key].values
        measure = next((one for one in MEASURES.values() if key.metric in one.scores), None)

        def share(*names: str) -> Any:
            keys = [MetricKey(f"{measure.prefix}_{name}", key.filter) for name in names if measure]
            found = [task.columns[one].values for one in keys if one in task.columns]
            if not found or not all(found):  # of no document, where only the mean is known
                return None
            return np.nan_to_num(np.array(found, dtype=np.float64)).sum(axis=0)

        unknown, abstained = share(*SHARES), share(_ABSTAINED)
        if unknown is None:  # a judge's score without shares beside it: who has none is unknown
            lost = has_unscored(pipeline)
            unknown = np.array([value is None and lost for value in values], dtype=np.float64)
        scored = 1 - unknown - (0 if abstained is None else abstained)
        return cls(unknown.tolist(), scored.tolist())

    def filled(self, index: int, value: float | None, fill: float) -> float:
        """Return a document's mean with a value for its unknown responses."""
        unknown, scored = self.unknown[index], self.scored[index]
        if value is None:
            return fill
        if not unknown:
            return value
        return (value * scored + fill * unknown) / (scored + unknown)


def _ends(parts: Sequence[Part]) -> tuple[float, float] | None:
    """Return the lowest and the highest value that an unknown score is given."""
    seen = [
        v for part in parts for column in part.columns[:2] for v in column.values if v is not None
    ]
    known = range_of(parts[0].key.metric) or (-math.inf, math.inf)
    if not seen and not all(map(math.isfinite, known)):
        return None
    low = known[0] if math.isfinite(known[0]) else min(seen)
    high = known[1] if math.isfinite(known[1]) else max(seen)
    return low, high


def share_rows(
    baseline: Run, candidate: Run, gated: Mapping[str, set[str]], settings: GateSettings
) -> Iterator[Row]:
    """Yield the shares of responses without a score behind the gated metrics, each decided.

    Responses whose reasoning did not end are counted over the whole run, as the results do.

    Args:
        baseline: The accepted run.
        candidate: The run under test.
        gated: Filters of gated metrics, by task.
        settings: How large a share may be, and how far it may grow.
    """
    for task, filters in gated.items():
        for name in sorted(filters):
            old, new = (_pipeline(run, task, name) for run in (baseline, candidate))
            if old is None or new is None or old.verdicts is None or new.verdicts is None:
                continue
            for share, statuses in SHARES.items():
                counts = [_count(one, statuses) for one in (old, new)]
                if share == _UNFINISHED and not any(count for count, _ in counts):
                    continue
                metric = _metric(candidate.tasks[task], share, name)
                yield _share_row(task, metric or share, name, counts, settings)

    counts = [unfinished_responses(run) for run in (baseline, candidate)]
    if any(count for count, _ in counts):
        yield _share_row("generation", _UNFINISHED, "none", counts, settings)


_Count = tuple[int, int]  # responses of a kind, of all


def _pipeline(run: Run, task: str, name: str) -> Pipeline | None:
    found = run.tasks.get(task)
    return found.pipelines.get(name) if found else None


def _count(pipeline: Pipeline, statuses: Sequence[str]) -> _Count:
    verdicts = pipeline.verdicts or {}
    return sum(verdicts.get(status, 0) for status in statuses), sum(verdicts.values())


def _metric(task: TaskRun, share: str, name: str) -> str | None:
    return next(
        (
            key.metric
            for key in task.columns
            if key.filter == name and (key.metric == share or key.metric.endswith(f"_{share}"))
        ),
        None,
    )


def _share_row(
    task: str, metric: str, name: str, counts: Sequence[_Count], settings: GateSettings
) -> Row:
    """Return a share's row: how many responses are without a score is no estimate, so no test."""
    (old, old_total), (new, new_total) = counts
    before, after = old / max(old_total, 1), new / max(new_total, 1)
    tolerance = settings.unscored_tolerance
    label = f"{task}/{metric}"
    shown = f"{label}: {_percent(after)} of {new_total} responses ({_percent(before)} before)"
    reasons = []
    if after - before > tolerance + _SLACK:
        reasons.append(f"{shown}, {_percent(tolerance)} more are accepted")
    if metric == "missing" or metric.endswith("_missing"):
        for which, share, total in (
            ("in the candidate", after, new_total),
            ("in the baseline", before, old_total),
        ):
            if share > settings.most_missing + _SLACK:
                reasons.append(
                    f"{label}: {_percent(share)} of {total} responses {which} have no verdict, "
                    f"at most {_percent(settings.most_missing)} may (eft-eval judge asks again)"
                )
    decision = Decision(
        outcome="inconclusive" if reasons else "pass",
        reason="; ".join(reasons) or f"{shown}, within {_percent(tolerance)}",
        tolerance=tolerance,
        gain=before - after,
        incomplete=bool(reasons),
        of_share=True,
    )
    return Row(
        task=task,
        metric=metric,
        filter=name,
        better="lower",
        baseline=Side(before, None, None, 0, None),
        candidate=Side(after, None, None, 0, None),
        units=0,
        documents=new_total,
        samples=1,
        clusters=None,
        dropped=0,
        difference=None,
        standard_error=None,
        test=None,
        decision=decision,
        notes=(),
    )


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
