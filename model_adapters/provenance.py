"""What a results file says about a composite."""

from __future__ import annotations

import re
from typing import Any

from eft_eval.composite.model import CompositeModel
from eft_eval.decoding.statistics import DecodingStatistics
from eft_eval.engine.adapters import AdaptedMember
from eft_eval.engine.loading import Member as LoadedMember
from eft_eval.files import user_path
from eft_eval.recipe import MemberSpec, identity
from eft_eval.recipe.naming import member_identity
from eft_eval.runs.conditions import SAMPLING_KEY
from eft_eval.runs.metadata import Member
from eft_eval.version import __version__


def model_info(composite: CompositeModel, decoded: DecodingStatistics) -> dict[str, Any]:
    """Return name, recipe and members of a composite as JSON data; loads no weights.

    ``eft_version`` is the eft-eval that evaluates.

    Per member: id or folder as given, content digest of a folder or commit of a hub model,
    adapter, revision, type, quantisation, factor in the sum (0 for a member that cancels) and,
    once the weights are loaded, number of parameters. ``eft_decoding`` is what the generation loop
    did (None where nothing was generated).
    """
    coefficients = {view.member: 0.0 for view in composite.views}
    for view in composite.views:
        coefficients[view.member] += view.coefficient
    members = {}
    for role, spec in composite.recipe.members:
        member = composite.members[role]
        loaded = member.loaded
        # an adapter's spec names the model below it
        asked = member_identity(member.spec.model_copy(update={"prompt": spec.prompt}))
        members[role] = Member(
            role=role,
            model=asked["model"],
            source=member.spec.model,
            coefficient=coefficients.get(member, 0.0),
            revision=asked["revision"],
            commit=commit_of(member.config, member.spec),
            dtype=asked["dtype"],
            loaded_dtype=str(member.model.dtype) if loaded else None,
            quantization=member.quantization,
            prompt=asked["prompt"],
            gguf_file=member.spec.gguf_file,
            adapter=asked.get("adapter"),
            adapter_source=member.spec.adapter,
            depends_on_batch=(loaded and getattr(member.engine, "depends_on_batch", False)) or None,
            head_dtype=_wider_head(member) if loaded else None,
            num_parameters=member.model.num_parameters() if loaded else spec.parameters,
        )
    distinct = {*composite.members.values()}
    distinct |= {one.base for one in distinct if isinstance(one, AdaptedMember)}
    counts = [member.own_parameters for member in distinct if member.loaded]
    return {
        "eft_version": __version__,
        "eft_name": composite.name,
        "eft_recipe": composite.recipe.model_dump(mode="json", exclude_none=True),
        "eft_identity": identity(composite.recipe),
        "eft_members": {role: member.as_dict() for role, member in members.items()},
        "eft_vocabulary": composite.vocabulary,
        SAMPLING_KEY: {},  # what a task does not set is neutral, whatever a checkpoint says
        "eft_decoding": decoded.record().as_dict() if decoded.requests or decoded.resumed else None,
        "model_num_parameters": sum(counts),
        "model_dtype": str(members["base"].loaded_dtype),
        "model_sha": composite.name.rsplit("_", 1)[-1],
    }


def _wider_head(member: LoadedMember) -> str | None:
    """Return the type of a member's logits where it is wider than its weights' own."""
    found = getattr(member.engine, "head_dtype", member.engine.dtype)
    return str(found) if found.itemsize > member.model.dtype.itemsize else None


def commit_of(config: Any, spec: MemberSpec) -> str | None:
    """Return a hub model's commit, 40 hexadecimal digits; None for a folder, or where unknown.

    The hub's client keeps a snapshot folder per commit, which tells what was loaded where
    transformers does not (as of 5.23).
    """
    if noted := getattr(config, "_commit_hash", None):
        return str(noted)
    if user_path(spec.location).is_dir():
        return None
    from huggingface_hub import try_to_load_from_cache

    file = try_to_load_from_cache(spec.model, "config.json", revision=spec.revision)
    found = re.search(r"snapshots[/\\]([0-9a-f]{40})[/\\]", str(file))
    return found[1] if found else None
