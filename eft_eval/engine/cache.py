"""A key-value cache with a length per row: rows join, leave and take tokens back one by one.

Knows tensors and positions, nothing about composites or sampling. A row's entries beyond its
length are rubbish that the attention mask hides, so taking tokens back is a smaller length. A layer
with a window keeps what its tokens still see, and may see after tokens were taken back: its places
are used in turn.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from eft_eval.engine.windows import Window

__all__ = ["GROWTH", "HORIZON", "RowCache", "RowLayer", "Span", "to_device"]

GROWTH = 128  # positions; growing copies, so it is done in steps
HORIZON = 128  # tokens that a row can take back


def to_device(values: Sequence[int], device: torch.device) -> Tensor:
    """Return numbers on a device; the host does not wait for a GPU's work."""
    tensor = torch.tensor(values, dtype=torch.long)
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


class Span:
    """Where the tokens of one pass go: some rows, each from its own position on.

    Args:
        rows: Those of the pass; a range is quicker.
        starts: Per row, the number of tokens that it keeps so far.
        width: Tokens per row in the pass.
        horizon: Tokens that layers with windows keep beyond these.
        ends: Where the rows' own tokens end, if not all are of one length.
    """

    def __init__(
        self,
        rows: Sequence[int],
        starts: Sequence[int],
        width: int,
        horizon: int,
        ends: Sequence[int] | None = None,
    ) -> None:
        self._numbers = rows
        self.together = slice(rows.start, rows.stop) if isinstance(rows, range) else None
        self.width = width
        self.visible = max(starts) + width
        self._earliest = min(starts)
        self.common_start = starts[0] if len(set(starts)) == 1 else None
        self._starts, self._horizon = starts, horizon
        self._ends = [start + width for start in starts] if ends is None else ends
        self._index: dict[torch.device, tuple[Tensor, Tensor]] = {}
        self._places: dict[tuple[int, torch.device], Tensor] = {}

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

    def turns(self, window: Window) -> int | None:
        """Return the places that a layer uses in turn in this pass; None: one for each position."""
        if window.size is None or self.visible <= window.size + self._horizon:
            return None
        return window.size + self._horizon

    def held(self, places: int, device: torch.device) -> Tensor:
        """Return what position each of a layer's places holds after the pass, [rows, places].

        Negative where there is none yet.
        """
        if (places, device) not in self._places:
            ends = to_device(self._ends, device)[:, None]
            self._places[places, device] = _held(ends, places, places)
        return self._places[places, device]

    def mask(self, window: Window, device: torch.device) -> Tensor | None:
        """Return which of a layer's tokens each token of the pass sees, [rows, 1, width, layer's].

        None where the model's own causal mask is right, which is quicker.
        """
        turns = self.turns(window)
        if self.common_start == 0 or (
            self.width == 1 and self.common_start is not None and turns is None
        ):
            return None
        positions = self.index(device)[1][:, None, :, None]
        if turns is not None:
            cached = self.held(turns, device)[:, None, None]
            return window.mask(cached, positions) & (cached >= 0)
        seen = self.seen(window)
        return window.mask(torch.arange(seen.start, seen.stop, device=device), positions)


def _held(ends: Tensor, turns: int, places: int) -> Tensor:
    """Return the last position before each row's end, [rows, 1], that falls to each place."""
    last = ends - 1
    return last - (last - torch.arange(places, device=ends.device)) % turns


