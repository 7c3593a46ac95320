"""A `transformers` model with a cache length per row: rows join, leave and take tokens back.

Models with recurrent layers have a state of `eft_eval.engine.recurrent`, those that cannot at all
one of `eft_eval.engine.batches`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from eft_eval.engine.cache import HORIZON, RowCache, Span
from eft_eval.engine.passes import Masks, Passes
from eft_eval.engine.windows import ALL, Window

__all__ = ["RowState", "padded_prompts", "rows_together"]

_TOKENS = 2048  # of prompts, padding included, read in one pass, if it is of several rows


def rows_together(length: int) -> int:
    """Return how many rows of ``length`` tokens each are read in one pass, at least 1.

    Few, so that a pass's activations stay small.
    """
    return max(1, _TOKENS // max(1, length))


def padded_prompts(prompts: Sequence[Sequence[int]]) -> Iterator[tuple[int, Tensor, list[int]]]:
    """Yield the passes that read prompts, of few rows each.

    Padding is on the right: later tokens of a row write over it before anything sees it.

    Args:
        prompts: Tokens, perhaps none.

    Yields:
        The first row of a pass, its tokens, [rows, width], and where the rows' own ones end.
    """
    lengths = list(map(len, prompts))
    together = rows_together(max(lengths))
    for first in range(0, len(prompts), together):
        ends = lengths[first : first + together]
        if max(ends) == 0:
            continue
        padded = torch.zeros(len(ends), max(ends), dtype=torch.long)
        for row, tokens in enumerate(prompts[first : first + together]):
            padded[row, : len(tokens)] = torch.tensor(tokens, dtype=torch.long)
        yield first, padded, ends


class RowState:
    """A model with a `RowCache`.

    Args:
        model: What runs the passes.
        rows: Most rows at a time.
        length: Most tokens of a row, drafts that nobody keeps apart.
        windows: What each layer sees; None: every layer all tokens.
        horizon: Tokens that layers with windows keep beyond these, to take tokens back; grows.
    """

    def __init__(
        self,
        model: Passes,
        rows: int,
        length: int,
        windows: Sequence[Window] | None = None,
        horizon: int | None = None,
    ) -> None:
        self.passes = 0
        windows = windows or (ALL,) * int(model.text.num_hidden_layers)
        self._windows = tuple(dict.fromkeys(windows))
        self._model, self._device = model, model.device
        self._last_position = length - 1
        self._cache = RowCache(windows, rows, HORIZON if horizon is None else horizon)
        self._lengths: list[int] = []
        self._kept: list[int] = []  # the lengths that rows may have again
        self._unread: Tensor | None = None

    def join(self, prompts: Sequence[Sequence[int]]) -> None:
        """Add rows that have read their prompt but for the last token.

        Where all rows are new and of one length, the prompt is read in the pass that reads on;
        else now, in a pass of its own.
        """
        first = len(self._lengths)
        unread = [list(prompt[:-1]) for prompt in prompts]
        lengths = list(map(len, unread))
        self._lengths += lengths
        self._kept += lengths
        if max(lengths) == 0:
            return
        fits = len(prompts) <= rows_together(max(lengths))
        if first == 0 and len(set(lengths)) == 1 and fits:
            self._unread = torch.tensor(unread)
            return
        for start, tokens, ends in padded_prompts(unread):
            self._pass(tokens, first + start, [0] * len(ends), keep=1, ends=ends)

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
        self._lengths, self._kept = list(lengths), list(lengths)

    def keep(self, rows: Sequence[int]) -> None:
        """Keep these rows, in this order, and drop the rest; row i comes from rows[i] >= i."""
        for target, source in enumerate(rows):
            if source != target:
                self._cache.copy_row(source, target, self._lengths[source])
        self._lengths = [self._lengths[row] for row in rows]
        self._kept = [self._kept[row] for row in rows]

    def settle(self) -> None:
        """Do nothing: tokens are taken back by a smaller length."""

    def _pass(
        self,
        tokens: Tensor,
        first: int,
        starts: Sequence[int],
        keep: int,
        ends: Sequence[int] | None = None,
    ) -> Tensor:
        """Run the model over rows from ``first`` on; return the last ``keep`` positions' logits."""
        rows, width = range(first, first + len(starts)), tokens.shape[1]
        behind = 0
        if ends is None:
            behind = max(s + width - k for s, k in zip(starts, self._kept, strict=True))
        span = self._cache.place(rows, starts, width, ends, behind)
        self.passes += 1
        # only a draft that nobody keeps lies beyond
        positions = span.index(self._device)[1].clamp(max=self._last_position)
        masks = self._masks(span)
        return self._model.row_pass(tokens.to(self._device), masks, positions, self._cache, keep)

    def _masks(self, span: Span) -> Masks:
        """Return one mask, or one for every kind of layer; None: the model makes its own."""
        masks = {one.kind: self._mask(span, one) for one in self._windows}
        if all(mask is None for mask in masks.values()):
            return None
        return masks if len(masks) > 1 else next(iter(masks.values()))

    def _mask(self, span: Span, window: Window) -> Tensor | None:
        mask = span.mask(window, self._device)
        return None if mask is None else self._model.mask(mask)
