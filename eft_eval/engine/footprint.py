"""What a model needs of memory, from its configuration alone."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import torch

from eft_eval.engine.cache import GROWTH
from eft_eval.engine.loading import Member
from eft_eval.engine.wrappers import loader_of
from eft_eval.recipe import bytes_per_weight

__all__ = ["cache_bytes", "parameter_count", "weight_bytes"]

_COUNTS: WeakKeyDictionary[Member, int] = WeakKeyDictionary()


def parameter_count(member: Member) -> int:
    """Return a member's number of parameters, from its shapes alone; 0 where nobody can say."""
    if member not in _COUNTS:
        _COUNTS[member] = _counted(member)
    return _COUNTS[member]


def _counted(member: Member) -> int:
    try:
        with torch.device("meta"):
            model: Any = loader_of(member.config, member.label).from_config(member.config)
    except Exception:  # noqa: BLE001  # code of the checkpoint's own, say: loading will tell
        return 0
    return int(model.num_parameters())


def weight_bytes(member: Member) -> int:
    """Return the bytes of a member's weights, from its shapes alone; 0 once they are loaded."""
    if member.loaded:
        return 0
    if member.own_bytes is not None:
        return member.own_bytes
    return int(parameter_count(member) * bytes_per_weight(member.spec, member.dtype))


def cache_bytes(member: Member, rows: int, length: int) -> int:
    """Return the bytes of a member's key-value cache."""
    text = member.text_config
    if getattr(text, "num_attention_heads", None) is None:
        return 0  # no attention, no such cache
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    width = torch.empty(0, dtype=member.dtype).element_size()
    steps = -(-length // GROWTH) * GROWTH
    return int(2 * text.num_hidden_layers * heads * size * rows * steps * width)
