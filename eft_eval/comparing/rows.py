"""One metric in two runs: paired, with intervals and a test."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from eft_eval.comparing.comparability import remarks
from eft_eval.comparing.comparison import Decision, Row, Side
from eft_eval.comparing.pairing import Matched, Pairs, pair_columns
from eft_eval.comparing.settings import GateSettings, MetricSettings
from eft_eval.comparing.unscored import Extremes, Part, extremes, has_unscored, is_share
from eft_eval.judging.prompts.ranges import mean_of_metric
from eft_eval.runs.completeness import same_mean
from eft_eval.runs.records import Column, MetricKey, Run
from eft_eval.runs.samples import PROMPT
from eft_eval.statistics.paired import (
    Codes,
    Difference,
    PairedTest,
    Values,
    paired_difference,
    paired_test,
)

__all__ = ["Compared", "Target", "compare_target"]


class Target(NamedTuple):
    """A metric that is compared.

    Attributes:
        name: Of the task or group.
        tasks: The tasks whose documents it is of.
        key: Metric and filter.
        column: The baseline's.
        is_group: Whether it is a group's.
        of_one_judge: Whether it is one judge's of a panel, and so beside the panel's.
    """

    name: str
    tasks: tuple[str, ...]
    key: MetricKey
    column: Column
    is_group: bool
    of_one_judge: bool = False


@dataclass(frozen=True)
class Compared:
    """A target's figures before the gate has spoken.

    Attributes:
        target: What was compared.
        demands: What the settings demand of it, filled in.
        baseline: The baseline's figure.
        candidate: The candidate's; None where it has none.
        pairs: The paired numbers; None where nothing could be paired.
        difference: candidate - baseline.
        test: Two-sided test of no difference.
        notes: What keeps the figures from being read as they stand.
        absent: Why the candidate has no figure.
        extremes: How far unknown scores could move the difference; None where none is unknown.
    """

    target: Target
    demands: MetricSettings
    baseline: Side
    candidate: Side | None
    pairs: Pairs | None
    difference: Difference | None
    test: PairedTest | None
    notes: tuple[str, ...]
    absent: str
    extremes: Extremes | None = None

    @property
    def documents(self) -> int:
        """Documents with a number in both runs."""
        return self.pairs.documents - self.pairs.dropped if self.pairs else 0

    @property
    def gain(self) -> Difference | None:
        """The difference in the better direction; None where the candidate has no figure."""
        if self.difference is None or self.absent:
            return None
        return self._turned(self.difference)

    @property
    def gain_ends(self) -> tuple[Difference, Difference] | None:
        """The gain with all that is unknown at its worst and at its best; None where all is known.

        Of numbers with unknown scores and no limit that is known, both are without a value.
        """
        found = self.extremes
        if found is None or not found.bounds.unknown:
            return None
        ends = self._turned(found.lowest), self._turned(found.highest)
        return ends if self.demands.better == "higher" else (ends[1], ends[0])

    def _turned(self, difference: Difference) -> Difference:
        """Return a difference in the better direction."""
        return difference if self.demands.better == "higher" else difference.negated()

    def row(self, decision: Decision | None) -> Row:
        """Return the row of the table."""
        pairs, difference = self.pairs, self.difference
        error = difference.standard_error if difference else math.nan
        same = difference is not None and error == 0 and difference.interval.estimate == 0
        # of equal numbers it would say that they give no interval
        warnings = difference.warnings if difference and not same else ()
        return Row(
            task=self.target.name,
            metric=self.target.key.metric,
            filter=self.target.key.filter,
            better=self.demands.better,
            baseline=self.baseline,
            candidate=self.candidate,
            units=len(pairs.baseline) if pairs else 0,
            documents=self.documents,
            samples=pairs.samples if pairs else 1,
            clusters=difference.clusters if difference else None,
            dropped=pairs.dropped if pairs else 0,
            difference=difference.interval if difference else None,
            standard_error=None if math.isnan(error) else error,
            test=self.test,
            decision=decision,
            notes=(*self.notes, *warnings),
            bounds=self.extremes.bounds if self.extremes else None,
        )


def compare_target(
    baseline: Run,
    candidate: Run,
    target: Target,
    matched: Mapping[str, Mapping[str, Matched]],
    demands: MetricSettings,
    settings: GateSettings,
) -> Compared | None:
    """Compare one metric; None where its task or filter may not be compared and need not be.

    Args:
        baseline: The accepted run.
        candidate: The run under test.
        target: The metric.
        matched: What the runs share, by task and filter.
        demands: What the settings demand of it.
        settings: Levels, flips and seed.
    """
    if absent := _absent(candidate, target):
        side = _unpaired(target.column, _verdicts(baseline, target))
        return Compared(target, demands, side, None, None, None, None, (), absent)
    if not all(
        _may_be_compared(baseline, candidate, name, target, matched) for name in target.tasks
    ):
        return None
    other = _column(candidate, target)
    parts = _parts(baseline, candidate, target, matched)
    sides = (
        _unpaired(target.column, _verdicts(baseline, target)),
        _unpaired(other, _verdicts(candidate, target)),
    )
    if not parts:
        note = "shown as reported: not the mean of one number per document, so it is not paired"
        if target.column.infinite:
            note = f"left out: its mean is no finite number, as {_unusual(target.column)}"
        return Compared(target, demands, *sides, None, None, None, (note,), "")
    average = settings.cluster == PROMPT
    pairs = pair_columns([part.columns for part in parts], average)
    difference = paired_difference(pairs.candidate - pairs.baseline, pairs.clusters, settings.level)
    judged = any(part.old.pipelines[part.key.filter].verdicts is not None for part in parts)
    found = None
    if (judged or pairs.dropped) and not is_share(target.key.metric):
        found = extremes(parts, average, difference, settings.level)
    absent = ""
    without_verdict = any(has_unscored(part.new.pipelines[part.key.filter]) for part in parts)
    lost = pairs.candidate_missing == pairs.documents > pairs.baseline_missing
    if lost and not without_verdict:
        absent = f"none of {pairs.documents} documents has a number"
    test = paired_test(
        pairs.baseline, pairs.candidate, pairs.clusters, settings.flips, settings.seed
    )
    left, right = sides
    return Compared(
        target,
        demands,
        replace(
            _paired(left, target.key.metric, pairs.baseline, pairs.clusters, settings.level),
            missing=pairs.baseline_missing,
        ),
        replace(
            _paired(right, target.key.metric, pairs.candidate, pairs.clusters, settings.level),
            missing=pairs.candidate_missing,
        ),
        pairs,
        difference,
        test if len(pairs.baseline) else None,
        tuple(_notes(baseline, candidate, target, matched, pairs)),
        absent,
        found,
    )


def _may_be_compared(
    baseline: Run,
    candidate: Run,
    task: str,
    target: Target,
    matched: Mapping[str, Mapping[str, Matched]],
) -> bool:
    name = target.key.filter
    in_both = all(name in run.tasks[task].pipelines for run in (baseline, candidate))
    return task in matched and (name in matched[task] or not in_both)


def _absent(candidate: Run, target: Target) -> str:
    """Return why the candidate has no such figure; empty where it has one."""
    for name in target.tasks:
        task = candidate.tasks.get(name)
        if task is None:
            return f"it has no task {name!r}"
        if task.bypassed and target.key not in task.columns:
            return "its metrics were bypassed (--predict_only)"
        if not target.is_group and target.key not in task.columns:
            return f"task {name!r} has no {target.key}"
    if not target.is_group and not target.column.infinite:
        column = candidate.tasks[target.name].columns[target.key]
        if column.infinite and not column.is_mean:
            return f"its mean is no finite number, as {_unusual(column)}"
    if target.is_group and target.key not in _group_columns(candidate, target):
        return f"group {target.name!r} has no {target.key}"
    return ""


def _unusual(column: Column) -> str:
    return f"{column.unusual} of {len(column.values)} values are NaN or infinite"


def _group_columns(run: Run, target: Target) -> Mapping[MetricKey, Column]:
    group = run.groups.get(target.name)
    return group.columns if group else {}


def _column(run: Run, target: Target) -> Column:
    if target.is_group:
        return _group_columns(run, target)[target.key]
    return run.tasks[target.name].columns[target.key]


def _parts(
    baseline: Run,
    candidate: Run,
    target: Target,
    matched: Mapping[str, Mapping[str, Matched]],
) -> list[Part]:
    """Return the columns to pair, per task; none where the aggregate is not their mean."""
    parts = []
    for name in target.tasks:
        old, new = baseline.tasks[name], candidate.tasks[name]
        left, right = old.columns.get(target.key), new.columns.get(target.key)
        shared = matched[name].get(target.key.filter)
        if left is None or right is None or shared is None:
            return []
        if not (left.is_mean and right.is_mean):
            return []
        parts.append(Part(old, new, target.key, shared))
    if target.is_group:
        pooled = [value for part in parts for value in part.columns[0].values]
        if not same_mean(target.column.reported, pooled):
            return []  # weighted by task, not by document
    return parts


def _verdicts(run: Run, target: Target) -> Mapping[str, int] | None:
    if target.is_group:
        return None
    pipeline = run.tasks[target.name].pipelines.get(target.key.filter)
    return pipeline.verdicts if pipeline else None


def _unpaired(column: Column, verdicts: Mapping[str, int] | None) -> Side:
    missing = sum(value is None for value in column.values)
    return Side(column.reported, None, None, missing, verdicts)


def _paired(side: Side, metric: str, values: Values, clusters: Codes | None, level: float) -> Side:
    if not len(values):
        return side
    interval = mean_of_metric(metric, values, clusters, level).interval
    return replace(side, mean=interval.estimate, interval=interval)


def _notes(
    baseline: Run,
    candidate: Run,
    target: Target,
    matched: Mapping[str, Mapping[str, Matched]],
    pairs: Pairs,
) -> Sequence[str]:
    notes: list[str] = []
    for name in target.tasks:
        of_task = remarks(
            baseline.tasks[name], candidate.tasks[name], dict(matched[name]), target.key.filter
        )
        notes += of_task
    ways = [target.column.higher_is_better, _column(candidate, target).higher_is_better]
    if None not in ways and ways[0] != ways[1]:
        words = ["higher" if way else "lower" for way in ways]
        notes.append(
            f"better is {words[0]} in the baseline, which counts here, and {words[1]} in the "
            "candidate: the task was changed"
        )
    if pairs.dropped:
        notes.append(
            f"{pairs.dropped} of {pairs.documents} documents left out: without a number in the "
            f"baseline {pairs.baseline_missing}, in the candidate {pairs.candidate_missing}"
        )
    if pairs.samples > 1:
        notes.append(f"{pairs.samples} samples of each prompt averaged first")
    return list(dict.fromkeys(notes))
