"""What a member asks of a machine, from its configuration alone: nothing is loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from typing import Any

import torch

from eft_eval.composite.model import View, views_of
from eft_eval.engine.adapters import AdaptedMember, read_adapter
from eft_eval.engine.cache import HORIZON
from eft_eval.engine.footprint import (
    Heads,
    attention_heads,
    token_bytes,
    weight_bytes,
    weight_counts,
)
from eft_eval.engine.layer_settings import common, largest
from eft_eval.engine.loading import LoadOptions, Member, config_of
from eft_eval.engine.members import load_members
from eft_eval.errors import ConfigError
from eft_eval.files import user_path
from eft_eval.recipe import Recipe, bytes_per_weight
from eft_eval.recipe.adapters import AdapterFolder

__all__ = ["PlannedComposite", "PlannedMember", "Work", "planned_composite", "work_of"]


@cache
def _known_configs() -> Mapping[str, Mapping[str, Any]]:
    text = resources.files(__package__).joinpath("configs.json").read_text("utf-8")
    known: Mapping[str, Mapping[str, Any]] = json.loads(text)
    return known


class PlannedMember(Member):
    """A member that is not going to be loaded here.

    The configurations of the named recipes' models are at hand, so that nobody is asked for them;
    devices, and packages that quantised weights need, may be on another machine.
    """

    def _load_config(self) -> Any:
        known = _known_configs().get(self.spec.model)
        if known is None or self.spec.revision is not None:
            return super()._load_config()
        return config_of(known)

    def _check_machine(self) -> None:
        pass

    @cached_property
    def tokenizer(self) -> Any:
        """The member's own tokenizer, if it is on this machine."""
        return self._tokenizer_of(self.spec.location, {**self._source, "local_files_only": True})

    @property
    def max_length(self) -> int | None:
        """Tokens that the configuration says the model can read; None where it does not."""
        for name in ("n_positions", "max_position_embeddings", "n_ctx"):
            if (limit := getattr(self.text_config, name, None)) is not None:
                return int(limit)
        return None


@dataclass(frozen=True)
class PlannedComposite:
    """What a recipe sums, without tokenizers and weights.

    Attributes:
        recipe: What it is made of.
        members: The member of every role.
        views: What is summed.
    """

    recipe: Recipe
    members: Mapping[str, Member]
    views: tuple[View, ...]

    @property
    def tuned(self) -> Member:
        """The first delta's tuned member."""
        return self.members.get("tuned") or self.members["tuned1"]

    @property
    def vocabulary(self) -> int:
        """Number of tokens that are scored, at most."""
        return min(view.member.vocabulary_size for view in self.views)

    @property
    def max_length(self) -> int | None:
        """Tokens that the shortest member can read; None where none says."""
        limits = [view.member.max_length for view in self.views]
        return min((limit for limit in limits if limit is not None), default=None)

    @property
    def distinct(self) -> tuple[Member, ...]:
        """The members that are summed, each once."""
        return tuple(dict.fromkeys(view.member for view in self.views))


def planned_composite(recipe: Recipe) -> PlannedComposite:
    """Return a recipe's composite, of which only configurations are read.

    Raises:
        ConfigError: A configuration cannot be read, or its weights cannot be counted.
    """
    members = load_members(recipe, LoadOptions(), PlannedMember, _read_adapter)
    found = PlannedComposite(recipe, members, views_of(recipe, members))
    for member in found.distinct:
        if not weight_counts(member).total:
            raise ConfigError(
                f"{member.label}: its parameters cannot be counted from its configuration "
                f"({member.config.model_type}): transformers does not build it"
            )
    return found


def _read_adapter(model: str, revision: str | None) -> AdapterFolder | None:
    return None if model in _known_configs() else read_adapter(model, revision)


@dataclass(frozen=True)
class Work:
    """What one member holds, and what one pass of it reads and computes.

    Attributes:
        label: What it is called.
        weights: Bytes of its weights, of an adapter its own.
        read: Bytes that a pass reads whatever it is over, without a router's experts.
        experts: Bytes of all experts, of which a pass reads those that its tokens choose.
        chosen: Share of the experts that one token chooses.
        cache: Bytes of keys and values per token, without layers of sliding windows.
        windows: Bytes per token of the layers of sliding windows, with the window's tokens.
        operations: Floating-point operations per token, without attention.
        attention: The same per token and token of context.
        layers: Number of layers.
        heads: Attention heads of a layer.
        hidden: Numbers that a token has between layers.
        widest: Numbers that a token has in its widest layer, about.
        head: Bytes of the output layer.
    """

    label: str
    weights: int
    read: float
    experts: float
    chosen: float
    cache: float
    windows: tuple[float, int]
    operations: float
    attention: float
    layers: int
    heads: Heads
    hidden: int
    widest: int
    head: int

    def bytes_read(self, tokens: float) -> float:
        """Return the bytes of weights that a pass over so many tokens reads."""
        unread: float = (1 - self.chosen) ** max(tokens, 1)
        return self.read + self.experts * (1 - unread)

    def cache_of(self, length: float, *, drops: bool = True) -> float:
        """Return the bytes of keys and values of a row of so many tokens.

        Args:
            length: Tokens.
            drops: Whether layers of sliding windows keep only what these see.
        """
        per_token, window = self.windows
        return self.cache * length + per_token * (min(length, window) if drops else length)


