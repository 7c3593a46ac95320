"""Copies of a model's modules that share its weights in memory."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor, nn

__all__ = ["shared_copy"]


def shared_copy(model: Any, without: Iterable[nn.Module] = ()) -> Any:
    """Return a copy of a model's modules that holds the very parameters and buffers of the model.

    What a quantised layer keeps beside them (scales, states) is shared too.

    Args:
        model: Of torch.
        without: Modules in whose places something empty comes.
    """
    memo: dict[int, Any] = {id(one): nn.Identity() for one in without}
    for module in model.modules():
        for one in _held(module):
            memo[id(one)] = one
    return copy.deepcopy(model, memo)


def _held(module: nn.Module) -> Iterator[Any]:
    """Yield what of a module's own is or keeps tensors."""
    tensors = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    yield from tensors
    for holder in [module, *tensors]:
        for value in getattr(holder, "__dict__", {}).values():
            inner = getattr(value, "__dict__", {})
            if isinstance(value, Tensor) or (
                not isinstance(value, nn.Module)
                and any(isinstance(part, Tensor) for part in inner.values())
            ):
                yield value
