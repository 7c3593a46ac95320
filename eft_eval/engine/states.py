"""A `transformers` model over the batch being generated: what it has read, and how it reads on.

Two kinds: `RowState` keeps a length per row, so that rows join, leave and take tokens back;
`PaddedState` serves models that cannot (sliding windows, recurrent layers), a whole batch at a
time and forwards only. Both are `eft_eval.engine.engine.State`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from eft_eval.engine.cache import RowCache
from eft_eval.errors import ConfigError

__all__ = ["PaddedState", "RowState"]


class _Loaded(Protocol):  # what a state needs of its engine
    model: Any
    device: torch.device
    label: str
    takes_positions: bool
    takes_kept: bool


class RowState:
    """A model with a `RowCache`.

    Args:
        engine: The model; it must pass its `cannot_roll_back`.
        rows: Most rows at a time.
        length: Most tokens of a row, drafts that nobody keeps apart.
    """

    def __init__(self, engine: _Loaded, rows: int, length: int) -> None:
        self.passes = 0
        self._engine, self._model, self._device = engine, engine.model, engine.device
        self._last_position = length - 1
        text = self._model.config.get_text_config(decoder=True)
        self._cache = RowCache(int(text.num_hidden_layers), rows)
        self._lengths: list[int] = []
        self._unread: Tensor | None = None
        self._boolean = getattr(self._model.config, "_attn_implementation", "eager") == "sdpa"

    def join(self, prompts: Sequence[Sequence[int]]) -> None:
        """Add rows that have read their prompt but for the last token.

        Where all rows are new and of one length, the prompt is read in the pass that reads on;
        else now, in a pass of its own.
        """
        first, starts = len(self._lengths), [0] * len(prompts)
        unread = [list(prompt[:-1]) for prompt in prompts]
        lengths = list(map(len, unread))
        self._lengths += lengths
        if max(lengths) == 0:
            return
        if first == 0 and len(set(lengths)) == 1:
            self._unread = torch.tensor(unread)
            return
        # padding is on the right: later tokens of a row write over it before anything sees it
        padded = torch.zeros(len(prompts), max(lengths), dtype=torch.long)
        for row, tokens in enumerate(unread):
            padded[row, : len(tokens)] = torch.tensor(tokens, dtype=torch.long)
        self._pass(padded, first, starts, keep=1)

    @property
    def reading(self) -> bool:
        """Whether the next pass reads prompts too."""
        return self._unread is not None

    def forward(self, tokens: Tensor) -> Tensor:
        """Read tokens on, [rows, width], and return the logits after each, [rows, width, V']."""
        width = tokens.shape[1]
        starts = self._lengths
        if self._unread is not None:
            tokens = torch.cat([self._unread.to(tokens.device), tokens], dim=1)
            starts, self._unread = [0] * len(starts), None
        logits = self._pass(tokens, 0, starts, keep=width)
        self._lengths = [length + width for length in self._lengths]
        return logits

    def rewind(self, lengths: Sequence[int]) -> None:
        """Take tokens back: per row the number of tokens that stay read."""
        assert all(new <= old for new, old in zip(lengths, self._lengths, strict=True))
        self._lengths = list(lengths)

    def keep(self, rows: Sequence[int]) -> None:
        """Keep these rows, in this order, and drop the rest; row i comes from rows[i] >= i."""
        for target, source in enumerate(rows):
            if source != target:
                self._cache.copy_row(source, target, self._lengths[source])
        self._lengths = [self._lengths[row] for row in rows]

    def _pass(self, tokens: Tensor, first: int, starts: Sequence[int], keep: int) -> Tensor:
        """Run the model over rows from ``first`` on; return the last ``keep`` positions' logits."""
        span = self._cache.place(first, starts, tokens.shape[1])
        mask = span.mask(self._device)
        if mask is not None and not self._boolean:  # other implementations add their mask
            dtype = self._model.dtype
            least = torch.finfo(dtype).min
            mask = torch.zeros(mask.shape, dtype=dtype, device=self._device).masked_fill(
                ~mask, least
            )
        options: dict[str, Any] = {"attention_mask": mask, "past_key_values": self._cache}
        if self._engine.takes_positions:
            # only a draft that nobody keeps lies beyond
            options["position_ids"] = span.index(self._device)[1].clamp(max=self._last_position)
        if self._engine.takes_kept:
            options["logits_to_keep"] = keep
        self.passes += 1
        output = self._model(tokens.to(self._device), use_cache=True, **options)
        logits: Tensor = output.logits[:, -keep:]
        return logits


class PaddedState:
    """A model with its own cache over left-padded prompts; reads one token at a time."""

    def __init__(self, engine: _Loaded) -> None:
        self.passes = 0
        self._engine = engine
        self._mask = torch.zeros(0, 0, dtype=torch.long)
        self._cache: Any = None
        self._first: Tensor | None = None  # logits after the prompts, until they are asked for

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
        self._mask = self._mask.to(self._engine.device)
        positions = (self._mask.cumsum(dim=-1) - 1).clamp(min=0)
        self._cache = None
        self._first = self._pass(padded, positions)

    def forward(self, tokens: Tensor) -> Tensor:
        """Read one token per row, [rows, 1], and return the logits after it, [rows, 1, V']."""
        if self._first is not None:
            logits, self._first = self._first, None
            return logits
        self._mask = torch.cat([self._mask, torch.ones_like(self._mask[:, :1])], dim=-1)
        return self._pass(tokens, self._mask.sum(dim=-1, keepdim=True) - 1)

    def rewind(self, lengths: Sequence[int]) -> None:
        """Do nothing: what is read one token at a time is kept."""

    def keep(self, rows: Sequence[int]) -> None:
        """Keep these rows, in this order, and drop the rest."""
        if not rows:
            self._cache = None
            return
        chosen = torch.tensor(rows, dtype=torch.long, device=self._mask.device)
        self._mask = self._mask[chosen]
        for layer in self._cache.layers:
            _select_rows(layer, chosen)

    def _pass(self, tokens: Tensor, positions: Tensor) -> Tensor:
        model = self._engine.model
        options: dict[str, Any] = {"attention_mask": self._mask, "use_cache": True}
        if self._engine.takes_positions:
            options["position_ids"] = positions
        if self._engine.takes_kept:
            options["logits_to_keep"] = 1
        if self._cache is not None:
            options["past_key_values"] = self._cache
        self.passes += 1
        output = model(tokens.to(self._mask.device), **options)
        self._cache = getattr(output, "past_key_values", None)
        if self._cache is None:
            raise ConfigError(
                f"{self._engine.label}: {type(model).__name__} gives no key-value cache, "
                "which generation needs; use another member"
            )
        logits: Tensor = output.logits[:, -1:]
        return logits


def _select_rows(layer: Any, chosen: Tensor) -> None:
    """Keep these rows of a cache layer; recurrent layers of transformers know no way to do it."""
    if not hasattr(layer, "recurrent_states"):
        layer.batch_select_indices(chosen)
        return
    for name, value in list(vars(layer).items()):
        if isinstance(value, Tensor) and value.dim() > 1:
            setattr(layer, name, value[chosen.to(value.device)])
        elif isinstance(value, (list, dict)):
            places = value.items() if isinstance(value, dict) else enumerate(value)
            for place, state in list(places):
                if isinstance(state, Tensor) and state.dim() > 1:
                    value[place] = state[chosen.to(state.device)]
