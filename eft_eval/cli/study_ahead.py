"""What is known of a study before its first run: that its tasks fit it, and what it would take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eft_eval.cli.ahead import TaskChanges, asked_of, counter_of, judging_of
from eft_eval.errors import ConfigError, EftEvalError

if TYPE_CHECKING:
    from eft_eval.plans.hardware import Hardware
    from eft_eval.plans.speed import Workload
    from eft_eval.study.folder import StudyFolder
    from eft_eval.study.needs import ArmNeeds, StudyNeeds
    from eft_eval.study.plan import PlannedArm, StudyPlan

__all__ = ["check_ahead", "needs_of"]


def check_ahead(plan: StudyPlan) -> None:
    """Refuse what every run would fail of, or what could not be analysed after them.

    Raises:
        EftEvalError: Tokenizers of a family differ, a task cannot be read or does not fit the
            study, or no judge is set up.
    """
    from eft_eval.judging.judges.registry import judge_for
    from eft_eval.judging.settings import JudgeSettings
    from eft_eval.study.needs import check_tasks
    from eft_eval.study.tokenizers import check_tokenizers

    if plan.design.engine == "eft-vllm":
        from eft_eval.vllm.engine import check_installed

        check_installed()
    check_tokenizers(plan, fetch=True)
    found = asked_of(plan.tasks, TaskChanges(1, None, plan.design.gen_kwargs), len)
    check_tasks(plan, found.configs)
    if found.judged:
        judge_for(JudgeSettings.from_environment(judge=plan.judge or None))


def needs_of(folder: StudyFolder, hardware: str | None) -> StudyNeeds:
    """Return what a study takes.

    Args:
        folder: Of the study.
        hardware: What it would run on; None: nothing is said of its time.

    Raises:
        ConfigError: Tokenizers of the family differ, the tasks do not fit the study, or there is
            no such hardware.
    """
    from eft_eval.plans.hardware import parse_hardware
    from eft_eval.study.needs import ArmNeeds, StudyNeeds, check_tasks, judged_in_all
    from eft_eval.study.tokenizers import check_tokenizers

    plan = folder.plan
    check_tokenizers(plan, fetch=False)
    machine = None if hardware is None else parse_hardware(hardware)
    composites = [arm.recipe for arm in plan.arms if not arm.recipe.is_base_alone]
    count = counter_of((composites or [plan.arms[0].recipe])[0])
    changes = TaskChanges(plan.design.limit, None, plan.design.gen_kwargs)
    try:
        found = asked_of(plan.tasks, changes, count)
    except EftEvalError as error:  # its data may lie on another machine
        if isinstance(error.__cause__, KeyError):  # no machine knows such a task
            raise
        return StudyNeeds(None, str(error), tuple(ArmNeeds(arm) for arm in plan.arms))
    check_tasks(plan, found.configs)
    arms = tuple(_arm_needs(arm, plan, found.workload, machine) for arm in plan.arms)
    judged = judged_in_all(folder, found.judged, found.configs)
    judging, judge = judging_of(judged, found.workload.response_tokens, plan.judge or None)
    return StudyNeeds(found.workload, "", arms, judging, judge)


def _arm_needs(
    arm: PlannedArm, plan: StudyPlan, work: Workload, machine: Hardware | None
) -> ArmNeeds:
    from eft_eval.plans.plan import PlanSettings, make_plan
    from eft_eval.study.needs import ArmNeeds

    if machine is None:
        return ArmNeeds(arm)
    engine, rows = plan.design.engine, plan.batch_size
    settings = PlanSettings(engine, batch=int(rows) if rows.isdigit() else None)
    try:
        return ArmNeeds(arm, make_plan(arm.recipe, machine, work, settings))
    except ConfigError as error:
        return ArmNeeds(arm, problem=str(error))