def work_of(member: Member, engine: str) -> Work:
    """Return what a member asks for in one of the engines, ``eft`` or ``eft-vllm``."""
    whole = member.base if isinstance(member, AdaptedMember) else member
    text = whole.text_config
    counts = weight_counts(whole)
    size = _stored_bytes(whole)
    width = size / counts.total
    adapter = (member.own_bytes or 0) if isinstance(member, AdaptedMember) else 0
    top = largest(text, "num_experts_per_tok") or largest(text, "top_k_experts")
    experts = next(
        (
            value
            for name in ("num_local_experts", "num_experts", "n_routed_experts")
            if (value := largest(text, name))
        ),
        None,
    )
    chosen = top / experts if counts.experts and top and experts else 1.0
    passed = counts.total - counts.embeddings - counts.experts * (1 - chosen)
    heads = attention_heads(text)
    full, windowed = _cache(whole, engine)
    return Work(
        label=member.label,
        weights=adapter if isinstance(member, AdaptedMember) else size,
        read=(counts.total - counts.embeddings - counts.experts) * width + adapter,
        experts=counts.experts * width,
        chosen=chosen,
        cache=full,
        windows=windowed,
        operations=2.0 * passed,
        attention=4.0 * sum(one.all * one.size for one in heads),
        layers=int(text.num_hidden_layers),
        heads=max(heads, key=lambda one: one.all * one.size),
        hidden=int(text.hidden_size),
        widest=int(2 * (largest(text, "intermediate_size") or 4 * text.hidden_size))
        + 4 * int(text.hidden_size),
        head=int(whole.vocabulary_size * text.hidden_size * bytes_per_number(whole.dtype)),
    )


def bytes_per_number(dtype: torch.dtype) -> int:
    """Return the bytes of one number of a type."""
    return torch.empty(0, dtype=dtype).element_size()


def _cache(member: Member, engine: str) -> tuple[float, tuple[float, int]]:
    """Return the cache's bytes per token: of whole layers, and of those with windows."""
    text = member.text_config
    if engine == "eft":
        by_window = token_bytes(member)
        limited = {size: kept for size, kept in by_window.items() if size is not None}
        kept = min(limited, default=0)
        kept += HORIZON if limited else 0
        return float(by_window.get(None, 0)), (float(sum(limited.values())), kept)
    width = bytes_per_number(member.dtype)
    each = [2.0 * one.shared * one.size * width for one in attention_heads(text)]
    if latent := getattr(text, "kv_lora_rank", None):  # one latent vector for keys and values
        numbers = latent + (getattr(text, "qk_rope_head_dim", None) or 0)
        each = [float(numbers * width)] * len(each)
    kinds = getattr(text, "layer_types", None) or ()
    if not kinds and getattr(text, "use_sliding_window", True):
        kinds = ["sliding_attention"] * len(each)
    window = int(common(text, "sliding_window") or 0)
    sliding = sum(
        one
        for one, kind in zip(each, kinds, strict=False)
        if window and kind == "sliding_attention"
    )
    return sum(each) - sliding, (float(sliding), window)


def _stored_bytes(member: Member) -> int:
    """Return the bytes of a whole model's weights: of its files, where they are quantised."""
    declared = getattr(member.config, "quantization_config", None)
    counts = weight_counts(member)
    if member.spec.quantization is not None:  # bitsandbytes leaves the tables as they are
        width = bytes_per_number(torch.bfloat16)
        small = counts.total - _tables(member)
        return int(small * bytes_per_weight(member.spec, None) + _tables(member) * width)
    if declared is None or member.spec.gguf_file is not None:
        return weight_bytes(member)
    files = [*user_path(member.spec.location).glob("*.safetensors")]
    if files:
        return sum(file.stat().st_size for file in files)
    settings = declared if isinstance(declared, dict) else declared.to_dict()
    bits = _bits(settings)
    if bits is None:
        return weight_bytes(member)
    width = bytes_per_number(member.dtype)
    return int((counts.total - _tables(member)) * bits / 8 + _tables(member) * width)


def _tables(member: Member) -> int:
    """Return the parameters of embeddings and head."""
    text = member.text_config
    times = 1 if getattr(text, "tie_word_embeddings", False) else 2
    return int(times * member.vocabulary_size * text.hidden_size)


def _bits(settings: Mapping[str, Any]) -> float | None:
    """Return the bits of a weight, with those of its group's scale, of a quantised checkpoint."""
    method = str(settings.get("quant_method") or "").lower()
    if settings.get("load_in_4bit") or "mxfp4" in method:
        return 4.5 if "mxfp4" not in method else 4.25
    if settings.get("load_in_8bit") or "fp8" in method or method == "fbgemm_fp8":
        return 8.0
    groups = settings.get("config_groups") or {}
    found = settings.get("bits") or settings.get("w_bit")
    group = settings.get("group_size") or settings.get("q_group_size")
    for one in groups.values() if isinstance(groups, Mapping) else ():
        weights = one.get("weights") or {}
        found, group = found or weights.get("num_bits"), group or weights.get("group_size")
    if not isinstance(found, (int, float)):
        return None
    size = group if isinstance(group, int) and group > 0 else 0
    return float(found) + ((16 + found) / size if size else 0.0)
