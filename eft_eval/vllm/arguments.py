"""From a composite to the arguments of vLLM's engine: pure, and without vLLM.

To vLLM a composite is one model that holds all members: what it is travels in the configuration
of the first member, the engine's ``model``, whose overrides every process of the engine reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from eft_eval.composite.model import CompositeModel
from eft_eval.decoding.block import expected_tokens
from eft_eval.engine.footprint import parameter_count
from eft_eval.engine.loading import Member
from eft_eval.engine.windows import ALL, layer_windows
from eft_eval.errors import ConfigError
from eft_eval.vllm.refusals import (
    Summed,
    check_arguments,
    check_composite,
    check_length,
    check_ranks,
    reach,
)

__all__ = [
    "ARCHITECTURE",
    "EngineArguments",
    "common_dtype",
    "draft_length",
    "drafted_tokens",
    "engine_arguments",
    "with_scored_token",
]

ARCHITECTURE = "EFTForCausalLM"
"""The composite's name among vLLM's model classes."""

_SMALL_DRAFT = 0.5  # of the parameters of all views; beyond, drafting costs more than it saves
_LONGEST_DRAFT = 4  # with many rows, longer ones cost more to read than they save
_MIXED = "layers of the members see windows of several sizes, with which vLLM drafts nothing"
_ACCEPTANCES = (0.5, 0.7, 0.9)  # of real models and of models that fit each other well


class EngineArguments(NamedTuple):
    """What vLLM is asked for.

    Attributes:
        values: Keyword arguments of ``vllm.LLM``; JSON data.
        notes: What the user should know of them, a line each.
    """

    values: dict[str, Any]
    notes: tuple[str, ...] = ()


def engine_arguments(
    composite: CompositeModel, extra: Mapping[str, Any] | None = None
) -> EngineArguments:
    """Return vLLM's engine arguments for a composite; loads no weights.

    Equal members are one, their factors added, and those that cancel are left out: as with
    `CompositeModel.views`. ``extra`` are vLLM's own arguments; they win, but for what the
    composite decides.

    Raises:
        ConfigError: The composite, or an argument, is nothing that vLLM can run as one model.
    """
    given = dict(extra or {})
    check_arguments(given)
    members = list(dict.fromkeys(view.member for view in composite.views))
    check_composite(composite)
    drafted, notes = drafted_tokens(composite)
    # vLLM asks that target and draft have one size; scores beyond the shared tokens are -inf
    size = composite.tuned.vocabulary_size if drafted else composite.vocabulary
    first = members[0]
    values: dict[str, Any] = {
        "model": first.spec.location,
        "tokenizer": composite.tuned.spec.location,
        # stop tokens, and what a server samples with unless told: the base's are not its own
        "generation_config": composite.tuned.spec.location,
        "dtype": common_dtype(members),
    }
    for key, member in (("revision", first), ("tokenizer_revision", composite.tuned)):
        if member.spec.revision is not None:
            values[key] = member.spec.revision
    limit = reach(composite)
    if limit is not None:
        values["max_model_len"] = limit
    check_length(composite, given)
    check_ranks(composite, given)
    values |= {key: value for key, value in given.items() if value is not None}
    values["hf_overrides"] = {
        "architectures": [ARCHITECTURE],
        "vocab_size": size,
        "eft_members": [_member_record(member) for member in members],
        "eft_views": [[members.index(view.member), view.coefficient] for view in composite.views],
        "eft_vocabulary": composite.vocabulary,
        "eft_excluded": sorted(composite.excluded_tokens),
        "eft_weight_top_p": composite.recipe.decoding.weight_top_p,
    }
    if drafted:
        draft = composite.tuned
        values["speculative_config"] = {
            "method": "draft_model",
            "model": draft.spec.location,
            "num_speculative_tokens": drafted,
            **({"revision": draft.spec.revision} if draft.spec.revision else {}),
        }
    return EngineArguments(values, notes)


def with_scored_token(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return engine arguments that leave room for one token that no member reads.

    A row that is as long as members can read has one more token to score: the next one. vLLM has
    it generated, and counts it.
    """
    changed = dict(values)
    if (length := values.get("max_model_len")) is not None:
        changed["max_model_len"] = int(length) + 1
        # by this vLLM asks how long rows may be whatever the first member's own limit is
        changed["hf_overrides"] = {**values["hf_overrides"], "model_max_length": int(length) + 1}
    return changed


def common_dtype(members: Sequence[Member]) -> str:
    """Return the one type that vLLM computes all members in: the widest of theirs."""
    order = ("float16", "bfloat16", "float32", "float64")
    found = {str(member.dtype).removeprefix("torch.") for member in members}
    if {"float16", "bfloat16"} <= found:
        return "float32"
    widest = max(found, key=order.index)
    return "float32" if widest == "float64" else widest


def _member_record(member: Member) -> dict[str, Any]:
    return {
        "model": member.spec.location,
        "revision": member.spec.revision,
    }


def drafted_tokens(composite: Summed) -> tuple[int, tuple[str, ...]]:
    """Return how many tokens the tuned member drafts in a round (0: none), and notes."""
    asked = composite.recipe.decoding.block
    if asked == 0 or len(composite.views) == 1:
        return 0, ()
    if composite.vocabulary > composite.tuned.vocabulary_size:
        return 0, ()
    sizes_of_windows = {
        window.size
        for view in composite.views
        for window in layer_windows(view.member.text_config) or (ALL,)
    }
    if len(sizes_of_windows) > 1:
        if asked == "auto":
            return 0, (f"block=auto: {_MIXED}: decoding is plain",)
        raise ConfigError(f"block={asked}: {_MIXED}; set block=0")
    if asked != "auto":
        return int(asked), ()
    sizes = [parameter_count(view.member) for view in composite.views]
    draft = parameter_count(composite.tuned)
    if draft >= _SMALL_DRAFT * sum(sizes):
        return 0, ("block=auto: the draft is no smaller than the composite, decoding is plain",)
    return draft_length(draft / sum(sizes)), ()


def draft_length(share: float) -> int:
    """Return how many tokens to draft in a round, before any acceptance is known.

    k drafts give (1 - α^(k+1)) / (1 - α) tokens at acceptance α, in the time of 1 + k · share plain
    steps. The length is that which loses least against the best one, at the acceptance where it
    loses most.

    Args:
        share: The draft's part of what a step of the composite takes, below one half.
    """
    lengths = range(1, _LONGEST_DRAFT + 1)

    def speed(length: int, acceptance: float) -> float:
        return expected_tokens([acceptance] * length) / (1 + length * share)

    best = {one: max(speed(length, one) for length in lengths) for one in _ACCEPTANCES}
    return max(lengths, key=lambda length: min(speed(length, a) / best[a] for a in _ACCEPTANCES))
