"""Linear layers of few rows on a CPU: the same products, in a shape that the library is quick at.

Decoding multiplies one to some dozen rows by large weights. The library reads the weights for one
row at half the speed of the memory where rows of the weights are short, and for two to four rows
likewise; as a batch of small products, 64 columns each, it reads them about as fast as they come.
The output layer's many columns are quicker in pieces for more rows, too. Which way is taken depends
on shapes alone.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["quicken"]

_COLUMNS = 64  # of one small product
_LARGE = 100_000  # weights, from which on few rows wait for memory
_LONG = 3072  # weights of a column, up to which one row is quicker in small products
_SHORT = 1000  # the same for four rows
_UNTURNED = 4096  # rows times weights of a column, from which on hidden states come first
_WIDE = 8192  # columns, from which on pieces are quicker
_PIECE = 512  # columns of a thread at a time
_MANY = 64  # rows, from which on the library's own way is as quick


def _quick_forward(layer: nn.Linear, hidden: Tensor) -> Tensor:
    """Do what ``nn.Linear.forward`` does."""
    weight, bias = layer.weight, layer.bias
    rows = hidden.numel() // max(hidden.shape[-1], 1)
    way = _way(rows, *weight.shape)
    if way is None or not _fits(hidden, weight):
        return functional.linear(hidden, weight, bias)
    product = way(hidden.reshape(rows, -1), weight)
    if bias is not None:
        product += bias
    return product.view(*hidden.shape[:-1], len(weight))


def _way(rows: int, columns: int, size: int) -> Callable[[Tensor, Tensor], Tensor] | None:
    """Return how hidden states, [rows, size], are multiplied by weights; None: as ever."""
    large = columns * size >= _LARGE
    small_products = (
        (rows == 1 and large and size <= _LONG)
        or rows in (2, 3)
        or (rows == 4 and large and size <= _SHORT)
    )
    if small_products:
        return _in_small_products
    return _in_pieces if columns >= _WIDE and 1 < rows < _MANY else None


def _in_small_products(hidden: Tensor, weight: Tensor) -> Tensor:
    (rows, size), count = hidden.shape, len(weight) // _COLUMNS
    whole = count * _COLUMNS
    parts = weight[:whole].view(count, _COLUMNS, size)
    if 1 < rows < 4 and rows * size >= _UNTURNED:
        found = torch.bmm(hidden.expand(count, rows, size), parts.transpose(1, 2)).transpose(0, 1)
    else:
        found = torch.bmm(parts, hidden.t().expand(count, size, rows)).permute(2, 0, 1)
    product = found.reshape(rows, whole).contiguous()
    if whole == len(weight):
        return product
    return torch.cat([product, functional.linear(hidden, weight[whole:])], dim=-1)


def _in_pieces(hidden: Tensor, weight: Tensor) -> Tensor:
    product = hidden.new_empty(len(hidden), len(weight))
    step = _PIECE * torch.get_num_threads()
    for start in range(0, len(weight), step):
        part = weight[start : start + step]
        torch.mm(hidden, part.t(), out=product[:, start : start + step])
    return product


def _fits(hidden: Tensor, weight: Tensor) -> bool:
    return (
        type(weight) is nn.Parameter  # no packed one
        and weight.is_contiguous()
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
            # a method, as what wraps a layer later on expects it
            layer.forward = MethodType(_quick_forward, layer)  # type: ignore[method-assign]
