"""The gguf package's reader, quicker: several libraries read the same metadata of one file."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

__all__ = ["quick_reader"]


@contextmanager
def quick_reader() -> Iterator[None]:
    """Let whoever reads a GGUF file meanwhile use a reader that makes no memory map per value.

    A vocabulary is some hundred thousand values; transformers reads it for the configuration, the
    tokenizer and the weights.
    """
    import gguf

    theirs = gguf.GGUFReader
    gguf.GGUFReader = _quick(theirs)
    try:
        yield
    finally:
        gguf.GGUFReader = theirs


def _quick(reader: Any) -> Any:
    """Return a kind of reader whose values are plain arrays over the file's memory."""

    class QuickReader(reader):  # type: ignore[misc]  # as it is at run time
        def _get(
            self, offset: int, dtype: Any, count: int = 1, override_order: str | None = None
        ) -> Any:
            order = override_order or self.byte_order
            count = int(count)
            end = int(offset) + np.dtype(dtype).itemsize * count
            own = order == "I" or order == {"little": "<", "big": ">"}[sys.byteorder]
            if not own or count < 1 or end > len(self.data):
                return super()._get(offset, dtype, count, override_order)
            return np.frombuffer(self.data, dtype, count, int(offset))

    return QuickReader
