"""What a model needs of memory, from its configuration alone."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from transformers import DynamicCache

from eft_eval.engine.cache import GROWTH, HORIZON
from eft_eval.engine.layer_settings import common, layer_settings
from eft_eval.engine.loading import Member
from eft_eval.engine.passes import Passes
from eft_eval.engine.positions import attention_reach
from eft_eval.engine.windows import ALL, NO_ATTENTION, layer_windows, recurrent_windows
from eft_eval.engine.wrappers import loader_of
from eft_eval.recipe import bytes_per_weight

__all__ = [
    "Heads",
    "WeightCounts",
    "attention_heads",
    "cache_bytes",
    "parameter_count",
    "state_bytes",
    "token_bytes",
    "weight_bytes",
    "weight_counts",
]

_COUNTS: WeakKeyDictionary[Member, WeightCounts] = WeakKeyDictionary()
_SAME: dict[tuple[type, str], WeightCounts] = {}  # members of equal configurations

_LATENT: dict[tuple[type, str], int] = {}
_STATES: dict[tuple[type, str, torch.dtype], int] = {}


class Heads(NamedTuple):
    """A layer's attention heads; zeros without attention.

    Attributes:
        all: Their number.
        shared: The number of those of keys and values.
        size: Numbers in one.
    """

    all: int
    shared: int
    size: int


def attention_heads(text: Any) -> list[Heads]:
    """Return the attention heads of every layer by a language model's configuration."""
    return [_heads(layer) for layer in layer_settings(text)]


def _heads(text: Any) -> Heads:
    heads = getattr(text, "num_attention_heads", None)
    if heads is None:
        return Heads(0, 0, 0)
    shared = getattr(text, "num_key_value_heads", None)
    if getattr(text, "new_decoder_architecture", False):
        shared = text.num_kv_heads
    elif getattr(text, "multi_query", False) or getattr(text, "kv_lora_rank", None):
        shared = 1
    size = getattr(text, "head_dim", None) or text.hidden_size // heads
    return Heads(int(heads), int(shared or heads), int(size))


class WeightCounts(NamedTuple):
    """A model's parameters, by what a pass reads of them.

    Attributes:
        total: All of them; 0 where nobody can say.
        embeddings: Of the table that tokens are looked up in, where it is not the head's as well.
        experts: Of the experts that a router chooses from.
    """

    total: int = 0
    embeddings: int = 0
    experts: int = 0


def parameter_count(member: Member) -> int:
    """Return a member's number of parameters, from its shapes alone; 0 where nobody can say."""
    return weight_counts(member).total


def weight_counts(member: Member) -> WeightCounts:
    """Return what a member's weights are, from its shapes alone."""
    if member not in _COUNTS:
        key = type(member.config), member.config.to_json_string()
        if key not in _SAME:
            _SAME[key] = _counted(member)
        _COUNTS[member] = _SAME[key]
    return _COUNTS[member]


def _counted(member: Member) -> WeightCounts:
    try:
        with torch.device("meta"):
            model: Any = loader_of(member.config, member.label).from_config(member.config)
    except Exception:  # noqa: BLE001  # code of the checkpoint's own, say: loading will tell
        return WeightCounts()
    table, head = model.get_input_embeddings(), model.get_output_embeddings()
    tied = head is None or table is None or head.weight is table.weight
    experts = (one.numel() for name, one in model.named_parameters() if ".experts." in name)
    return WeightCounts(
        int(model.num_parameters()), 0 if tied else int(table.weight.numel()), sum(experts)
    )


def weight_bytes(member: Member) -> int:
    """Return the bytes of a member's weights, from its shapes alone; 0 once they are loaded."""
    if member.loaded:
        return 0
    if member.own_bytes is not None:
        return member.own_bytes
    return int(parameter_count(member) * bytes_per_weight(member.spec, member.dtype))


