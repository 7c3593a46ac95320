"""What a results file says of the model: a composite with its members, or a single model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, NamedTuple

import yaml

from eft_eval.errors import ClaimError, ConfigError
from eft_eval.exporting.claims import CompositeClaim, MemberClaim, MemberKind
from eft_eval.recipe import parse_recipe
from eft_eval.recipe.naming import canonical_name
from eft_eval.runs.metadata import Member, members_in, model_arguments
from eft_eval.runs.variants import laid_on, variant_of

__all__ = [
    "COMMIT",
    "REPOSITORY",
    "HubModel",
    "composite_of",
    "hub_model",
    "public_name",
    "unpinned",
]

COMMIT = re.compile(r"[0-9a-f]{40}")
"""A commit on the hub."""
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
"""A repository on the hub with its owner."""
_DEMO = "demo:"
_NAMES = ("pretrained", "model")  # the arguments that name a model
_PLACES = ("placement",)  # where weights lie changes no result


class HubModel(NamedTuple):
    """What a run says of a single model's place on the hub.

    Attributes:
        repository: ``OWNER/NAME``; None where it is not known to be there.
        commit: Of the repository; None where the run does not say.
        named_by: What the repository is known by, where that is no commit that lm-eval noted.
        below: Models that it lies on, so that it is none of them: an adapter's.
    """

    repository: str | None = None
    commit: str | None = None
    named_by: str = ""
    below: tuple[str, ...] = ()


def composite_of(config: Mapping[str, Any], where: str) -> CompositeClaim | None:
    """Return what composes the model; None for a single model.

    Args:
        config: ``config`` of the results file.
        where: The file, for errors.

    Raises:
        ClaimError: It is a composite, but the file does not say of what.
    """
    if config.get("model") != "eft" and "eft_name" not in config:
        return None
    try:
        name, recipe = str(config["eft_name"]), config["eft_recipe"]
        members = tuple(_member(one) for one in members_in(config, where))
        weights = tuple(float(delta.get("weight", 1.0)) for delta in recipe["deltas"])
        decoding = recipe.get("decoding") or {}
        pinned = _pinned(recipe, {member.role: member for member in members})
    except (ConfigError, KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise ClaimError(
            f"{where} does not say what its composite is made of ({error!r}); evaluate it again "
            "with this eft-eval"
        ) from error
    return CompositeClaim(
        name=name,
        hash=name.rsplit("_", 1)[-1],
        recipe=yaml.safe_dump(pinned, sort_keys=False, allow_unicode=True, width=100),
        pinned_name=_name_of(pinned, name, members),
        members=members,
        weights=weights,
        weight_top_p=decoding.get("weight_top_p"),
        sampling=str(decoding.get("sampling", "coupled")),
    )


def hub_model(config: Mapping[str, Any], name: str) -> HubModel:
    """Return what a run says of a single model's place on the hub.

    lm-eval's own transformers backend notes the commit of hub models alone, and an empty one of
    folders; other backends note none, so that there ``OWNER/NAME`` is taken as it is written. A
    model with an adapter or delta weights is none of the hub's own.
    """
    args = model_arguments(config)
    named = {str(args[key]) for key in _NAMES if args.get(key)}
    if laid_on(config):
        return HubModel(below=tuple(sorted(named)))
    if named != {name} or not REPOSITORY.fullmatch(name):
        return HubModel()
    noted = config.get("model_sha")
    if isinstance(noted, str):
        return HubModel(name, noted) if COMMIT.fullmatch(noted) else HubModel()
    revision = str(args.get("revision") or "")
    commit = revision if COMMIT.fullmatch(revision) else None
    return HubModel(name, commit, "its name in the run alone")


def unpinned(config: Mapping[str, Any]) -> dict[str, str]:
    """Return what tells a model from others of its name, besides its commit."""
    found = variant_of(config)
    return {k: v for k, v in found.items() if k != "revision" or not COMMIT.fullmatch(v)}


def public_name(model: str) -> str:
    """Return a model's name without the path of a folder on somebody's machine."""
    path = PurePath(model)
    local = path.is_absolute() or model.startswith((".", "~")) or len(path.parts) > 2
    return path.name if local else model


def _member(found: Member) -> MemberClaim:
    kind: MemberKind = "hub"
    if found.source.startswith(_DEMO):
        kind = "demo"
    elif found.digest:
        kind = "folder"
    digest = found.adapter if (found.adapter or "").startswith("sha256:") else None
    if found.coefficient is None:
        raise ValueError(f"{found.role} has no coefficient")
    return MemberClaim(
        role=found.role,
        model=_place(found) if kind == "folder" else found.source,
        kind=kind,
        commit=found.version if kind == "hub" and COMMIT.fullmatch(found.version or "") else None,
        digest=found.digest,
        coefficient=found.coefficient,
        dtype=found.weights,
        quantization=found.quantization,
        parameters=found.num_parameters,
        adapter=PurePath(found.adapter_source or "").name if digest else found.adapter,
        adapter_digest=digest,
    )


def _place(member: Member) -> str:
    """Return what a local model is called: the file, or the last part of its folder's path."""
    return member.gguf_file or PurePath(member.source).name


def _pinned(recipe: Mapping[str, Any], members: Mapping[str, MemberClaim]) -> dict[str, Any]:
    """Return a recipe with hub members at their commits, and without paths and placements."""
    several = len(recipe["deltas"]) > 1
    deltas = []
    for number, delta in enumerate(recipe["deltas"], start=1):
        suffix = str(number) if several else ""
        found = {
            role: _pinned_member(delta[role], members[role + suffix])
            for role in ("tuned", "reference")
        }
        deltas.append({**found, "weight": delta.get("weight", 1.0)})
    kept = {key: recipe[key] for key in ("decoding", "description") if recipe.get(key)}
    return {"base": _pinned_member(recipe["base"], members["base"]), "deltas": deltas, **kept}


def _pinned_member(spec: Mapping[str, Any], member: MemberClaim) -> dict[str, Any]:
    named = ("model", "adapter", *_PLACES, *(("gguf_file",) if member.digest else ()))
    kept = {key: value for key, value in spec.items() if key not in named}
    on_top = {"adapter": member.adapter} if member.adapter else {}
    pin = {"revision": member.commit} if member.commit else {}
    return {"model": member.model, **on_top, **kept, **pin}


def _name_of(pinned: Mapping[str, Any], name: str, members: tuple[MemberClaim, ...]) -> str:
    if any(member.kind == "folder" or member.adapter_digest for member in members):
        return name  # a folder's name is made of its content, which is not here
    try:
        return canonical_name(parse_recipe(pinned))
    except (ConfigError, OSError):
        return name  # another version's recipe, or a demo family that is elsewhere