class RowLayer(CacheLayerMixin):  # type: ignore[misc]  # transformers has no types here
    """One attention layer's keys and values, [rows, heads, positions, size]."""

    def __init__(self, cache: RowCache, window: Window) -> None:
        super().__init__()
        # a weak one: caches of ended batches must not wait for the collector of cycles
        self._cache: Any = weakref.proxy(cache)
        self._window = window
        self.is_sliding = window.size is not None

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.dtype, self.device = key_states.dtype, key_states.device
        self.keys, self.values = self._room(key_states), self._room(value_states)
        self.is_initialized = True

    def _room(self, like: Tensor) -> Tensor:
        _, heads, _, size = like.shape
        places = self._cache.capacity
        if self._window.size is not None:
            places = min(places, self._window.size + self._cache.horizon)
        # zeros: a hidden position has weight 0, and 0 * NaN of fresh memory would be NaN
        return like.new_zeros(self._cache.rows, heads, places, size)

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write the pass's tokens and return those that some of them see."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        span = self._cache.span
        assert span is not None
        rows, positions = span.index(self.keys.device)
        of = span.together or rows[:, 0]
        turns = span.turns(self._window)
        if turns is not None and span.common_start == 0:  # more than there are places: the last
            last = span.held(turns, self.keys.device).clamp(min=0)[:, None, :, None]
            for store, new in ((self.keys, key_states), (self.values, value_states)):
                store[of] = new.gather(2, last.expand(-1, new.shape[1], -1, new.shape[3]))
            return key_states, value_states
        for store, new in ((self.keys, key_states), (self.values, value_states)):
            if turns is not None:
                store[rows, :, positions % turns] = new.transpose(1, 2)
            elif span.common_start is not None and span.together is not None:
                end = span.common_start + span.width
                store[span.together, :, span.common_start : end] = new
            else:
                store[rows, :, positions] = new.transpose(1, 2)
        if turns is not None:
            return self.keys[of], self.values[of]
        seen = span.seen(self._window)
        return self.keys[of, :, seen], self.values[of, :, seen]

    def resize(self, starts: Sequence[int], horizon: int) -> None:
        """Follow the cache's new capacity and horizon.

        Args:
            starts: Per row, the number of tokens that it keeps so far.
            horizon: The one until now.
        """
        if not self.is_initialized:
            return
        for name in ("keys", "values"):  # one at a time: never two copies of the whole
            old = getattr(self, name)
            new = self._room(old)
            if new.shape == old.shape:
                continue
            size = self._window.size
            if size is None or max(starts) <= size + horizon:
                new[:, :, : old.shape[2]] = old
            else:  # the places' turns change
                ends = to_device(starts, old.device)[:, None]
                turns = size + self._cache.horizon
                from_ = _held(ends, turns, new.shape[2]).clamp(min=0) % (size + horizon)
                index = from_[:, None, :, None].expand(-1, old.shape[1], -1, old.shape[3])
                new[: len(starts)] = old[: len(starts)].gather(2, index)
            setattr(self, name, new)

    def copy_row(self, source: int, target: int, length: int) -> None:
        """Copy a row's first ``length`` positions to another row."""
        if self.is_initialized:
            # where places are used in turn, all are in use
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
        horizon: Tokens that a row can take back; grows as needed.

    Attributes:
        capacity: Positions that there is room for; grows as needed.
    """

    def __init__(self, windows: Sequence[Window], rows: int, horizon: int = HORIZON) -> None:
        self.rows, self.capacity, self.horizon = rows, 0, horizon
        self.span: Span | None = None
        super().__init__(layers=[RowLayer(self, window) for window in windows])

    def place(
        self,
        rows: Sequence[int],
        starts: Sequence[int],
        width: int,
        ends: Sequence[int] | None = None,
        behind: int = 0,
    ) -> Span:
        """Say where the next pass writes.

        Args:
            rows: Those of the pass; a range is quicker.
            starts: Per row of the pass, the number of tokens that it keeps so far.
            width: Tokens per row in the pass.
            ends: Where the rows' own tokens end, if not all are of one length.
            behind: Tokens that may be taken back after the pass; with more than `horizon` of them,
                the rows are all there are.
        """
        needed, horizon = max(starts) + width, self.horizon
        if needed > self.capacity or behind > horizon:
            self.capacity = max(self.capacity, -(-needed // GROWTH) * GROWTH)
            self.horizon = max(horizon, -(-behind // GROWTH) * GROWTH)
            for layer in self.layers:
                if isinstance(layer, RowLayer):
                    layer.resize(starts, horizon)
        self.span = Span(rows, starts, width, self.horizon, ends)
        return self.span

    def copy_row(self, source: int, target: int, length: int) -> None:
        """Copy a row's first ``length`` positions to another row, in every layer."""
        for layer in self.layers:
            if isinstance(layer, RowLayer):
                layer.copy_row(source, target, length)
