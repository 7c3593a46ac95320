"""Linear layers of few rows on a CPU: the same products, in a shape that the library is quick at.

Decoding multiplies one to some dozen rows by large weights. For two or three rows a matrix product
the other way round takes half the time, and the output layer's many columns are quicker in pieces.
Which way is taken depends on shapes alone.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["quicken"]

_FEW = 3  # rows
_WIDE = 8192  # columns, from which on pieces are quicker
_PIECE = 512  # columns of a thread at a time
_TURNED = 4096  # the same, the other way round
_MANY = 64  # rows, from which on the library's own way is as quick


class _QuickLinear:
    """The ``forward`` of a linear layer."""

    def __init__(self, layer: nn.Linear) -> None:
        self._layer = layer

    def __call__(self, hidden: Tensor) -> Tensor:
        weight, bias = self._layer.weight, self._layer.bias
        rows = hidden.numel() // max(hidden.shape[-1], 1)
        columns = weight.shape[0]
        few = 1 < rows <= _FEW
        if not (few or (columns >= _WIDE and 1 < rows < _MANY)) or not _fits(hidden, weight):
            return functional.linear(hidden, weight, bias)
        flat = hidden.reshape(rows, -1)
        product = flat.new_empty(rows, columns)
        step = (_TURNED if few else _PIECE) * torch.get_num_threads()
        for start in range(0, columns, step):
            part, out = weight[start : start + step], product[:, start : start + step]
            if few:
                out.copy_(torch.mm(part, flat.t()).t())
            else:
                torch.mm(flat, part.t(), out=out)
        if bias is not None:
            product += bias
        return product.view(*hidden.shape[:-1], columns)


def _fits(hidden: Tensor, weight: Tensor) -> bool:
    return (
        type(weight) is nn.Parameter  # no packed one
        and hidden.dtype == weight.dtype == torch.float32
        and hidden.device.type == weight.device.type == "cpu"
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
    )


def quicken(model: Any) -> None:
    """Let a model's linear layers choose their way by the number of rows, where they are plain.

    Args:
        model: Of `transformers`; layers that another library runs stay as they are.
    """
    for layer in model.modules():
        if type(layer) is nn.Linear and not {"forward", "_old_forward"} & layer.__dict__.keys():
            layer.forward = _QuickLinear(layer)  # type: ignore[method-assign,assignment]
