"""Which metrics of a baseline are compared and gated, and what the settings demand of them."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterable, Sequence
from typing import Literal

from eft_eval.comparing.rows import Target
from eft_eval.comparing.settings import GateSettings, MetricSettings
from eft_eval.comparing.unscored import is_share
from eft_eval.errors import ConfigError, nearest
from eft_eval.judging.prompts.ranges import range_of
from eft_eval.runs.records import Column, Run

__all__ = ["check_patterns", "demands_on", "gated_of", "targets_of"]


def targets_of(baseline: Run) -> list[Target]:
    """Return all metrics of the baseline: of its tasks, then of its groups."""
    found = [
        Target(task.name, (task.name,), key, column, False, task.is_one_of_panel(key.filter))
        for task in baseline.tasks.values()
        for key, column in task.columns.items()
    ]
    for group in baseline.groups.values():
        if all(name in baseline.tasks for name in group.tasks):
            found += [
                Target(group.name, group.tasks, key, column, True)
                for key, column in group.columns.items()
            ]
    return found


def _matches(target: Target, patterns: Iterable[str]) -> bool:
    names = (f"{target.name}/{target.key}", f"{target.name}/{target.key.metric}")
    return any(fnmatch.fnmatchcase(name, pattern) for name in names for pattern in patterns)


def demands_on(target: Target, settings: GateSettings) -> MetricSettings:
    """Return the demands on a metric: of the patterns that match it, the last one that says so."""
    tolerance, better, accept = settings.tolerance, None, settings.accept_inconclusive
    for pattern, one in settings.metrics.items():
        if _matches(target, [pattern]):
            tolerance = tolerance if one.tolerance is None else one.tolerance
            better = one.better or better
            accept = accept if one.accept_inconclusive is None else one.accept_inconclusive
    return MetricSettings(tolerance, better or _direction(target.column), accept)


def _direction(column: Column) -> Literal["higher", "lower"] | None:
    if column.higher_is_better is None:
        return None
    return "higher" if column.higher_is_better else "lower"


def _is_gated(target: Target, settings: GateSettings) -> bool:
    """Whether the settings have a metric gated: by name, else each score with a direction."""
    if settings.gated:
        return _matches(target, settings.gated)
    if target.is_group or target.of_one_judge or is_share(target.key.metric):
        return False
    return target.column.is_mean and demands_on(target, settings).better is not None


def _empty(baseline: Run, target: Target) -> bool:
    """Whether no document has a number, and none waits for a judge: there is nothing to lose."""
    if target.is_group or not target.column.infinite:
        return False
    pipeline = baseline.tasks[target.name].pipelines[target.key.filter]
    return pipeline.verdicts is None and not any(v is not None for v in target.column.values)


def check_patterns(settings: GateSettings, targets: Sequence[Target], baseline: Run) -> None:
    """Raise for patterns that match nothing, and for metrics named that cannot be gated.

    Raises:
        ConfigError: Says which.
    """
    names = [f"{target.name}/{target.key.metric}" for target in targets]
    for what, patterns in (("gated", settings.gated), ("metrics", settings.metrics)):
        for pattern in patterns:
            if not any(_matches(target, [pattern]) for target in targets):
                known = ", ".join(dict.fromkeys(names))
                raise ConfigError(
                    f"{what}: no metric of {baseline.label} matches {pattern!r}"
                    f"{nearest(pattern, names)}; it has {known}"
                )
    for target in targets if settings.gated else ():
        if not _is_gated(target, settings):
            continue
        name = f"{target.name}/{target.key}"
        if not target.is_group and not target.column.is_mean:
            raise ConfigError(
                f"gated: {name} is no mean of one number per document, or has no samples, and so "
                "cannot be paired; gate another metric"
            )
        if demands_on(target, settings).better is None:
            raise ConfigError(
                f"gated: the run does not say whether a higher {name} is better; set better under "
                f'[gate.metrics."{target.name}/{target.key.metric}"]'
            )


def gated_of(baseline: Run, targets: Sequence[Target], settings: GateSettings) -> list[Target]:
    """Return the targets that the gate decides on.

    Raises:
        ConfigError: A tolerance is as large as all that its metric could lose.
    """
    found = [one for one in targets if _is_gated(one, settings) and not _empty(baseline, one)]
    for target in found:
        tolerance = demands_on(target, settings).tolerance or 0.0
        low, high = range_of(target.key.metric) or (-math.inf, math.inf)
        if math.isfinite(high) and tolerance >= high - low:
            name = f"{target.name}/{target.key.metric}"
            raise ConfigError(
                f"tolerance {tolerance:g} of {name}: it lies from {low:g} to {high:g}, so no drop "
                f"could fail; 0.05 is 5 points of a share (one metric's own: "
                f'[gate.metrics."{name}"])'
            )
    return found
