"""A `transformers` model over whole batches: it reads on, and takes nothing back.

For models that can keep neither a length nor a state per row (`eft_eval.engine.states.RowState`,
`eft_eval.engine.recurrent.RecurrentState`). `BatchState` uses the model's own cache or state,
whatever it is; `RereadState` serves models that have none that works.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from eft_eval.engine.inner_state import InnerState
from eft_eval.engine.passes import Passes

__all__ = ["BatchState", "RereadState"]


class BatchState:
    """A model with its own cache over left-padded prompts; reads one token at a time.

    Args:
        model: What runs the passes.
        shrinks: Whether rows that ended can be taken out of the cache; otherwise they read on,
            and nobody looks at what they say.
    """

    def __init__(self, model: Passes, *, shrinks: bool = True) -> None:
        self.passes = 0
        self._model, self._shrinks = model, shrinks
        self._mask = torch.zeros(0, 0, dtype=torch.long)
        self._cache: Any = None
        self._first: Tensor | None = None  # logits after the prompts, until they are asked for
        self._rows: list[int] = []  # where the rows lie in the cache

    @property
    def reading(self) -> bool:
        """Whether the next pass reads prompts too: `join` has read them."""
        return False

    def join(self, prompts: Sequence[Sequence[int]]) -> None:
        """Start a batch: all rows at once, when no other is left."""
        longest = max(map(len, prompts))
        padded = torch.zeros(len(prompts), longest, dtype=torch.long)
        self._mask = torch.zeros_like(padded)
        for row, tokens in enumerate(prompts):
            padded[row, longest - len(tokens) :] = torch.tensor(tokens)
            self._mask[row, longest - len(tokens) :] = 1
        self._mask = self._mask.to(self._model.device)
        self._rows = list(range(len(prompts)))
        positions = (self._mask.cumsum(dim=-1) - 1).clamp(min=0)
        self._cache = None
        self._first = self._pass(padded, positions)

    def forward(self, tokens: Tensor) -> Tensor:
        """Read one token per row, [rows, 1], and return the logits after it, [rows, 1, V']."""
        if self._first is not None:
            logits, self._first = self._first, None
            return logits
        whole = len(self._rows) == len(self._mask)
        if not whole:
            placed = torch.zeros(len(self._mask), 1, dtype=tokens.dtype, device=tokens.device)
            placed[self._rows] = tokens
            tokens = placed
        self._mask = torch.cat([self._mask, torch.ones_like(self._mask[:, :1])], dim=-1)
        logits = self._pass(tokens, self._mask.sum(dim=-1, keepdim=True) - 1)
        return logits if whole else logits[self._rows]

    def rewind(self, lengths: Sequence[int]) -> None:
        """Do nothing: what is read one token at a time is kept."""

    def keep(self, rows: Sequence[int]) -> None:
        """Keep these rows, in this order, and drop the rest."""
        if not rows:
            self._cache = None
        elif self._shrinks:
            chosen = torch.tensor(rows, dtype=torch.long, device=self._mask.device)
            self._mask = self._mask[chosen]
            self._cache = _selected(self._cache, chosen)
            self._rows = list(range(len(rows)))
        else:
            self._rows = [self._rows[row] for row in rows]

    def settle(self) -> None:
        """Do nothing: nothing is taken back."""

    def _pass(self, tokens: Tensor, positions: Tensor) -> Tensor:
        self.passes += 1
        logits, self._cache = self._model.read_on(
            tokens.to(self._model.device), self._mask, positions, self._cache
        )
        return logits


class RereadState:
    """A model without a cache: every pass reads the rows from their beginning."""

    def __init__(self, model: Passes) -> None:
        self.passes = 0
        self._model = model
        self._rows: list[list[int]] = []

    @property
    def reading(self) -> bool:
        """Whether the next pass reads prompts too: every pass does, and costs what they cost."""
        return False

    def join(self, prompts: Sequence[Sequence[int]]) -> None:
        """Add rows that have read their prompt but for the last token."""
        self._rows += [list(prompt[:-1]) for prompt in prompts]

    def forward(self, tokens: Tensor) -> Tensor:
        """Read tokens on, [rows, width], and return the logits after each, [rows, width, V']."""
        width = tokens.shape[1]
        for row, new in zip(self._rows, tokens.tolist(), strict=True):
            row += new
        self.passes += 1
        logits, first = self._model.logits(self._rows, [width] * len(self._rows))
        ends = [len(row) - first for row in self._rows]
        return torch.stack([logits[row, end - width : end] for row, end in enumerate(ends)])

    def rewind(self, lengths: Sequence[int]) -> None:
        """Take tokens back: per row the number of tokens that stay read."""
        for row, length in zip(self._rows, lengths, strict=True):
            del row[length:]

    def keep(self, rows: Sequence[int]) -> None:
        """Keep these rows, in this order, and drop the rest."""
        self._rows = [self._rows[row] for row in rows]

    def settle(self) -> None:
        """Do nothing: every pass reads all."""


def _selected(cache: Any, chosen: Tensor) -> Any:
    """Keep these rows of a cache; where transformers knows no way, of every tensor in it."""
    if isinstance(cache, (list, tuple)):  # RWKV's state
        return type(cache)(_rows_of(value, chosen) for value in cache)
    if isinstance(cache, InnerState):
        cache.select(chosen)
        return cache
    layers = getattr(cache, "layers", None)
    if layers is None:
        _select_in(cache, chosen)
        return cache
    for layer in layers:
        if hasattr(layer, "recurrent_states"):
            _select_in(layer, chosen)
        else:
            layer.batch_select_indices(chosen)
    return cache


def _select_in(holder: Any, chosen: Tensor) -> None:
    for name, value in list(vars(holder).items()):
        if isinstance(value, Tensor):
            setattr(holder, name, _rows_of(value, chosen))
        elif isinstance(value, (list, dict)):
            places = value.items() if isinstance(value, dict) else enumerate(value)
            for place, state in list(places):
                value[place] = _rows_of(state, chosen)


def _rows_of(value: Any, chosen: Tensor) -> Any:
    if isinstance(value, Tensor) and value.dim() > 1:
        return value[chosen.to(value.device)]
    return value
