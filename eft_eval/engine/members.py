"""The members of a recipe: equal models once, adapters on the model that they share."""

from __future__ import annotations

from eft_eval.engine.adapters import AdaptedMember, read_adapter
from eft_eval.engine.loading import LoadOptions, Member
from eft_eval.files import user_path
from eft_eval.recipe import MemberSpec, Recipe
from eft_eval.recipe.adapters import AdapterReader, with_bases
from eft_eval.streams import logger

__all__ = ["load_members"]

log = logger("eft_eval")


def load_members(
    recipe: Recipe,
    options: LoadOptions,
    kind: type[Member] = Member,
    reader: AdapterReader = read_adapter,
) -> dict[str, Member]:
    """Return the member of every role; equal models are one object, so they are loaded once.

    Only configurations are read here.

    Args:
        recipe: Of the composite.
        options: Of the process.
        kind: What whole models are.
        reader: Says of a model whether it is an adapter.

    Raises:
        ConfigError: A model is missing, unreadable or no causal language model.
    """
    recipe = with_bases(recipe, reader)
    loaded: dict[MemberSpec, Member] = {}
    members: dict[str, Member] = {}
    # whole models first: an adapter is applied to the one that is there
    for role, spec in sorted(recipe.members, key=lambda one: one[1].adapter is not None):
        key = _place(spec)
        if key not in loaded:
            if spec.adapter is None:
                loaded[key] = kind(spec, options, f"{role} member {spec.model!r}")
            else:
                loaded[key] = _adapted(role, spec, options, loaded, kind)
        members[role] = loaded[key]
    return {role: members[role] for role, _ in recipe.members}


def _adapted(
    role: str,
    spec: MemberSpec,
    options: LoadOptions,
    loaded: dict[MemberSpec, Member],
    kind: type[Member],
) -> Member:
    spec = spec.model_copy(update={"prompt": None, "parameters": None})
    below = spec.model_copy(update={"adapter": None, "adapter_revision": None})
    if (place := _place(below)) not in loaded:
        loaded[place] = kind(
            below, options, f"{below.model!r}, the model of {role}'s adapter {spec.adapter!r}"
        )
        log.warning(
            "%s member %r: its model %r is no other member: it is loaded as well "
            "(%s=MODEL,%s.adapter=%s names another)",
            role, spec.adapter, below.model, role, role, spec.adapter,
        )  # fmt: skip
    return AdaptedMember(spec, options, f"{role} member {spec.adapter!r}", loaded[place])


def _place(spec: MemberSpec) -> MemberSpec:
    """Return what is the same for all ways to name a model, such as links to its folder."""
    found: dict[str, str | None] = {"prompt": None, "parameters": None}
    for key, name in (("model", spec.location), ("adapter", spec.adapter)):
        if name is not None and (folder := user_path(name)).is_dir():
            found[key] = str(folder.resolve())
    return spec.model_copy(update=found)
