"""What a results file says about a composite."""

from __future__ import annotations

from typing import Any

from eft_eval import __version__
from eft_eval.composite import Composite
from eft_eval.decoding import DecodingStatistics
from eft_eval.recipe import identity
from eft_eval.recipe.naming import member_identity


def model_info(composite: Composite, decoded: DecodingStatistics) -> dict[str, Any]:
    """Return name, recipe and members of a composite as JSON data; loads no weights.

    ``eft_version`` is the eft-eval that evaluates.

    Per member: id or folder as given, content digest of a folder or commit of a hub model,
    revision, type, quantisation, factor in the sum (0 for a member that cancels) and, once the
    weights are loaded, number of parameters. ``eft_decoding`` is what the generation loop did
    (None where nothing was generated).
    """
    coefficients = {view.member: 0.0 for view in composite.views}
    for view in composite.views:
        coefficients[view.member] += view.coefficient
    members = {}
    for role, spec in composite.recipe.members:
        member = composite.members[role]
        loaded = "model" in vars(member)
        members[role] = {
            **member_identity(spec),
            "source": spec.model,
            "commit": getattr(member.config, "_commit_hash", None),
            "coefficient": coefficients.get(member, 0.0),
            "num_parameters": member.model.num_parameters() if loaded else spec.parameters,
            "loaded_dtype": str(member.model.dtype) if loaded else None,
        }
    counts = [
        member.model.num_parameters()
        for member in set(composite.members.values())
        if "model" in vars(member)
    ]
    return {
        "eft_version": __version__,
        "eft_name": composite.name,
        "eft_recipe": composite.recipe.model_dump(mode="json", exclude_none=True),
        "eft_identity": identity(composite.recipe),
        "eft_members": members,
        "eft_vocabulary": composite.vocabulary,
        "eft_decoding": decoded.as_dict() if decoded.requests else None,
        "model_num_parameters": sum(counts),
        "model_dtype": str(members["base"]["loaded_dtype"]),
        "model_sha": composite.name.rsplit("_", 1)[-1],
    }
