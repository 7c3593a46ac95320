"""What batches of rows begin with alike, one after the other: read once, its keys and values kept.

For few-shot tasks, whose every question comes after the same shots, and for the choices of one
question in batches of their own. At most the tokens of one row are kept, and only as long as each
batch begins like the one before it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from eft_eval.engine.cache import RowCache
from eft_eval.engine.passes import Masks, Passes
from eft_eval.engine.prefixes import Forest, common_prefix, trees_after
from eft_eval.engine.windows import ALL, Window

__all__ = ["KeptPrefix"]

_LEAST = 128  # tokens: to read fewer apart from what follows them gains too little
_SHARED = 0.5  # of the longest row


class KeptPrefix:
    """A model and the tokens whose keys and values it keeps.

    Args:
        model: What runs the passes; its attention takes masks of trees.
        windows: What each layer sees; all is kept, and hidden by masks.

    Attributes:
        tokens: Those that are kept.
    """

    def __init__(self, model: Passes, windows: Sequence[Window]) -> None:
        self.tokens: list[int] = []
        self._model = model
        self._windows = tuple(dict.fromkeys(windows))
        self._layers = len(windows)
        self._cache: RowCache | None = None
        self._before: Sequence[int] = ()

    def forget(self) -> None:
        """Let go of what is kept."""
        self.tokens, self._cache, self._before = [], None, ()

    def shared(self, inputs: Sequence[Sequence[int]], lengths: Sequence[int]) -> int:
        """Return the tokens that a batch begins with, if the last one began so, too; else 0.

        Call it with every batch: what is kept is dropped where the batch does not begin with it.

        Args:
            inputs: Rows of tokens.
            lengths: Per row, the last tokens whose logits are wanted; they are no part of it.
        """
        rows = list(map(list, inputs))
        first, last = min(rows), max(rows)  # all others begin as these two do
        most = min(len(row) - length for row, length in zip(inputs, lengths, strict=True))
        common = min(common_prefix(first, last), most)
        again = common_prefix(self._before, first[:common])
        self._before = first
        if again >= max(_LEAST, _SHARED * max(map(len, inputs))):
            return common
        self.tokens, self._cache = [], None
        return 0

    def logits(
        self, inputs: Sequence[Sequence[int]], lengths: Sequence[int], shared: int
    ) -> Iterator[tuple[int, Tensor]]:
        """Yield every row's number, in any order, and its last logits, [lengths[i], V'].

        Args:
            inputs: Rows of tokens.
            lengths: Per row, the last tokens whose logits are wanted.
            shared: The first tokens, which all have in common; they are kept.
        """
        self.read(list(inputs[0][:shared]))
        for forest in trees_after(shared, inputs, lengths):
            logits = self._pass(forest.tokens, forest.positions, forest.keep, forest)
            for row, tree, places in forest.places:
                yield row, logits[tree, places]
            del logits  # before the next pass makes its own

    def read(self, tokens: list[int]) -> None:
        """Keep these tokens, of which those that are kept already are not read again."""
        same = common_prefix(self.tokens, tokens)
        self.tokens = tokens[:same]
        if self._cache is None:
            self._cache = RowCache((ALL,) * self._layers, 1, horizon=sys.maxsize)
        if same < len(tokens):
            new = torch.tensor([tokens[same:]])
            self._pass(new, torch.arange(same, len(tokens))[None], keep=1)
            self.tokens = tokens

    def _pass(
        self, tokens: Tensor, positions: Tensor, keep: int, forest: Forest | None = None
    ) -> Tensor:
        """Read tokens after those that are kept, a tree's or in a row."""
        assert self._cache is not None
        start, width = len(self.tokens), tokens.shape[1]
        self._cache.place(range(1), [start], width)
        masks: dict[str, Tensor | None] = {}
        for one in self._windows:
            kept = one.mask(torch.arange(start), positions[..., None])[:, None]
            if forest is None:
                new = one.mask(positions[:, None, :], positions[..., None])[:, None]
            else:
                new = forest.mask(one)
            seen = torch.cat([kept, new], dim=-1)  # [1, 1, width, start + width]
            masks[one.kind] = self._model.mask(seen.to(self._model.device))
        device = self._model.device
        by_kind: Masks = masks if len(masks) > 1 else next(iter(masks.values()))
        if start == 0 and forest is None:
            by_kind = None  # the model's own is quicker
        return self._model.row_pass(
            tokens.to(device), by_kind, positions.to(device), self._cache, keep
        )
