"""Tokens per second as ratios: blocks of drafts, and each tuned model alone (Table 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eft_eval.runs.provenance import decoding_of
from eft_eval.runs.records import Run
from eft_eval.runs.saved import open_run
from eft_eval.statistics.interval import Interval
from eft_eval.statistics.means import mean_of
from eft_eval.study.numbers import ArmRuns
from eft_eval.study.plan import PlannedArm, StudyPlan

__all__ = ["ArmSpeed", "Speeds", "speeds"]


@dataclass(frozen=True)
class ArmSpeed:
    """How fast an arm wrote.

    Attributes:
        arm: Its name.
        tokens_per_second: Per seed; None where nothing was generated anew.
        ratio: Geometric mean over seeds of its speed over the standard's, with a t interval of
            the logarithms, which needs two seeds.
        acceptance: Share of tested draft tokens that stood, mean over seeds; None without drafts.
    """

    arm: str
    tokens_per_second: tuple[float | None, ...]
    ratio: Interval | None
    acceptance: float | None


@dataclass(frozen=True)
class Speeds:
    """How fast the arms wrote.

    Attributes:
        standard: The arm that is 1: plain decoding of the composite.
        arms: All of them.
        same_responses: Whether all blocks gave the same responses; None where there is but one,
            or the engine is vLLM's.
    """

    standard: str
    arms: tuple[ArmSpeed, ...]
    same_responses: bool | None


def speeds(plan: StudyPlan, arms: ArmRuns, level: float) -> Speeds | None:
    """Return the arms' speeds; None where the arm that is 1 is not there.

    Args:
        plan: The study.
        arms: Runs that are whole.
        level: Confidence level.
    """
    plain = [arm.name for arm in plan.arms if _block(arm) == 0]
    standard = (plain or [plan.arms[0].name])[0]
    if standard not in arms:
        return None
    # vLLM draws other noise with other blocks: its samples agree in distribution only
    same = _blocks_agree(plan, arms) if plan.design.engine == "eft" else None
    base = _rates(arms[standard])
    found = tuple(
        ArmSpeed(name, _rates(runs), _ratio(_rates(runs), base, level), _acceptance(runs))
        for name, runs in arms.items()
    )
    return Speeds(standard, found, same)


def _rates(runs: Sequence[Run]) -> tuple[float | None, ...]:
    records = [decoding_of(run) for run in runs]
    return tuple(one.tokens_per_second if one else None for one in records)


def _ratio(
    rates: Sequence[float | None], base: Sequence[float | None], level: float
) -> Interval | None:
    logs = [np.log(a / b) for a, b in zip(rates, base, strict=True) if a and b]
    if not logs:
        return None
    found = mean_of(np.array(logs), None, level).interval
    ends = np.exp([found.estimate, found.lower, found.upper])
    return Interval(float(ends[0]), float(ends[1]), float(ends[2]), level, "t of logarithms")


def _acceptance(runs: Sequence[Run]) -> float | None:
    records = [decoding_of(run) for run in runs]
    known = [one.acceptance for one in records if one and one.acceptance is not None]
    return float(np.mean(known)) if known else None


def _block(arm: PlannedArm) -> int | str | None:
    """Return how many tokens an arm drafts in a round; None where there is nothing to draft for."""
    return None if arm.recipe.is_base_alone else arm.recipe.decoding.block


def _blocks_agree(plan: StudyPlan, arms: ArmRuns) -> bool | None:
    """Whether arms that differ in the block alone gave the same; None where there are none."""
    alike: dict[str, list[str]] = {}
    for arm in plan.arms:
        if arm.name in arms and _block(arm) is not None:
            decoding = arm.recipe.decoding.model_copy(update={"block": 0})
            rest = arm.recipe.model_copy(update={"decoding": decoding})
            alike.setdefault(rest.model_dump_json(), []).append(arm.name)
    several = [names for names in alike.values() if len(names) > 1]
    if not several:
        return None
    return all(len({_responses(arms[name]) for name in names}) == 1 for names in several)


def _responses(runs: Sequence[Run]) -> tuple[tuple[str, ...], ...]:
    found = []
    for run in runs:
        saved = open_run(run.label)
        for name in sorted(saved.tasks):
            for by_document in saved.lines(saved.tasks[name]).values():
                found.append(tuple(str(by_document[doc].responses) for doc in sorted(by_document)))
    return tuple(found)
