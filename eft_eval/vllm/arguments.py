"""From a composite to the arguments of vLLM's engine: pure, and without vLLM.

To vLLM a composite is one model that holds all members: what it is travels in the configuration
of the first member, the engine's ``model``, whose overrides every process of the engine reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from eft_eval.composite.model import CompositeModel, View
from eft_eval.decoding.block import expected_tokens
from eft_eval.engine.adapters import AdaptedMember
from eft_eval.engine.footprint import parameter_count
from eft_eval.engine.loading import Member
from eft_eval.errors import ConfigError
from eft_eval.recipe import Recipe

__all__ = [
    "ARCHITECTURE",
    "EngineArguments",
    "Summed",
    "check_arguments",
    "check_composite",
    "check_length",
    "common_dtype",
    "draft_length",
    "drafted_tokens",
    "engine_arguments",
]

ARCHITECTURE = "EFTForCausalLM"
"""The composite's name among vLLM's model classes."""

_SMALL_DRAFT = 0.5  # of the parameters of all views; beyond, drafting costs more than it saves
_LONGEST_DRAFT = 4  # with many rows, longer ones cost more to read than they save
_ACCEPTANCES = (0.5, 0.7, 0.9)  # of real models and of models that fit each other well


class Summed(Protocol):
    """What a composite sums, with or without its tokenizers."""

    @property
    def recipe(self) -> Recipe:
        """What it is made of."""

    @property
    def views(self) -> tuple[View, ...]:
        """What is summed."""

    @property
    def tuned(self) -> Member:
        """The first delta's tuned member."""

    @property
    def vocabulary(self) -> int:
        """Number of tokens that are scored."""


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
    if composite.max_length is not None:
        values["max_model_len"] = composite.max_length
    check_length(composite, given)
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


_DECIDED = {
    "model": "the recipe",
    "tokenizer": "the tuned member",
    "hf_overrides": "the recipe",
    "speculative_config": "block= (0: none, N tokens, auto)",
    "generation_config": "the tuned member",
}


def check_arguments(given: Mapping[str, Any]) -> None:
    """Raise ConfigError for arguments of vLLM that a composite decides, or cannot have."""
    for key, source in _DECIDED.items():
        if key in given:
            raise ConfigError(f"{key}: with eft-vllm {source} says it; leave it out")
    if int(given.get("pipeline_parallel_size") or 1) != 1:
        raise ConfigError(
            f"pipeline_parallel_size={given['pipeline_parallel_size']}: a composite cannot be cut "
            "into stages; spread it with tensor_parallel_size"
        )
    if given.get("quantization") is not None:
        raise ConfigError(
            f"quantization={given['quantization']}: name quantised checkpoints as members; vLLM "
            "reads each one's own settings"
        )


def check_length(composite: CompositeModel, given: Mapping[str, Any]) -> None:
    """Raise ConfigError where vLLM is to read more tokens than the shortest member can."""
    asked, limit = given.get("max_model_len"), composite.max_length
    if asked is None or limit is None:
        return
    digits = str(asked)
    right = digits.isdecimal() and len(digits) <= len(str(limit)) and 0 < int(digits) <= limit
    if not right:
        raise ConfigError(
            f"max_model_len: got {asked!r}, expected a number of tokens up to {limit}, which is "
            "what the shortest member reads"
        )


def check_composite(composite: Summed) -> None:
    """Raise ConfigError where vLLM cannot run this composite as one model."""
    for member in dict.fromkeys(view.member for view in composite.views):
        _check_member(member)
    for view in composite.views:
        if view.prompt is not None:
            raise ConfigError(
                f"{view.role}: eft-vllm reads one token sequence for all members, and this one has "
                "a prompt of its own: leave it out, or use --model eft"
            )
    decoding = composite.recipe.decoding
    if decoding.sampling == "coupled" and "sampling" in decoding.model_fields_set:
        raise ConfigError(
            "decoding.sampling=coupled: vLLM draws its own noise, so that samples agree in "
            "distribution only: leave it out, or use --model eft"
        )


def _check_member(member: Member) -> None:
    """Raise ConfigError where vLLM cannot hold this member beside others."""
    config = member.config
    if isinstance(member, AdaptedMember) or member.spec.gguf_file or ".gguf" in member.spec.model:
        raise ConfigError(
            f"{member.label}: eft-vllm reads whole checkpoints in safetensors: merge the adapter, "
            "or save the GGUF file as a transformers folder, or use --model eft"
        )
    if member.text_config is not config:
        raise ConfigError(
            f"{member.label}: a multimodal model ({config.model_type}); eft-vllm composes text "
            "models: name its text-only checkpoint, or use --model eft"
        )
    if member.spec.quantization is not None:
        raise ConfigError(
            f"{member.label}: quantization={member.spec.quantization} is bitsandbytes at load "
            "time; for eft-vllm name a checkpoint that is quantised already, or use --model eft"
        )
    if member.spec.head_dtype == "float32":
        raise ConfigError(
            f"{member.label}: head_dtype=float32: with eft-vllm every output layer is computed in "
            "the engine's type: leave it out, or use --model eft"
        )
    if member.spec.placement not in (None, "auto"):  # spread over all devices it is anyway
        raise ConfigError(
            f"{member.label}: placement={member.spec.placement}: with eft-vllm every member is "
            "spread over the engine's devices; leave it out (tensor_parallel_size=N)"
        )
    kinds = set(getattr(config, "layer_types", None) or ())
    if recurrent := sorted(kinds - {"full_attention", "sliding_attention", "chunked_attention"}):
        raise ConfigError(
            f"{member.label}: layers of kind {', '.join(recurrent)} ({config.model_type}); vLLM "
            "keeps their states apart per model: use --model eft"
        )


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
