"""How far a model's attention reaches, and where its positions begin to depend on the batch."""

from __future__ import annotations

import re
from typing import Any, Literal

from torch import nn

from eft_eval.engine.layer_settings import layer_settings
from eft_eval.errors import ConfigError

__all__ = [
    "ATTENDS",
    "attention_reach",
    "check_positions",
    "counts_by_token",
    "longest_row",
    "positions_of",
    "rope_kinds",
    "same_scale_until",
]

ATTENDS: dict[str, Literal["sliding_window", "attention_chunk_size"] | None] = {
    "full_attention": None,
    "sliding_attention": "sliding_window",
    "chunked_attention": "attention_chunk_size",
}
"""Kinds of layers with attention, and the setting that says how far they see; None: all."""

_TABLE = re.compile(r"(^|\.)(wpe|embed_positions|position_embeddings?|positions_embed)$")
"""Learned embeddings of positions, as models of transformers call them (GPT-2, OPT, …)."""

_BATCH_WIDE = ("longrope", "dynamic")  # factors chosen by the longest row of a batch


def attention_reach(text: Any) -> int | None:
    """Return the tokens that every layer sees back, None for all; 0 for layers of another kind.

    Args:
        text: A language model's configuration.
    """
    layers = layer_settings(text)
    kinds = list(getattr(text, "layer_types", None) or ())[: len(layers)]
    reach = [_reach_of(kind, layer) for kind, layer in zip(kinds, layers, strict=False)]
    if not kinds:
        slides = "sliding_attention" if getattr(text, "use_sliding_window", True) else None
        reach += [
            _reach_of(kind, layer)
            for layer in layers
            for kind in (slides, "chunked_attention")
            if kind is not None
        ]
    if "local" in (getattr(text, "attention_layers", None) or ()):  # GPT-Neo
        reach.append(getattr(text, "window_size", None))
    return min((limit for limit in reach if limit is not None), default=None)


def _reach_of(kind: str, layer: Any) -> int | None:
    """Return the tokens that a layer of this kind sees back, None for all, 0 if not known."""
    if kind not in ATTENDS:
        return 0
    name = ATTENDS[kind]
    limit: int | None = getattr(layer, name, None) if name else None
    return limit


_BY_TOKEN = {
    "full_attention", "sliding_attention", "chunked_attention", "linear_attention", "conv",
    "hybrid", "hybrid_sliding", "moe", "mlp", "attention", "mamba", "recurrent", "sparse", "dense",
}  # fmt: skip


def counts_by_token(text: Any) -> bool:
    """Whether padding on the left moves nothing; else blocks of places hold other tokens.

    Layers that compress or choose blocks of tokens (DeepSeek-V4, MiniMax-M3) may be found out only
    by sequences longer than a trial's.
    """
    by_block = getattr(text, "block_size", None) is not None  # MiniMax's lightning attention
    return not by_block and set(getattr(text, "layer_types", None) or ()) <= _BY_TOKEN


def same_scale_until(text: Any) -> int | None:
    """Return the tokens from which on queries are scaled by the cache's length; None: never.

    Llama 4 takes that length for the position, which is right where all rows are equally long.
    """
    if not getattr(text, "attn_temperature_tuning", False):
        return None
    limit = getattr(text, "floor_scale", None)
    return None if limit is None else int(limit) - 1


def check_positions(text: Any, label: str, length: int) -> None:
    """Raise ConfigError where a row of ``length`` tokens would change its neighbours.

    Some rotary embeddings take other factors once any row of a batch is long; results would then
    depend on the batch, and change within a response.

    Args:
        text: A language model's configuration.
        label: What errors call it.
        length: Tokens of the longest row.
    """
    for limit, kind in _limits(text):
        if length > limit:
            raise ConfigError(
                f"{label}: with {kind} positions, sequences of more than "
                f"{limit} tokens change the others of their batch, and {length} may come; lower "
                f"max_gen_toks, or give max_length={limit}"
            )


def positions_of(model: nn.Module) -> int | None:
    """Return the positions that a model has learned embeddings for; None where it has no such."""
    found = [
        one.num_embeddings - int(getattr(one, "offset", 0))  # OPT's table begins with two others
        for name, one in model.named_modules()
        if isinstance(one, nn.Embedding) and _TABLE.search(name)
    ]
    return min(found, default=None)


def longest_row(text: Any) -> int | None:
    """Return the most tokens of a row that `check_positions` accepts; None: any number.

    Args:
        text: A language model's configuration.
    """
    return min((limit for limit, _ in _limits(text)), default=None)


def _limits(text: Any) -> list[tuple[int, str]]:
    """Return the tokens beyond which rotary embeddings take other factors, and their kinds."""
    own = getattr(text, "original_max_position_embeddings", None)
    return [
        (
            rope.get("original_max_position_embeddings") or own or text.max_position_embeddings,
            rope["rope_type"],
        )
        for rope in _rope_settings(text)
        if rope.get("rope_type") in _BATCH_WIDE
    ]


def rope_kinds(text: Any) -> set[str]:
    """Return the kinds of a language model's rotary embeddings, as its configuration names them."""
    kinds = (rope.get("rope_type") or rope.get("type") for rope in _rope_settings(text))
    return {kind for kind in kinds if kind is not None}


def _rope_settings(text: Any) -> list[dict[str, Any]]:
    settings = getattr(text, "rope_parameters", None) or getattr(text, "rope_scaling", None) or {}
    nested = [one for one in settings.values() if isinstance(one, dict)]
    return nested or [settings]
