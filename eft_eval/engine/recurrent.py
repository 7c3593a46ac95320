"""A model with recurrent layers whose rows join, leave and take tokens back one by one.

A recurrent layer's state holds everything read and gives nothing back, so a state is kept as it
was before a pass. Where all of a pass stands, the state after it takes its place; else the tokens
that stand are unread, and the next pass reads them again before its own.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import cache_utils

from eft_eval.engine.cache import RowCache, RowLayer, to_device
from eft_eval.engine.passes import Masks, Passes
from eft_eval.engine.states import rows_together
from eft_eval.engine.windows import ATTENTION_BESIDE, Window, recurrent_windows

__all__ = ["RecurrentCache", "RecurrentState"]

_UNREAD = 16  # tokens that a row may have unread; more are read in a pass of their own
_SHORTEST_CHUNK = 16

_Linear: Any = getattr(cache_utils, "LinearAttentionLayer", None)
_LINEAR_KINDS = ("linear_attention", "conv")
_STATES = ("conv_states", "recurrent_states")

if _Linear is not None:

    class _HybridLayer(_Linear, RowLayer):  # type: ignore[misc]  # transformers has no types here
        """A layer that has both a recurrent state and attention over a row cache."""

        def __init__(self, cache: RowCache, window: Window, states: int) -> None:
            RowLayer.__init__(self, cache, window)
            _Linear.__init__(self, number_of_states=states)

        def lazy_initialization(self, *args: Any, **kwargs: Any) -> None:
            if args:
                RowLayer.lazy_initialization(self, *args)
            else:
                _Linear.lazy_initialization(self, **kwargs)


class RecurrentCache(RowCache):
    """A row cache, some of whose layers hold recurrent states of one pass's rows.

    Args:
        config: Of the language model.
        windows: What each layer sees.
        rows: Most rows at a time.
    """

    def __init__(self, config: Any, windows: Sequence[Window], rows: int) -> None:
        super().__init__(windows, rows, horizon=sys.maxsize)  # what it has unread lies behind
        theirs = cache_utils.DynamicCache(config=config).layers
        if len(theirs) != len(windows) or _Linear is None:
            raise ValueError("a cache whose layers this transformers does not tell apart")
        for number, (layer, window) in enumerate(zip(theirs, windows, strict=True)):
            linear = isinstance(layer, _Linear)
            if linear and isinstance(layer, cache_utils.CacheLayerMixin):
                self.layers[number] = _HybridLayer(self, window, layer.number_of_states)
            elif linear or not isinstance(layer, cache_utils.CacheLayerMixin):
                self.layers[number] = layer

    @property
    def is_linear(self) -> list[bool]:
        """Whether the layers have no attention at all."""
        return [not isinstance(layer, RowLayer) for layer in self.layers]

    @property
    def _slots(self) -> list[tuple[Any, str, int]]:
        """Where the layers keep their states: layer, name, number."""
        return [
            (layer, name, number)
            for layer in self.layers
            if isinstance(layer, _Linear)
            for name in _STATES
            for number, state in getattr(layer, name).items()
            if state is not None
        ]

    def states(self) -> list[Tensor]:
        """Return the states after the last pass."""
        return [getattr(layer, name)[number] for layer, name, number in self._slots]

    def install(self, states: Sequence[Tensor]) -> None:
        """Give the layers the states of the next pass's rows, which it writes over."""
        for (layer, name, number), state in zip(self._slots, states, strict=True):
            getattr(layer, name)[number] = state


@dataclass(frozen=True)
class _Read:
    """One pass since tokens were last taken back.

    Attributes:
        tokens: Those that it was given, [rows, width].
        states: After it.
        valid: Per row, whether nothing was read after its tokens.
    """

    tokens: Tensor
    states: list[Tensor]
    valid: list[bool]