def cache_bytes(member: Member, rows: int, length: int) -> int:
    """Return the bytes of a member's key-value cache.

    Rounds of fixed shapes, which a CUDA device has, drop nothing that lies out of a window.
    """
    drops = member.device.type != "cuda"
    steps = -(-length // GROWTH) * GROWTH
    return rows * sum(
        per_token * (min(steps, window + HORIZON) if window and drops else steps)
        for window, per_token in token_bytes(member).items()
    )


def token_bytes(member: Member) -> dict[int | None, int]:
    """Return the bytes that attention layers keep of a token, by their windows; None: all tokens.

    Layers without attention keep none.
    """
    text, found = member.text_config, Counter[int | None]()
    layers = layer_settings(text)
    width = torch.empty(0, dtype=member.dtype).element_size()
    windows = [one.size for one in layer_windows(text) or (ALL,) * len(layers)]
    kinds = list(getattr(text, "layer_types", None) or ())[: len(layers)]
    recurs = layer_windows(text) is None and recurrent_windows(text) is not None
    own = len(layers) - (common(text, "num_kv_shared_layers") or 0)  # the others read these
    for number, (layer, window) in enumerate(zip(layers[:own], windows, strict=False)):
        attends = getattr(layer, "num_attention_heads", None) is not None
        if attends and not (recurs and kinds[number] in NO_ATTENTION):
            found[window] += _cached_numbers(member, layer) * width  # beside a state: of all tokens
    return dict(found)


def state_bytes(member: Member) -> int:
    """Return the bytes of the states that recurrent layers keep of a row; 0 without such layers.

    The model is asked, on no device; 0 where that cannot be.
    """
    if attention_reach(member.text_config) != 0:
        return 0
    key = type(member.config), member.config.to_json_string(), member.dtype
    if key not in _STATES:
        _STATES[key] = _kept_states(member)
    return _STATES[key]


def _kept_states(member: Member) -> int:
    cache: Any = DynamicCache(config=member.config)
    try:
        with torch.device("meta"), torch.inference_mode():
            model: Any = loader_of(member.config, member.label).from_config(
                member.config, dtype=member.dtype
            )
            one = torch.zeros(1, 1, dtype=torch.long)
            passes = Passes(model.eval(), torch.device("meta"), member.label)
            passes.row_pass(one, None, one, cache, 1)
    except Exception:  # noqa: BLE001  # of any model's code: what was kept before it counts
        pass
    return sum(
        state.numel() * state.element_size()
        for layer in cache.layers
        for name in ("conv_states", "recurrent_states")
        for state in dict(getattr(layer, name, None) or {}).values()
        if state is not None
    )


def _cached_numbers(member: Member, text: Any) -> int:
    """Return how many numbers an attention layer of these settings keeps of a token."""
    if getattr(text, "kv_lora_rank", None):
        key = type(member.config), member.config.to_json_string()
        if key not in _LATENT:
            _LATENT[key] = _latent_numbers(member, text)
        return _LATENT[key]
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    if getattr(text, "multi_query", False) and not getattr(text, "new_decoder_architecture", False):
        heads = 1  # of Falcon and GPT-BigCode; newer Falcons keep a copy for every head
    size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return int(2 * heads * size)


def _latent_numbers(member: Member, text: Any) -> int:
    """Return what latent attention keeps, which transformers unpacks or not, by its version.

    Its first layer is asked, on no device; where that cannot be, it is an upper bound.
    """
    key = (getattr(text, "qk_nope_head_dim", None) or 0) + (text.qk_rope_head_dim or 0)
    unpacked = int(text.num_attention_heads * (key + text.v_head_dim))
    config = copy.deepcopy(member.config)
    config.get_text_config(decoder=True).num_hidden_layers = 1
    cache: Any = DynamicCache()
    try:
        with torch.device("meta"), torch.inference_mode():
            model: Any = loader_of(config, member.label).from_config(config)
            one = torch.zeros(1, 1, dtype=torch.long)
            passes = Passes(model.eval(), torch.device("meta"), member.label)
            passes.row_pass(one, None, one, cache, 1)
    except Exception:  # noqa: BLE001  # of any model's code: what was kept before it counts
        pass
    kept = [layer for layer in cache.layers if getattr(layer, "keys", None) is not None]
    if not kept:
        return unpacked
    return sum(int(one.shape[1] * one.shape[3]) for one in (kept[0].keys, kept[0].values))
