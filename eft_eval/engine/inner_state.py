"""The state of models that keep it in their own modules (RecurrentGemma), taken out between passes.

Otherwise a second batch, or a second prompt form of the same member, would read on from the first.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers.cache_utils import DynamicCache

__all__ = ["InnerState", "keeps_inside"]

_NAMES = ("recurrent_states", "conv1d_state")


def keeps_inside(model: Any) -> bool:
    """Whether a model's modules hold what it has read."""
    return any(hasattr(module, name) for module in model.modules() for name in _NAMES)


class InnerState:
    """What a model has read of some rows: the tensors of its modules, and its attention's cache.

    Args:
        model: Its modules hold nothing after this.
        rows: Rows of the batch.
    """

    def __init__(self, model: Any, rows: int) -> None:
        self.attention = DynamicCache(config=model.config)
        self.states: list[Tensor | None] = []
        self._places = [
            (module, name) for module in model.modules() for name in _NAMES if hasattr(module, name)
        ]
        model.base_model._setup_cache(model.config, rows, model.device, model.dtype)
        self.collect()

    def install(self) -> None:
        """Put the state into the modules, before a pass."""
        for (module, name), state in zip(self._places, self.states, strict=True):
            setattr(module, name, state)

    def collect(self) -> None:
        """Take the state out of the modules, after a pass."""
        self.states = [getattr(module, name) for module, name in self._places]
        for module, name in self._places:
            setattr(module, name, None)

    def select(self, rows: Tensor) -> None:
        """Keep these rows, in this order."""
        self.attention.batch_select_indices(rows)
        self.states = [state if state is None else state[rows] for state in self.states]