class RecurrentState:
    """A model with a `RecurrentCache`; see `eft_eval.engine.engine.State`.

    Args:
        model: What runs the passes.
        rows: Most rows at a time.
        length: Most tokens of a row, drafts that nobody keeps apart.

    Attributes:
        kept: Every recurrent layer's states, of all rows, with nothing in them to be taken back.
    """

    def __init__(self, model: Passes, rows: int, length: int) -> None:
        self.passes = 0
        windows = recurrent_windows(model.text)
        if windows is None:
            raise ValueError("layers of an unknown kind")
        self._windows = tuple(dict.fromkeys(windows))
        self._model, self._device = model, model.device
        self._last_position = length - 1
        self._cache = RecurrentCache(model.model.config, windows, rows)
        self._attends = not all(self._cache.is_linear)
        self._chunks = _chunked(model)
        self.kept: list[Tensor] = []
        self._lengths: list[int] = []  # tokens that these have read
        self._unread: list[Tensor] = []  # tokens that stand and that they have not read
        self._since: list[_Read] = []

    @property
    def reading(self) -> bool:
        """Whether the next pass reads prompts too: `join` has read them."""
        return False

    def join(self, prompts: Sequence[Sequence[int]]) -> None:
        """Add rows that have read their prompt but for the last token."""
        new = [torch.tensor(prompt[:-1], dtype=torch.long) for prompt in prompts]
        self._unread += [tokens.to(self._device) for tokens in new]
        self._lengths += [0] * len(prompts)
        self.kept = [
            torch.cat([state, state.new_zeros(len(prompts), *state.shape[1:])])
            for state in self.kept
        ]
        self.settle()

    def settle(self, most: int = _UNREAD) -> None:
        """Read what rows have unread, where it is too much to be read again and again.

        Args:
            most: Tokens that a row may have unread afterwards.
        """
        while rows := [row for row, unread in enumerate(self._unread) if len(unread) > most]:
            count = min(len(self._unread[row]) for row in rows)
            rows = rows[: rows_together(count)]
            tokens = torch.stack([self._unread[row][:count] for row in rows])
            _, after = self._pass(tokens, rows, keep=1)
            if len(rows) == len(self._unread):
                self.kept = after
            else:
                self._put(rows, after, list(range(len(rows))))
            for row in rows:
                self._lengths[row] += count
                self._unread[row] = self._unread[row][count:]

    def forward(self, tokens: Tensor) -> Tensor:
        """Read tokens on, [rows, width], and return the logits after each, [rows, width, V']."""
        tokens = tokens.to(self._device)
        rows, width = tokens.shape
        unread = [len(one) for one in self._unread]
        if self._since:
            assert all(self._since[-1].valid)  # or a row would read on from what is not its own
        elif width == 1 and len(set(unread)) > 1:
            self.settle(most=0)  # one token at a time there is no room for unequal rows
            unread = [0] * rows
        longest, shortest = (0, 0) if self._since else (max(unread), min(unread))
        inputs = tokens
        if longest:
            inputs = tokens.new_zeros(rows, longest + width)
            for row, before in enumerate(self._unread):
                inputs[row, : len(before)] = before
                inputs[row, len(before) : len(before) + width] = tokens[row]
        logits, after = self._pass(inputs, range(rows), keep=longest - shortest + width)
        valid = [True if self._since else one == longest for one in unread]
        self._since.append(_Read(tokens, after, valid))
        if longest == shortest:
            return logits
        first = to_device([one - shortest for one in unread], logits.device)[:, None]
        places = first + torch.arange(width, device=logits.device)
        return logits.gather(1, places[..., None].expand(-1, -1, logits.shape[-1]))

    def rewind(self, lengths: Sequence[int]) -> None:
        """Take tokens back: per row the number of tokens that stay read."""
        if not self._since:
            return
        ends = self._ends()
        best = [
            max((n for n, end in enumerate(ends[row]) if end is not None and end <= length),
                default=-1)
            for row, length in enumerate(lengths)
        ]  # fmt: skip
        last = len(self._since) - 1
        for row, (number, length) in enumerate(zip(best, lengths, strict=True)):
            end = self._lengths[row] if number < 0 else ends[row][number]
            assert end is not None
            if end == length:
                self._unread[row] = self._unread[row][:0]
            else:
                read = [self._unread[row], *(one.tokens[row] for one in self._since)]
                first = self._lengths[row]
                self._unread[row] = torch.cat(read)[end - first : length - first]
            self._lengths[row] = end
        if all(number == last for number in best):
            self.kept = self._since[last].states
        else:
            for number in set(best) - {-1}:
                rows = [row for row, of in enumerate(best) if of == number]
                self._put(rows, self._since[number].states, rows)
        self._since = []

    def keep(self, rows: Sequence[int]) -> None:
        """Keep these rows, in this order, and drop the rest; row i comes from rows[i] >= i."""
        for target, source in enumerate(rows):
            if source != target:
                self._cache.copy_row(source, target, self._lengths[source])
        self.kept = [state[to_device(rows, state.device)] for state in self.kept]
        self._lengths = [self._lengths[row] for row in rows]
        self._unread = [self._unread[row] for row in rows]

    # ------------------------------------------------------------------

    def _ends(self) -> list[list[int | None]]:
        """Return how many tokens every row has read after each pass; None where it read others."""
        found: list[list[int | None]] = []
        for row, before in enumerate(self._lengths):
            end = before + len(self._unread[row])
            ends: list[int | None] = []
            for one in self._since:
                end += one.tokens.shape[1]
                ends.append(end if one.valid[row] else None)
            found.append(ends)
        return found

    def _put(self, rows: Sequence[int], states: Sequence[Tensor], places: Sequence[int]) -> None:
        """Keep some rows' states, which lie at ``places`` of a pass's."""
        for kept, new in zip(self.kept, states, strict=True):
            kept[to_device(rows, kept.device)] = new[to_device(places, new.device)]

    def _pass(self, tokens: Tensor, rows: Sequence[int], keep: int) -> tuple[Tensor, list[Tensor]]:
        """Run the model over some rows; return the last ``keep`` logits and the states after."""
        starts = [self._lengths[row] for row in rows]
        if self._since:
            before = self._since[-1].states
            read = sum(one.tokens.shape[1] for one in self._since)
            starts = [start + len(u) + read for start, u in zip(starts, self._unread, strict=True)]
        else:
            before = self.kept
        if before:
            whole = len(rows) == len(self._lengths)
            self._cache.install(
                [one.clone() if whole else one[to_device(rows, one.device)] for one in before]
            )
        span = self._cache.place(rows, starts, tokens.shape[1])
        self.passes += 1
        positions = span.index(self._device)[1].clamp(max=self._last_position)
        full = {one.kind: span.mask(one, self._device) for one in self._windows}
        masks: Masks = None
        if self._attends and any(mask is not None for mask in full.values()):
            masks = dict.fromkeys(_LINEAR_KINDS)
            masks |= {k: None if m is None else self._model.mask(m) for k, m in full.items()}
            masks |= {kind: masks.get(of) for kind, of in ATTENTION_BESIDE.items()}
        with _chunks_of(self._chunks, tokens.shape[1]):
            logits = self._model.row_pass(tokens, masks, positions, self._cache, keep)
        after = self._cache.states()
        if not self.kept:  # the first pass tells what they look like
            total = len(self._lengths)
            self.kept = [one.new_zeros(total, *one.shape[1:]) for one in after]
        return logits, after


def _chunked(model: Passes) -> list[Any]:
    """Return the modules that pad every pass to whole chunks, on a device where that costs time."""
    if model.device.type != "cpu":
        return []
    return [
        module
        for module in model.model.modules()
        if isinstance(getattr(module, "chunk_size", None), int) and hasattr(module, "conv1d")
    ]


@contextlib.contextmanager
def _chunks_of(modules: Sequence[Any], width: int) -> Iterator[None]:
    """Let a short pass be one short chunk: the same sums, without the padding."""
    before = [module.chunk_size for module in modules]
    size = max(_SHORTEST_CHUNK, 1 << (width - 1).bit_length())
    try:
        for module, usual in zip(modules, before, strict=True):
            module.chunk_size = min(usual, size)
        yield
    finally:
        for module, usual in zip(modules, before, strict=True):
            module.chunk_size = usual
