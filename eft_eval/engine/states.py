"""A view's model over the batch being generated: what it has read, and how it reads on.

Two kinds: `RowState` keeps a length per row, so that rows join, leave and take tokens back;
`PaddedState` serves models that cannot (sliding windows, recurrent layers), a whole batch at a
time and forwards only.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Protocol

import torch
from torch import Tensor

from eft_eval.engine.cache import RowCache
from eft_eval.engine.passes import takes
from eft_eval.engine.positions import attention_reach
from eft_eval.engine.view import View
from eft_eval.errors import ConfigError

__all__ = ["PaddedState", "RowState", "ViewState", "cannot_roll_back"]

log = logging.getLogger("eft_eval")


class ViewState(Protocol):
    """What the loop needs of a view."""

    view: View
    passes: int
    """Passes of the model since somebody set it to 0."""

    @property
    def reading(self) -> bool:
        """Whether the next pass reads prompts too."""

    def join(self, prompts: Sequence[Sequence[int]]) -> None:
        """Add rows that have read their prompt but for the last token."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Read tokens on, [rows, width], and return the logits after each, [rows, width, V']."""

    def rewind(self, lengths: Sequence[int]) -> None:
        """Take tokens back: per row the number of tokens that stay read."""

    def keep(self, rows: Sequence[int]) -> None:
        """Keep these rows, in this order, and drop the rest."""


class RowState:
    """A view with a `RowCache`.

    Args:
        view: The view; its model must pass `cannot_roll_back`.
        rows: Most rows at a time.
        length: Most tokens of a row, drafts that nobody keeps apart.
    """

    def __init__(self, view: View, rows: int, length: int) -> None:
        self.view = view
        self.passes = 0
        self._last_position = length - 1
        self._model = view.member.model
        self._device = view.member.device
        text = view.member.config.get_text_config(decoder=True)
        self._cache = RowCache(int(text.num_hidden_layers), rows)
        self._lengths: list[int] = []
        self._unread: Tensor | None = None
        self._boolean = getattr(self._model.config, "_attn_implementation", "eager") == "sdpa"
        self._takes_positions = takes(self._model, "position_ids")
        self._takes_kept = takes(self._model, "logits_to_keep")

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
        if self._takes_positions:
            # only a draft that nobody keeps lies beyond
            options["position_ids"] = span.index(self._device)[1].clamp(max=self._last_position)
        if self._takes_kept:
            options["logits_to_keep"] = keep
        self.passes += 1
        output = self._model(tokens.to(self._device), use_cache=True, **options)
        logits: Tensor = output.logits[:, -keep:]
        return logits


class PaddedState:
    """A view with the model's own cache over left-padded prompts; reads one token at a time."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.passes = 0
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
        self._mask = self._mask.to(self.view.member.device)
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
        model = self.view.member.model
        options: dict[str, Any] = {"attention_mask": self._mask, "use_cache": True}
        if takes(model, "position_ids"):
            options["position_ids"] = positions
        if takes(model, "logits_to_keep"):
            options["logits_to_keep"] = 1
        if self._cache is not None:
            options["past_key_values"] = self._cache
        self.passes += 1
        output = model(tokens.to(self._mask.device), **options)
        self._cache = getattr(output, "past_key_values", None)
        if self._cache is None:
            raise ConfigError(
                f"{self.view.member.label}: {type(model).__name__} gives no key-value cache, "
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


def cannot_roll_back(view: View, length: int) -> str | None:
    """Return why a view's model cannot take tokens back within ``length`` tokens, or None.

    A window that is shorter than that forgets; whether the model works with a length per row at
    all is tried out once, on a few tokens, against a pass without a cache.
    """
    reach = attention_reach(view.member)
    if reach == 0:
        return "some of its layers are no attention over all tokens"
    if reach is not None and reach < length:
        return f"some of its layers see {reach} tokens back, and {length} may come"
    model = view.member.model
    known: str | None = getattr(model, "_eft_cannot_roll_back", None)
    if known is None:
        known = model._eft_cannot_roll_back = _try_out(view)
    return known or None


@torch.inference_mode()
def _try_out(view: View) -> str:
    """Return "" if a `RowState` gives the logits of passes without a cache."""
    reason = f"{type(view.member.model).__name__} does not work with a cache length per row"
    limit = view.member.vocabulary_size
    rows = [[(7 * i + 3) % limit for i in range(6)], [(5 * i + 1) % limit for i in range(4)]]
    state = RowState(view, len(rows), 8)
    plain = [
        view.member.model(torch.tensor([row], device=view.member.device), use_cache=False).logits[0]
        for row in rows
    ]
    with suppress(Exception):  # whatever goes wrong, this model is for the other kind of state
        state.join([row[:-2] for row in rows])
        state.forward(torch.tensor([[row[-3], 0, 0] for row in rows]))
        state.rewind([len(row) - 2 for row in rows])
        found = state.forward(torch.tensor([row[-2:] for row in rows]))
        expected = torch.stack([logits[-2:] for logits in plain]).to(found.device)
        exact = found.dtype in (torch.float32, torch.float64)
        tolerance = (1e-3 if exact else 0.1) * expected.float().std()
        if (found - expected).float().abs().max() <= tolerance:
            return ""
    return reason
