"""Whether a study's arms can run on the engine that it names, known from configurations alone."""

from __future__ import annotations

from eft_eval.errors import ConfigError
from eft_eval.plans.members import planned_composite
from eft_eval.study.plan import StudyPlan
from eft_eval.vllm.refusals import check_arguments, check_composite

__all__ = ["check_engine"]


def check_engine(plan: StudyPlan) -> None:
    """Check what vLLM would refuse of arms and arguments; loads nothing, and needs no vLLM.

    Raises:
        ConfigError: An argument is decided by the recipe, or an arm is nothing that vLLM runs.
    """
    try:
        check_arguments(plan.model_args)
    except ConfigError as error:
        raise ConfigError(f"model-args: {error}") from error
    for arm in plan.arms:
        try:
            composite = planned_composite(arm.recipe)
        except ConfigError:  # not at hand: the arm itself says why, and the others go on
            continue
        try:
            check_composite(composite)
        except ConfigError as error:
            raise ConfigError(f"arm {arm.name}: {error}") from error
