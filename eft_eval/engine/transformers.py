"""The engine of `transformers`: one causal language model in this process."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from eft_eval.engine.positions import attention_reach, check_positions
from eft_eval.engine.states import PaddedState, RowState

__all__ = ["TransformersEngine"]


class TransformersEngine:
    """A loaded model; see `eft_eval.engine.engine.Engine`.

    Args:
        model: A causal language model of `transformers`, in evaluation mode.
        device: Where its inputs go.
        label: What errors call it.
        num_parameters: What its size counts as; None: its parameters.
    """

    def __init__(
        self, model: Any, device: torch.device, label: str, num_parameters: int | None = None
    ) -> None:
        self.model, self.device, self.label = model, device, label
        self.num_parameters = num_parameters or int(model.num_parameters())
        self._config = model.config.get_text_config(decoder=True)
        taken = inspect.signature(model.forward).parameters
        self.takes_positions = "position_ids" in taken
        self.takes_kept = "logits_to_keep" in taken
        self._works_row_by_row: bool | None = None

    @property
    def dtype(self) -> torch.dtype:
        """What it computes in."""
        found: torch.dtype = self.model.dtype
        return found

    def logits(self, inputs: Sequence[Sequence[int]], lengths: Sequence[int]) -> tuple[Tensor, int]:
        """Return the logits after the last ``lengths[i]`` tokens of every row.

        Padding on the right needs no mask: a causal model's earlier positions do not see it.
        """
        longest = max(map(len, inputs))
        first = min(len(tokens) - length for tokens, length in zip(inputs, lengths, strict=True))
        batch = torch.zeros(len(inputs), longest, dtype=torch.long)
        for row, tokens in enumerate(inputs):
            batch[row, : len(tokens)] = torch.tensor(tokens)
        options: dict[str, Any] = {"use_cache": False}
        if self.takes_kept:
            options["logits_to_keep"] = longest - first
        logits: Tensor = self.model(batch.to(self.device), **options).logits
        return (logits if self.takes_kept else logits[:, first:]), first

    def check_positions(self, length: int) -> None:
        """Raise ConfigError where a row of ``length`` tokens would change its neighbours."""
        check_positions(self._config, self.label, length)

    def cannot_roll_back(self, length: int) -> str | None:
        """Return why the model cannot take tokens back within ``length`` tokens, or None.

        A window that is shorter than that forgets; whether the model works with a length per row
        at all is tried out once, on a few tokens, against a pass without a cache.
        """
        reach = attention_reach(self._config)
        if reach == 0:
            return "some of its layers are no attention over all tokens"
        if reach is not None and reach < length:
            return f"some of its layers see {reach} tokens back, and {length} may come"
        if self._works_row_by_row is None:
            self._works_row_by_row = self._try_out()
        if self._works_row_by_row:
            return None
        return f"{type(self.model).__name__} does not work with a cache length per row"

    def row_state(self, rows: int, length: int) -> RowState:
        """Return a state whose rows join, leave and take tokens back one by one."""
        return RowState(self, rows, length)

    def plain_state(self) -> PaddedState:
        """Return a state of whole batches, which reads one token at a time and takes none back."""
        return PaddedState(self)

    @torch.inference_mode()
    def _try_out(self) -> bool:
        """Whether a `RowState` gives the logits of passes without a cache."""
        limit = int(self._config.vocab_size)
        rows = [[(7 * i + 3) % limit for i in range(6)], [(5 * i + 1) % limit for i in range(4)]]
        state = self.row_state(len(rows), 8)
        plain = [self.logits([row], [2])[0][0] for row in rows]
        with suppress(Exception):  # whatever goes wrong, it is for the other kind of state
            state.join([row[:-2] for row in rows])
            state.forward(torch.tensor([[row[-3], 0, 0] for row in rows]))
            state.rewind([len(row) - 2 for row in rows])
            found = state.forward(torch.tensor([row[-2:] for row in rows]))
            expected = torch.stack(plain).to(found.device)
            exact = found.dtype in (torch.float32, torch.float64)
            tolerance = (1e-3 if exact else 0.1) * expected.float().std()
            return bool((found - expected).float().abs().max() <= tolerance)
        return False
