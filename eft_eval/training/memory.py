"""Says in one line that memory is used up, on a GPU or on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from eft_eval.errors import ConfigError

__all__ = ["enough_memory"]

_SAID = ("DefaultCPUAllocator", "out of memory", "not enough memory", "_STATUS_ALLOC_FAILED")


@contextmanager
def enough_memory(advice: Callable[[], str]) -> Iterator[None]:
    """Turn what libraries raise where memory is used up into a `ConfigError`.

    Args:
        advice: Says what was kept and what to do; called where it is needed.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch raises the second, of the CPU
        if not _is_of_memory(error):
            raise
        raise ConfigError(advice()) from error


def _is_of_memory(error: Exception) -> bool:
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return any(words in str(error) for words in _SAID)
