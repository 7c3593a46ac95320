"""The engine of `transformers`: one causal language model in this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from eft_eval.engine.batches import BatchState, RereadState
from eft_eval.engine.engine import PlainWay, State, ends_of
from eft_eval.engine.fixed import FixedRowState
from eft_eval.engine.head import set_head_dtype
from eft_eval.engine.kept_prefix import KeptPrefix
from eft_eval.engine.passes import Passes
from eft_eval.engine.positions import (
    attention_reach,
    check_positions,
    counts_by_token,
    positions_of,
    same_scale_until,
)
from eft_eval.engine.prefixes import forests
from eft_eval.engine.products import quicken
from eft_eval.engine.recurrent import RecurrentState
from eft_eval.engine.states import RowState
from eft_eval.engine.trial import Trial
from eft_eval.engine.windows import layer_windows
from eft_eval.errors import ConfigError
from eft_eval.recipe.model import HeadDtype

__all__ = ["TransformersEngine"]


class TransformersEngine:
    """A loaded model; see `eft_eval.engine.engine.Engine`.

    Args:
        model: A causal language model of `transformers`, in evaluation mode.
        device: Where its inputs go.
        label: What errors call it.
        num_parameters: What its size counts as; None: its parameters.
        head_dtype: What its output layer is computed in.
    """

    def __init__(
        self,
        model: Any,
        device: torch.device,
        label: str,
        num_parameters: int | None = None,
        head_dtype: HeadDtype = "model",
    ) -> None:
        self.model, self.device, self.label = model, device, label
        self.num_parameters = num_parameters or int(model.num_parameters())
        self._head = set_head_dtype(model, head_dtype, label)
        if device.type == "cpu":
            quicken(model)
        self._passes = Passes(model, device, label)
        self._config = self._passes.text
        self._positions = positions_of(model)

    @property
    def dtype(self) -> torch.dtype:
        """What it computes in."""
        return self._passes.dtype

    @property
    def head_dtype(self) -> torch.dtype:
        """What its logits are computed in."""
        wide = self._head is not None and self._head.used
        return torch.float32 if wide and not self._passes.narrowed else self.dtype

    def logits(self, inputs: Sequence[Sequence[int]], lengths: Sequence[int]) -> tuple[Tensor, int]:
        """Return the logits after the last ``lengths[i]`` tokens of every row."""
        self._check_causal()
        return self._passes.logits(inputs, lengths)

    def last_logits(
        self, inputs: Sequence[Sequence[int]], lengths: Sequence[int]
    ) -> Iterator[tuple[int, Tensor]]:
        """Yield every row's number and its last logits; shared prefixes are read once."""
        self._check_causal()
        windows = layer_windows(self._config)
        shared = 0 if self._kept is None else self._kept.shared(inputs, lengths)
        if self._kept is not None and shared and self._trees_may(max(map(len, inputs))):
            yield from self._kept.logits(inputs, lengths, shared)
            return
        found = [] if windows is None else list(forests(inputs, lengths))
        longest = max((one.tokens.shape[1] for one in found), default=0)
        if not found or windows is None or not self._trees_may(longest):
            yield from ends_of(*self._passes.logits(inputs, lengths), inputs, lengths)
            return
        while found:
            forest = found.pop()
            logits = self._passes.tree_pass(forest, windows)
            for row, tree, places in forest.places:
                yield row, logits[tree, places]
            del logits  # before the next pass makes its own

    def _trees_may(self, nodes: int) -> bool:
        """Whether trees of so many nodes, or rows of so many tokens, give the same logits."""
        limit = same_scale_until(self._config)
        return (limit is None or limit >= nodes) and self._trees_fail is None

    @cached_property
    def _kept(self) -> KeptPrefix | None:
        windows = layer_windows(self._config)
        return None if windows is None else KeptPrefix(self._passes, windows)

    def _forget_prefix(self) -> None:
        if self._kept is not None:
            self._kept.forget()

    def check_positions(self, length: int) -> None:
        """Raise ConfigError where a row of so many tokens changes others, or has no positions."""
        if self._positions is not None and length > self._positions:
            raise ConfigError(
                f"{self.label}: it has positions for {self._positions} tokens, and {length} may "
                f"come; give max_length={self._positions}, or leave max_length out"
            )
        check_positions(self._config, self.label, length)

    def cannot_roll_back(self, length: int) -> str | None:
        """Return why the model cannot take tokens back within ``length`` tokens, or None.

        Whether the model works with a length per row, with its windows as masks where they are
        shorter than that, and with states of recurrent layers that are kept, is tried out once, on
        a few tokens, against a pass without a cache.
        """
        self._check_causal()
        reach = attention_reach(self._config)
        if reach == 0:
            if self._recurrent_fail is None:
                return None
            return f"some of its layers are no attention over all tokens ({self._recurrent_fail})"
        if (limit := same_scale_until(self._config)) is not None and limit < length:
            return f"beyond {limit} tokens it scales by the cache's length, and {length} may come"
        beyond = reach is not None and reach < length
        if beyond and self._windows_fail is not None:
            return (
                f"some of its layers see {reach} tokens back, and {length} may come "
                f"({self._windows_fail})"
            )
        if not beyond and self._rows_fail is not None:
            return (
                f"{self._passes.name} does not work with a cache length per row ({self._rows_fail})"
            )
        return None

    def row_state(self, rows: int, length: int) -> State:
        """Return a state whose rows join, leave and take tokens back one by one."""
        self._forget_prefix()
        reach = attention_reach(self._config)
        if reach == 0:
            return RecurrentState(self._passes, rows, length)
        windows = layer_windows(self._config) if reach is not None and reach < length else None
        return RowState(self._passes, rows, length, windows)

    def fixed_state(self, rows: int, length: int, most: int) -> FixedRowState | None:
        """Return a state of fixed shapes; None for models over several devices, or with states."""
        self._forget_prefix()
        places = set(map(str, (getattr(self.model, "hf_device_map", None) or {}).values()))
        reach = attention_reach(self._config)
        if reach == 0 or len(places) > 1:
            return None
        windows = layer_windows(self._config) if reach is not None and reach < length else None
        return FixedRowState(self._passes, rows, length, most, windows)

    def plain_way(self, length: int) -> PlainWay:
        """Return how it generates without taking tokens back; tried out once."""
        self._check_causal()
        limit = same_scale_until(self._config)
        return self._equal_way if limit is not None and limit < length else self._plain_way

    def plain_state(self, way: PlainWay) -> State:
        """Return a state of whole batches, which reads one token at a time and takes none back."""
        self._forget_prefix()
        if not way.cache:
            return RereadState(self._passes)
        return BatchState(self._passes, shrinks=way.shrinks)

    def _check_causal(self) -> None:
        if self._not_causal is not None:
            raise ConfigError(
                f"{self.label}: {self._passes.name} does not serve as a member: {self._not_causal}"
            )

    @cached_property
    def _trial(self) -> Trial:
        return Trial(self._passes)

    @property
    def depends_on_batch(self) -> bool:
        """Whether its logits were found to depend on the rest of a batch."""
        return self._trial.depends_on_batch

    @cached_property
    def _not_causal(self) -> str | None:
        return self._trial.causal()

    @cached_property
    def _rows_fail(self) -> str | None:
        return self._trial.rows(attention_reach(self._config))

    @cached_property
    def _windows_fail(self) -> str | None:
        return self._trial.windows()

    @cached_property
    def _recurrent_fail(self) -> str | None:
        return self._trial.recurrent()

    @cached_property
    def _trees_fail(self) -> str | None:
        return self._trial.trees()

    @cached_property
    def _plain_way(self) -> PlainWay:
        return self._trial.plain(mixed=counts_by_token(self._config))

    @cached_property
    def _equal_way(self) -> PlainWay:
        return self._trial.plain(mixed=False)
