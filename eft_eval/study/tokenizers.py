"""Whether the models that an arm sums speak of the same tokens, before the first run."""

from __future__ import annotations

from collections.abc import Mapping

from eft_eval.engine.loading import LoadOptions, Member
from eft_eval.engine.members import load_members
from eft_eval.engine.vocabulary import common_vocabulary
from eft_eval.errors import ConfigError
from eft_eval.plans.members import planned_composite
from eft_eval.recipe import Recipe
from eft_eval.study.family import Family
from eft_eval.study.plan import StudyPlan

__all__ = ["check_tokenizers"]

_OPTIONS = ("trust_remote_code", "use_fast_tokenizer", "add_bos_token")


def check_tokenizers(plan: StudyPlan, fetch: bool) -> None:
    """Compare the tokenizers of every arm's models; weights are not loaded.

    A model that cannot be read is no matter here: its arms fail with the reason, others go on.

    Args:
        plan: The study.
        fetch: Whether tokenizers that are not on this machine are fetched; else they pass.

    Raises:
        ConfigError: The tokenizers of an arm's models differ.
    """
    options = LoadOptions(
        **{key: plan.model_args[key] for key in _OPTIONS & plan.model_args.keys()}
    )
    seen: list[set[str]] = []
    for arm in plan.arms:
        models = {spec.model for _, spec in arm.recipe.members}
        if arm.recipe.is_base_alone or models in seen:
            continue
        seen.append(models)
        members = _read(arm.recipe, options if fetch else None)
        if members is None:
            continue
        try:
            common_vocabulary(members, arm.recipe.tokenizer_map)
        except ConfigError as error:
            called = ", ".join(_called(arm.recipe, plan.family))
            raise ConfigError(f"family {plan.family.name} ({called}): {error}") from error


def _read(recipe: Recipe, options: LoadOptions | None) -> Mapping[str, Member] | None:
    """Return members whose tokenizers can be read; None where one cannot."""
    try:
        if options is None:
            members = planned_composite(recipe).members
        else:
            members = load_members(recipe, options)
        for member in members.values():
            member.tokenizer  # noqa: B018 - it is read when it is first asked for
    except ConfigError:
        return None
    return members


def _called(recipe: Recipe, family: Family) -> list[str]:
    """Return what each role's model is called in the family, or its own name."""
    names = {spec.model: name for name, spec in family.members.items()}
    return [f"{role}: {names.get(spec.model, spec.model)}" for role, spec in recipe.members]
