"""What a composite cannot be, or have, in vLLM: refused in one line, before weights load."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from eft_eval.composite.model import CompositeModel, View
from eft_eval.engine.adapters import AdaptedMember
from eft_eval.engine.footprint import Heads, attention_heads
from eft_eval.engine.loading import Member
from eft_eval.engine.positions import longest_row, rope_kinds
from eft_eval.engine.windows import layer_windows
from eft_eval.errors import ConfigError
from eft_eval.recipe import Recipe

__all__ = [
    "CHECKED",
    "Summed",
    "check_arguments",
    "check_composite",
    "check_length",
    "check_ranks",
    "reach",
    "uncut",
]

_DIGITS, _SHOWN = 9, 40


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


_DRAFTS = "block= (0: none, N tokens, auto)"
_DECIDED = {
    "model": "the recipe",
    "revision": "the recipe (base.revision=…)",
    "code_revision": "the recipe",
    "hf_config_path": "the recipe",
    "hf_overrides": "the recipe",
    "tokenizer": "the tuned member",
    "tokenizer_revision": "the recipe (tuned.revision=…)",
    "generation_config": "the tuned member",
    "speculative_config": _DRAFTS,
    "spec_method": _DRAFTS,
    "spec_model": _DRAFTS,
    "spec_tokens": _DRAFTS,
}
_CANNOT = {
    "quantization": "name quantised checkpoints as members; vLLM reads each one's own settings",
    "enable_lora": "merge the adapter into its model, or use --model eft with it",
    "enable_prompt_embeds": "members embed tokens each in its own way",
    "disable_sliding_window": "it would be the first member's windows only; set max_model_len",
}
_TAKEN: dict[str, tuple[str, ...]] = {
    "model_impl": ("auto", "vllm"),  # another one would run the first member alone
    "runner": ("auto", "generate"),
    "convert": ("auto", "none"),
    "logprobs_mode": ("raw_logprobs",),  # scores are read off them
    "load_format": (
        "auto", "hf", "safetensors", "fastsafetensors", "instanttensor", "pt", "npcache",
    ),  # others load the first member only
}  # fmt: skip
CHECKED = (
    *_DECIDED, *_CANNOT, *_TAKEN, "max_model_len", "pipeline_parallel_size", "tensor_parallel_size",
)  # fmt: skip
"""The arguments of vLLM that the checks below read."""
_ONE_WINDOW = ("qwen2", "qwen2_moe", "qwen3", "qwen3_moe")  # for all layers, in vLLM
_NO = (None, False, "", "False", "false", "0")


def check_arguments(given: Mapping[str, Any]) -> None:
    """Raise ConfigError for arguments of vLLM that a composite decides, or cannot have."""
    for key, value in given.items():
        name = key.partition(".")[0]  # on its command line vLLM takes --hf-overrides.key, too
        if name in _DECIDED:
            raise ConfigError(f"{key}: with eft-vllm {_DECIDED[name]} says it; leave it out")
        if name in _CANNOT and value not in _NO:
            raise ConfigError(f"{key}={value}: not with a composite: {_CANNOT[name]}")
        if name in _TAKEN and value is not None and value not in _TAKEN[name]:
            raise ConfigError(
                f"{key}={value}: with a composite it can be {' or '.join(_TAKEN[name])}"
            )
    if str(given.get("pipeline_parallel_size") or 1) != "1":
        raise ConfigError(
            f"pipeline_parallel_size={given['pipeline_parallel_size']}: a composite cannot be cut "
            "into stages; spread it with tensor_parallel_size"
        )


def check_length(composite: CompositeModel, given: Mapping[str, Any]) -> None:
    """Raise ConfigError where vLLM is to read more tokens than the shortest member can."""
    asked, limit = given.get("max_model_len"), reach(composite)
    if asked is None:
        return
    number = _whole(str(asked))
    if number is None or (limit is not None and number > limit):
        most = "" if limit is None else f" up to {limit}, which is what the shortest member reads"
        raise ConfigError(f"max_model_len: got {asked!r}, expected a number of tokens{most}")


def reach(composite: CompositeModel) -> int | None:
    """Return how many tokens vLLM reads at most, None where no member says.

    Where longer rows have other rotary factors, vLLM takes those for all rows, also for short ones:
    it is kept below.
    """
    limits = [composite.max_length]
    for view in composite.views:
        longest = longest_row(view.member.text_config)
        limits.append(None if longest is None else longest - 1)  # one token more is generated
    return min((limit for limit in limits if limit is not None), default=None)


def check_ranks(composite: CompositeModel, given: Mapping[str, Any]) -> None:
    """Raise ConfigError where a member cannot be cut into the ranks that are asked for."""
    if given.get("tensor_parallel_size") is None:
        return
    asked = str(given["tensor_parallel_size"])
    ranks = _whole(asked)
    if ranks is None:
        raise ConfigError(
            f"tensor_parallel_size: got {asked[:_SHOWN]!r}, expected a number of devices"
        )
    for member in dict.fromkeys(view.member for view in composite.views):
        for heads in dict.fromkeys(attention_heads(member.text_config)):
            if (why := uncut(member.label, heads, ranks)) is not None:
                raise ConfigError(f"tensor_parallel_size={asked}: {why}")


def _whole(text: str) -> int | None:
    """Return the number from 1 on that a text is, None where it is none."""
    right = text.isdecimal() and len(text) <= _DIGITS and int(text) > 0
    return int(text) if right else None


def uncut(label: str, heads: Heads, ranks: int) -> str | None:
    """Say why a member cannot be spread over so many ranks; None where it can."""
    if heads.all % ranks == 0 and (heads.shared % ranks == 0 or ranks % heads.shared == 0):
        return None
    return (
        f"{label}: its {heads.all} attention heads ({heads.shared} of keys and values) cannot be "
        f"cut into {ranks} equal ranks"
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
    windows = {one.size for one in layer_windows(config) or ()}
    if len(windows) > 1 and config.model_type in _ONE_WINDOW:
        raise ConfigError(
            f"{member.label}: a {config.model_type} model with sliding windows in some of its "
            "layers, which vLLM does not run: use --model eft"
        )
    if "dynamic" in rope_kinds(config):
        raise ConfigError(
            f"{member.label}: dynamic rotary embeddings, which vLLM computes for the longest row "
            "and transformers for the row at hand: use --model eft"
        )
    kinds = set(getattr(config, "layer_types", None) or ())
    if recurrent := sorted(kinds - {"full_attention", "sliding_attention", "chunked_attention"}):
        raise ConfigError(
            f"{member.label}: layers of kind {', '.join(recurrent)} ({config.model_type}); vLLM "
            "keeps their states apart per model: use --model eft"
        )
