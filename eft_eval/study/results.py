"""The record of a study's results: what its summary, page, figures and JSON say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eft_eval.comparing.unscored import unscored_texts
from eft_eval.records import plain
from eft_eval.statistics.interval import Interval
from eft_eval.study.contrast import Contrast, contrasts
from eft_eval.study.folder import StudyFolder
from eft_eval.study.frontier import TradeOff, trade_off
from eft_eval.study.numbers import (
    Aggregate,
    ArmRuns,
    Measured,
    aggregates_of,
    measured,
    metrics_of,
    read_arms,
)
from eft_eval.study.plan import StudyPlan
from eft_eval.study.scaling import CarriedOver, carried_over
from eft_eval.study.sequence import SequenceWeights, sequence_weights
from eft_eval.study.speed import Speeds, speeds
from eft_eval.study.tokens import TokenDistances, token_distances
from eft_eval.version import __version__

__all__ = ["Scores", "StudyResults", "study_results"]


@dataclass(frozen=True)
class Scores:
    """One metric of every arm.

    Attributes:
        metric: Its name.
        higher_is_better: Whether high numbers are good ones; None where nobody says it.
        means: Per arm the mean with its interval, over documents.
        documents: Documents that every run has a number for.
        clusters: Number of clusters; None where documents are independent.
        dropped: Documents left out.
    """

    metric: str
    higher_is_better: bool | None
    means: Mapping[str, Interval]
    documents: int
    clusters: int | None
    dropped: int


@dataclass(frozen=True)
class StudyResults:
    """What a study found.

    Attributes:
        analysis: Which study.
        family: Name of the models.
        description: Of the family.
        tasks: What was evaluated.
        seeds: Of the sampling noise.
        arms: Names of the arms that are whole.
        missing: Names of those that are not.
        unscored: Which runs have responses without a score, how many and why.
        scores: Every metric of every arm that is a mean of documents.
        aggregates: The other metrics, and those of groups, as lm-eval reports them.
        carried_over: Of `scaling`.
        contrasts: Of `truncation` and `weights`.
        trade_off: Of `frontier`.
        speeds: Of `speed`; times, which no two studies share.
        distances: Of `tokens`.
        sequence: Of `sequence`.
        level: Confidence level.
        version: Of eft-eval.
    """

    analysis: str
    family: str
    description: str
    tasks: tuple[str, ...]
    seeds: tuple[int, ...]
    arms: tuple[str, ...]
    missing: tuple[str, ...]
    unscored: tuple[str, ...]
    scores: tuple[Scores, ...]
    aggregates: tuple[Aggregate, ...] = ()
    carried_over: tuple[CarriedOver, ...] = ()
    contrasts: tuple[Contrast, ...] = ()
    trade_off: TradeOff | None = None
    speeds: Speeds | None = None
    distances: tuple[TokenDistances, ...] = ()
    sequence: tuple[SequenceWeights, ...] = ()
    level: float = 0.95
    version: str = __version__

    def as_dict(self) -> dict[str, Any]:
        """Return the results as plain JSON types."""
        found: dict[str, Any] = plain(self)
        return {"format": "eft-eval study results", **found}


def study_results(folder: StudyFolder) -> StudyResults:
    """Return what the runs that are whole say.

    Raises:
        ConfigError: A run's files are damaged.
    """
    plan = folder.plan
    arms = read_arms(folder)
    found = [measured(arms, metric) for metric in metrics_of(arms)]
    aggregates = aggregates_of(arms, found)
    found = [one for one in found if one.documents]
    return StudyResults(
        analysis=plan.design.analysis,
        family=plan.family.name,
        description=plan.family.description,
        tasks=plan.tasks,
        seeds=plan.design.seeds,
        arms=tuple(arms),
        missing=tuple(arm.name for arm in plan.arms if arm.name not in arms),
        unscored=tuple(
            f"{arm}, seed {seed}: {text}"
            for arm, runs in arms.items()
            for seed, run in zip(plan.design.seeds, runs, strict=True)
            for text in unscored_texts(run)
        ),
        scores=tuple(_scores(one, plan.design.level) for one in found),
        aggregates=aggregates,
        level=plan.design.level,
        **_parts(folder, arms, found),
    )


def _parts(folder: StudyFolder, arms: ArmRuns, found: Sequence[Measured]) -> dict[str, Any]:
    """Return what belongs to the study's kind alone."""
    plan, level = folder.plan, folder.plan.design.level
    kind = plan.design.analysis
    if kind == "scaling":
        return {"carried_over": carried_over(found, level)}
    if kind == "frontier":
        return {"trade_off": trade_off(plan, arms, found, level)}
    if kind == "speed":
        return {"speeds": speeds(plan, arms, level)}
    if kind == "tokens":
        return {"distances": token_distances(folder)}
    if kind == "sequence":
        return {"sequence": sequence_weights(folder, arms)}
    return {"contrasts": contrasts(found, _standard(plan), level)}


def _standard(plan: StudyPlan) -> str:
    """Return the arm that others are compared with: unfiltered, of weight 1, else the first."""
    for arm in plan.arms:
        if (arm.setting, arm.value) in (("weight", 1.0), ("weight-top-p", None)):
            return arm.name
    return plan.arms[0].name


def _scores(found: Measured, level: float) -> Scores:
    return Scores(
        metric=found.metric.name,
        higher_is_better=found.metric.higher_is_better,
        means={arm: found.mean(arm, level) for arm in found.values},
        documents=found.documents,
        clusters=found.units,
        dropped=found.dropped,
    )
