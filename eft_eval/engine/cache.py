"""A key-value cache with a length per row: rows join, leave and take tokens back one by one.

Knows tensors and positions, nothing about composites or sampling. A row's entries beyond its
length are rubbish that the attention mask hides, so taking tokens back is a smaller length.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from eft_eval.engine.windows import Window

__all__ = ["GROWTH", "RowCache", "RowLayer", "Span", "to_device"]

GROWTH = 128  # positions; growing copies, so it is done in steps


def to_device(values: Sequence[int], device: torch.device) -> Tensor:
    """Return numbers on a device; the host does not wait for a GPU's work."""
    tensor = torch.tensor(values, dtype=torch.long)
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


class Span:
    """Where the tokens of one pass go: some rows, each from its own position on."""

    def __init__(self, rows: Sequence[int], starts: Sequence[int], width: int) -> None:
        self._numbers = rows
        self.together = slice(rows.start, rows.stop) if isinstance(rows, range) else None
        self.width = width
        self.visible = max(starts) + width
        self._earliest = min(starts)
        self.common_start = starts[0] if len(set(starts)) == 1 else None
        self._starts = starts
        self._index: dict[torch.device, tuple[Tensor, Tensor]] = {}

    def index(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return row numbers, [rows, 1], and positions, [rows, width]."""
        if device not in self._index:  # layers may lie on several devices
            starts = to_device(self._starts, device)[:, None]
            numbers = to_device(self._numbers, device)[:, None]
            self._index[device] = numbers, starts + torch.arange(self.width, device=device)
        return self._index[device]

    def seen(self, window: Window) -> slice:
        """Return the cached positions that some token of the pass sees."""
        return slice(window.first(self._earliest), self.visible)

    def mask(self, window: Window, device: torch.device) -> Tensor | None:
        """Return which of the `seen` positions each token sees, [rows, 1, width, seen].

        None where the model's own causal mask is right, which is quicker.
        """
        if self.common_start is not None and (self.width == 1 or self.common_start == 0):
            return None
        seen = self.seen(window)
        cached = torch.arange(seen.start, seen.stop, device=device)
        return window.mask(cached, self.index(device)[1][:, None, :, None])


class RowLayer(CacheLayerMixin):  # type: ignore[misc]  # transformers has no types here
    """One attention layer's keys and values, [rows, heads, positions, size]."""

    def __init__(self, cache: RowCache, window: Window) -> None:
        super().__init__()
        self._cache, self._window = cache, window
        self.is_sliding = window.size is not None

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.dtype, self.device = key_states.dtype, key_states.device
        self.keys, self.values = self._room(key_states), self._room(value_states)
        self.is_initialized = True

    def _room(self, like: Tensor) -> Tensor:
        _, heads, _, size = like.shape
        # zeros: a hidden position has weight 0, and 0 * NaN of fresh memory would be NaN
        return like.new_zeros(self._cache.rows, heads, self._cache.capacity, size)

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write the pass's tokens and return those that some of them see."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        span = self._cache.span
        assert span is not None
        for store, new in ((self.keys, key_states), (self.values, value_states)):
            if span.common_start is not None and span.together is not None:
                end = span.common_start + span.width
                store[span.together, :, span.common_start : end] = new
            else:
                rows, positions = span.index(store.device)
                store[rows, :, positions] = new.transpose(1, 2)
        seen = span.seen(self._window)
        of = span.together or span.index(self.keys.device)[0][:, 0]
        return self.keys[of, :, seen], self.values[of, :, seen]

    def resize(self) -> None:
        """Follow the cache's new capacity."""
        if self.is_initialized:
            for name in ("keys", "values"):
                old = getattr(self, name)
                new = self._room(old)
                new[:, :, : old.shape[2]] = old
                setattr(self, name, new)

    def copy_row(self, source: int, target: int, length: int) -> None:
        """Copy a row's first ``length`` positions to another row."""
        if self.is_initialized:
            self.keys[target, :, :length] = self.keys[source, :, :length]
            self.values[target, :, :length] = self.values[source, :, :length]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        if self._cache.span is None:
            return query_length, 0
        seen = self._cache.span.seen(self._window)
        return seen.stop - seen.start, seen.start

    def get_seq_length(self) -> int:
        return self._cache.span.visible - self._cache.span.width if self._cache.span else 0

    def get_max_length(self) -> int:
        return -1


class RowCache(Cache):  # type: ignore[misc]  # transformers has no types here
    """The cache of one model over a batch of rows, for `transformers` models.

    Args:
        windows: What each of the model's attention layers sees.
        rows: Most rows at a time.

    Attributes:
        capacity: Positions that there is room for; grows as needed.
    """

    def __init__(self, windows: Sequence[Window], rows: int) -> None:
        self.rows, self.capacity = rows, 0
        self.span: Span | None = None
        super().__init__(layers=[RowLayer(self, window) for window in windows])

    def place(self, rows: Sequence[int], starts: Sequence[int], width: int) -> Span:
        """Say where the next pass writes.

        Args:
            rows: Those of the pass; a range is quicker.
            starts: Per row of the pass, the number of tokens that it keeps so far.
            width: Tokens per row in the pass.
        """
        needed = max(starts) + width
        if needed > self.capacity:
            self.capacity = -(-needed // GROWTH) * GROWTH
            for layer in self.layers:
                if isinstance(layer, RowLayer):
                    layer.resize()
        self.span = Span(rows, starts, width)
        return self.span

    def copy_row(self, source: int, target: int, length: int) -> None:
        """Copy a row's first ``length`` positions to another row, in every layer."""
        for layer in self.layers:
            if isinstance(layer, RowLayer):
                layer.copy_row(source, target, length)
