"""A `transformers` model whose passes have few shapes, and their places on the device.

For GPUs: what a pass reads and where it writes are numbers in the device's memory, so that the
host neither waits nor decides anything within a round, and a pass can be recorded once for each
number of rows, width and reach (`eft_eval.engine.graphs`). Room for the whole length is taken at
once. The results are those of `eft_eval.engine.states.RowState`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from eft_eval.engine.passes import Masks, Passes
from eft_eval.engine.states import padded_prompts
from eft_eval.engine.windows import ALL, Window

__all__ = ["FixedRowState", "reach_of"]

_STEP = 128  # positions
_STEPS = 8  # steps of one doubling: few shapes, and an eighth at most is read in vain


def reach_of(positions: int) -> int:
    """Return the positions that a pass reads, where ``positions`` are needed: one of few numbers.

    Args:
        positions: At least 1.
    """
    step = max(_STEP, (1 << (positions - 1).bit_length()) // 2 // _STEPS)
    return -(-positions // step) * step


class _Place(NamedTuple):
    """Where a pass writes: its rows, and each token's position; where it reads to.

    Attributes:
        positions: [rows, width]; None: prompts, each from position 0 on.
    """

    rows: slice
    positions: Tensor | None
    reach: int


class _FixedLayer(CacheLayerMixin):  # type: ignore[misc]  # transformers has no types here
    """One attention layer's keys and values, [rows, heads, positions, size]."""

    def __init__(self, cache: _FixedCache, window: Window) -> None:
        super().__init__()
        self._cache = cache
        self.is_sliding = window.size is not None

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.dtype, self.device = key_states.dtype, key_states.device
        # zeros: a hidden position has weight 0, and 0 * NaN of fresh memory would be NaN
        self.keys, self.values = (
            like.new_zeros(self._cache.rows, like.shape[1], self._cache.capacity, like.shape[3])
            for like in (key_states, value_states)
        )
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write the pass's tokens and return what is in reach."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        place = self._cache.place
        assert place is not None
        if place.positions is None:  # the model's own causal mask is over the prompts alone
            for store, new in ((self.keys, key_states), (self.values, value_states)):
                store[place.rows, :, : new.shape[2]] = new
            return key_states, value_states
        rows = torch.arange(place.rows.start, place.rows.stop, device=self.device)[:, None]
        for store, new in ((self.keys, key_states), (self.values, value_states)):
            store[rows, :, place.positions] = new.transpose(1, 2)
        return self.keys[place.rows, :, : place.reach], self.values[place.rows, :, : place.reach]

    def copy_row(self, source: int, target: int, length: int) -> None:
        if self.is_initialized:
            self.keys[target, :, :length] = self.keys[source, :, :length]
            self.values[target, :, :length] = self.values[source, :, :length]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return query_length, 0

    def get_seq_length(self) -> int:
        return 0

    def get_max_length(self) -> int:
        return -1


class _FixedCache(Cache):  # type: ignore[misc]  # transformers has no types here
    """The cache of one model over a batch of rows; its memory never moves."""

    def __init__(self, windows: Sequence[Window], rows: int, capacity: int) -> None:
        self.rows, self.capacity = rows, capacity
        self.place: _Place | None = None
        super().__init__(layers=[_FixedLayer(self, window) for window in windows])


class FixedRowState:
    """A model over rows that join, leave and take tokens back; see `FixedState`.

    Args:
        model: What runs the passes.
        rows: Most rows at a time.
        length: Most tokens of a row, drafts that nobody keeps apart.
        most: Most tokens of a pass that reads on.
        windows: What each layer sees; None: every layer all tokens.
    """

    def __init__(
        self,
        model: Passes,
        rows: int,
        length: int,
        most: int,
        windows: Sequence[Window] | None = None,
    ) -> None:
        self.passes = 0
        windows = windows or (ALL,) * int(model.text.num_hidden_layers)
        self._windows = tuple(dict.fromkeys(windows))
        self._model = model
        self._last_position = length - 1
        capacity = -(-(length + most) // _STEP) * _STEP
        self._cache = _FixedCache(windows, rows, capacity)
        self._lengths: list[int] = []

    @property
    def reading(self) -> bool:
        """Whether the next pass reads prompts too: `join` has read them."""
        return False

    def join(self, prompts: Sequence[Sequence[int]]) -> None:
        """Add rows that have read their prompt but for the last token."""
        first = len(self._lengths)
        unread = [list(prompt[:-1]) for prompt in prompts]
        self._lengths += map(len, unread)
        for start, tokens, _ in padded_prompts(unread):
            rows, width = tokens.shape
            self._cache.place = _Place(slice(first + start, first + start + rows), None, width)
            positions = torch.arange(width, device=self._model.device).expand(rows, -1)
            self.passes += 1
            tokens = tokens.to(self._model.device)
            self._model.row_pass(tokens, None, positions, self._cache, keep=1)

    def forward_at(self, tokens: Tensor, starts: Tensor, reach: int) -> Tensor:
        """Read tokens of the first rows on; return the logits after each, [rows, width, V'].

        Args:
            tokens: [rows, width].
            starts: Per row, the tokens that it keeps so far, int64, [rows].
            reach: At least the most of ``starts`` and the width; see `reach_of`.
        """
        rows, width = tokens.shape
        reach = min(reach, self._cache.capacity)
        places = starts[:, None] + torch.arange(width, device=tokens.device)
        self._cache.place = _Place(slice(0, rows), places, reach)
        # only a draft that nobody keeps lies beyond
        positions = places.clamp(max=self._last_position)
        masks = self._masks(places, reach)
        return self._model.row_pass(tokens, masks, positions, self._cache, width)

    def rewind(self, lengths: Sequence[int]) -> None:
        """Say how many tokens of every row stay read."""
        self._lengths = list(lengths)

    def keep(self, rows: Sequence[int]) -> None:
        """Keep these rows, in this order, and drop the rest; row i comes from rows[i] >= i."""
        for target, source in enumerate(rows):
            if source != target:
                for layer in self._cache.layers:
                    layer.copy_row(source, target, self._lengths[source])
        self._lengths = [self._lengths[row] for row in rows]

    def _masks(self, places: Tensor, reach: int) -> Masks:
        cached = torch.arange(reach, device=places.device)
        masks = {
            one.kind: self._model.mask(one.mask(cached, places[:, None, :, None]))
            for one in self._windows
        }
        return masks if len(masks) > 1 else next(iter(masks.values()))
