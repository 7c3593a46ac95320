"""What a study would take, and what of its tasks would fail only after its runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from eft_eval.errors import ConfigError
from eft_eval.judging.cost.estimate import Ahead, Estimate
from eft_eval.plans.plan import Plan
from eft_eval.plans.speed import Workload
from eft_eval.runs.conditions import sampling_rule
from eft_eval.study.folder import StudyFolder
from eft_eval.study.plan import ArmRun, PlannedArm, StudyPlan
from eft_eval.study.sequence import check_temperature

__all__ = [
    "ArmNeeds",
    "StudyNeeds",
    "check_tasks",
    "judged_in_all",
    "models_of",
    "passes_of",
]

_TEXT = "generate_until"


class ArmNeeds(NamedTuple):
    """What one run of an arm takes.

    Attributes:
        arm: Which.
        plan: Memory and time; None where no hardware was named, or there is none.
        problem: Why there is none; empty where there is, or nobody asked.
    """

    arm: PlannedArm
    plan: Plan | None = None
    problem: str = ""


@dataclass(frozen=True)
class StudyNeeds:
    """What a study takes.

    Attributes:
        workload: What every run asks of its composite; None where the tasks cannot be read here.
        problem: Why not; empty where they can.
        arms: Per arm what a run of it takes.
        judging: What is left for the judge; None where nobody is asked.
        judge: Its name.
    """

    workload: Workload | None
    problem: str
    arms: tuple[ArmNeeds, ...]
    judging: Estimate | None = None
    judge: str | None = None


def models_of(arm: PlannedArm) -> int:
    """Return how many models an arm holds, each once."""
    return len({spec.model for _, spec in arm.recipe.members})


def passes_of(arm: PlannedArm, work: Workload) -> float:
    """Return the passes of one row through one model in a run of an arm, without drafts, at most.

    One for each token of a response (the first reads the prompt), one for each scored sequence.
    """
    return models_of(arm) * (work.responses * work.response_tokens + work.scored)


def judged_in_all(
    folder: StudyFolder, judged: Sequence[Ahead], configs: Mapping[str, Mapping[str, Any]]
) -> list[Ahead]:
    """Return what the judge would be asked in all runs that are not whole.

    Greedy responses are the same for every seed, and those of `eft` for every block; the judge is
    asked about equal responses once, and verdicts of runs that are whole are kept.

    Args:
        folder: Of the study.
        judged: What it would be asked in one run.
        configs: The tasks' settings.
    """
    found = []
    for one in judged:
        greedy = _is_greedy(configs[one.task])
        known = {_says(run, folder.plan, greedy): False for run in folder.plan.runs}
        known |= {_says(run, folder.plan, greedy): True for run in folder.plan.runs
                  if folder.is_done(run)}  # fmt: skip
        left = list(known.values()).count(False)
        if left:
            found.append(one._replace(times=left if greedy else one.times * left))
    return found


def _says(run: ArmRun, plan: StudyPlan, greedy: bool) -> tuple[str, int | None]:
    """Return what decides a run's responses: equal ones have equal responses."""
    recipe = run.arm.recipe
    if plan.design.engine == "eft":
        decoding = recipe.decoding.model_copy(update={"block": 0})
        recipe = recipe.model_copy(update={"decoding": decoding})
    return recipe.model_dump_json(), None if greedy else run.seed


def _is_greedy(config: Mapping[str, Any]) -> bool:
    return sampling_rule(config.get("generation_kwargs"), {}).startswith("greedy")


def check_tasks(plan: StudyPlan, configs: Mapping[str, Mapping[str, Any]]) -> None:
    """Check that the tasks' responses are what a study looks into.

    Args:
        plan: The study.
        configs: The tasks' settings, as results files have them.

    Raises:
        ConfigError: No task generates text, or they are not sampled as their weights need it.
    """
    analysis = plan.design.analysis
    if analysis not in ("tokens", "sequence"):
        return
    texts = [name for name, one in configs.items() if one.get("output_type", _TEXT) == _TEXT]
    if not texts:
        asked = ", ".join(plan.tasks)
        raise ConfigError(f"no task of {asked} generates text: there is no response to look into")
    if analysis == "sequence":
        for name in texts:
            check_temperature(name, sampling_rule(configs[name].get("generation_kwargs"), {}))
