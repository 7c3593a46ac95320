"""The output layer in float32: logits of a half-precision model that are not rounded once more.

Half precision rounds logits to steps of 0.06 to 0.25, so that best tokens tie. Hidden state and
weights stay what they are; their products are summed, and left, in float32.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from eft_eval.errors import ConfigError
from eft_eval.recipe.model import HeadDtype

__all__ = ["WideHead", "set_head_dtype"]

_HALF = (torch.bfloat16, torch.float16)
_PIECE = {"cpu": 1 << 20}  # weights that are widened at a time: what a core's cache holds
_ELSEWHERE = 1 << 26


class WideHead:
    """The ``forward`` of a linear layer, in float32, also under autocast.

    Args:
        layer: Whose weights and bias are used, whatever their type.

    Attributes:
        used: Whether its model calls the layer at all.
    """

    def __init__(self, layer: nn.Linear) -> None:
        self._layer = layer
        self.used = False

    def __call__(self, hidden: Tensor) -> Tensor:
        """Return the logits of hidden states, [..., V], float32."""
        self.used = True
        weight, bias = self._layer.weight, self._layer.bias
        with torch.no_grad(), torch.autocast(hidden.device.type, enabled=False):
            flat = hidden.reshape(-1, hidden.shape[-1])
            logits = _product(flat, weight).view(*hidden.shape[:-1], len(weight))
            return logits if bias is None else logits + bias.float()


def set_head_dtype(model: Any, asked: HeadDtype, label: str) -> WideHead | None:
    """Let a model compute its logits in float32, or in its own type.

    Args:
        model: Of `transformers`; another setting of before is undone.
        asked: As `eft_eval.recipe.MemberSpec.head_dtype`.
        label: What errors call it.

    Returns:
        The output layer's way in float32, None where it stays in the model's type.

    Raises:
        ConfigError: float32 was asked for, and the output layer is nothing that can be widened.
    """
    layer = _output_layer(model)
    # accelerate calls what it found as `forward` under this name
    name = "_old_forward" if hasattr(layer, "_old_forward") else "forward"
    own = getattr(layer, "__dict__", {})
    if isinstance(own.get(name), WideHead):
        if name == "forward":
            del layer.forward
        else:
            layer._old_forward = type(layer).forward.__get__(layer)
    if asked == "model":
        return None
    fits = (
        isinstance(layer, nn.Linear)
        and layer.weight.dtype in (*_HALF, torch.float32)
        and type(layer).forward is nn.Linear.forward
    )
    if not fits:
        raise ConfigError(
            f"{label}: head_dtype=float32: its output layer ({_described(layer)}) cannot be "
            "computed in float32: leave head_dtype out"
        )
    wide = WideHead(layer)
    setattr(layer, name, wide)
    return wide


def _output_layer(model: Any) -> Any:
    """Return the layer that makes logits, without what an adapter wraps around it."""
    layer = model.get_output_embeddings()
    while layer is not None:
        if hasattr(layer, "modules_to_save"):  # peft: a layer that the adapter brings whole
            layer = next(iter(layer.modules_to_save.values()), None)
        elif hasattr(layer, "base_layer"):
            layer = layer.base_layer
        else:
            return layer
    return None


def _described(layer: Any) -> str:
    if layer is None:
        return "none that transformers knows"
    weight = getattr(layer, "weight", None)
    kind = f" of {str(weight.dtype).removeprefix('torch.')}" if isinstance(weight, Tensor) else ""
    return f"{type(layer).__name__}{kind}"


def _product(hidden: Tensor, weight: Tensor) -> Tensor:
    """Return hidden states times weights, [rows, V], summed and kept in float32."""
    if weight.dtype == torch.float32:
        return functional.linear(hidden.float(), weight)
    if hidden.dtype == weight.dtype and _multiplies_into_float32(weight.device, weight.dtype):
        return torch.mm(hidden, weight.t(), out_dtype=torch.float32)
    wide = hidden.float()
    step = max(_PIECE.get(weight.device.type, _ELSEWHERE) // weight.shape[1], 1)
    logits = wide.new_empty(len(wide), len(weight))
    piece = wide.new_empty(min(step, len(weight)), weight.shape[1])
    for start in range(0, len(weight), step):
        part = weight[start : start + step]
        widened = piece[: len(part)].copy_(part)
        torch.mm(wide, widened.t(), out=logits[:, start : start + step])
    return logits


@lru_cache(maxsize=8)
def _multiplies_into_float32(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether torch multiplies half-precision matrices into float32 on a device."""
    try:
        one = torch.ones(16, 16, dtype=dtype, device=device)
        return torch.mm(one, one, out_dtype=torch.float32).dtype == torch.float32
    except (TypeError, RuntimeError, NotImplementedError):
        return False
