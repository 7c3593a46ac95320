"""Normalised improvements averaged over several families, whose studies are alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from eft_eval.errors import ConfigError
from eft_eval.records import plain
from eft_eval.statistics.fieller import improvement_if_apart, mean_improvement
from eft_eval.statistics.interval import Interval
from eft_eval.study.folder import StudyFolder
from eft_eval.study.numbers import ArmRuns, Measured, measured, metrics_of, read_arms
from eft_eval.study.plan import StudyPlan
from eft_eval.study.scaling import ENDS
from eft_eval.version import __version__

__all__ = ["Averaged", "FamiliesResults", "averages_of", "check_families"]


@dataclass(frozen=True)
class Averaged:
    """One metric, averaged over families.

    Attributes:
        metric: Its name.
        families: Those that are averaged.
        left_out: Those whose large tuned model is not clearly the better one.
        improvements: Per arm that all families have the mean of their normalised improvements;
            empty where there are none to average.
        documents: Documents that every run of every family has a number for.
        clusters: Number of clusters; None where documents are independent.
        dropped: Documents left out.
    """

    metric: str
    families: tuple[str, ...]
    left_out: tuple[str, ...]
    improvements: Mapping[str, Interval]
    documents: int
    clusters: int | None
    dropped: int


@dataclass(frozen=True)
class FamiliesResults:
    """What the studies of several families say together.

    Attributes:
        families: Their names, those whose study has both ends.
        missing: Those whose study has not.
        tasks: What was evaluated.
        seeds: Of the sampling noise.
        averages: Every metric.
        left_out: Arms and metrics that are not averaged, as some family lacks them.
        level: Confidence level.
        version: Of eft-eval.
    """

    families: tuple[str, ...]
    missing: tuple[str, ...]
    tasks: tuple[str, ...]
    seeds: tuple[int, ...]
    averages: tuple[Averaged, ...]
    left_out: tuple[str, ...]
    level: float
    version: str = __version__

    def as_dict(self) -> dict[str, Any]:
        """Return the results as plain JSON types."""
        found: dict[str, Any] = plain(self)
        return {"format": "eft-eval study of families", **found}


def check_families(plans: Sequence[StudyPlan]) -> None:
    """Check that studies of several families can be averaged.

    Raises:
        ConfigError: They are no scaling studies, are of other tasks, or a family comes twice.
    """
    names = [plan.family.name for plan in plans]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ConfigError(f"--family: two families are called {twice!r}; name each once")
    if plans[0].design.analysis != "scaling":
        raise ConfigError(
            f"--family: {plans[0].design.analysis} takes one family; scaling averages over several"
        )
    if len({plan.tasks for plan in plans}) > 1:
        asked = "; ".join(f"{plan.family.name}: {','.join(plan.tasks)}" for plan in plans)
        raise ConfigError(f"--family: these have other tasks of their own ({asked}): give --tasks")


def averages_of(folders: Sequence[StudyFolder]) -> FamiliesResults:
    """Return the normalised improvements of several families' studies, averaged.

    Args:
        folders: One for each family.

    Raises:
        ConfigError: A run's files are damaged.
    """
    plan = folders[0].plan
    found = {folder.plan.family.name: read_arms(folder) for folder in folders}
    whole = {name: arms for name, arms in found.items() if set(ENDS) <= arms.keys()}
    shared = [
        arm.name for arm in plan.arms if all(arm.name in arms for arms in whole.values()) and whole
    ]
    runs = {f"{name}/{arm}": arms[arm] for name, arms in whole.items() for arm in shared}
    between = [arm for arm in shared if arm not in ENDS]
    metrics = [one for one in metrics_of(runs) if one.higher_is_better is not None]
    columns = [measured(runs, metric) for metric in metrics]
    return FamiliesResults(
        families=tuple(whole),
        missing=tuple(name for name in found if name not in whole),
        tasks=plan.tasks,
        seeds=plan.design.seeds,
        averages=tuple(
            _averaged(one, [*whole], between, plan.design.level) for one in columns if one.documents
        ),
        left_out=tuple(_left_out(folders, whole, columns)),
        level=plan.design.level,
    )


def _left_out(
    folders: Sequence[StudyFolder], whole: Mapping[str, ArmRuns], columns: Sequence[Measured]
) -> Iterator[str]:
    """Yield the arms that some family lacks, and the metrics without a document of all runs."""
    arms = dict.fromkeys(arm.name for folder in folders for arm in folder.plan.arms)
    for arm in arms:
        lacking = [name for name, found in whole.items() if arm not in found]
        if lacking:
            yield f"{arm} is not averaged: {', '.join(lacking)} has no whole one"
    for one in columns:
        if not one.documents:
            yield f"{one.metric.name} is not averaged: no document has a number in every run"


def _averaged(
    one: Measured, families: Sequence[str], between: Sequence[str], level: float
) -> Averaged:
    apart = list(_apart(one, families, level))
    improvements = {
        arm: mean_improvement([_three(one, name, arm) for name in apart], one.clusters, level)
        for arm in between
        if apart
    }
    return Averaged(
        metric=one.metric.name,
        families=tuple(apart),
        left_out=tuple(name for name in families if name not in apart),
        improvements=improvements,
        documents=one.documents,
        clusters=one.units,
        dropped=one.dropped,
    )


def _apart(one: Measured, families: Sequence[str], level: float) -> Iterator[str]:
    """Yield the families whose large tuned model is clearly better than the small one."""
    lower = not one.metric.higher_is_better
    for name in families:
        three = _three(one, name, ENDS[1])
        if improvement_if_apart(three, lower, one.clusters, level) is not None:
            yield name


def _three(one: Measured, family: str, arm: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.stack([one.values[f"{family}/{name}"] for name in (ENDS[0], arm, ENDS[1])])
