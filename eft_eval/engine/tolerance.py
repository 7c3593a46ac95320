"""Whether logits of a model are those of a pass without a cache, or differ by its numerics alone.

Where weights or activations are rounded, no two shapes of a pass give equal logits; how much they
differ without any cache is measured once, and told.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from eft_eval.engine.numerics import (
    NUDGE,
    batch_spread,
    difference,
    nudge_spread,
    only_numerics,
    root_mean_square,
)
from eft_eval.engine.passes import Passes
from eft_eval.streams import logger

__all__ = ["Tolerance"]

log = logger("eft_eval")

_ROUNDS = 50  # times a nudge: activations are rounded, not only weights
_ROUNDED = 0.5  # standard deviations that rounding alone may make
_AHEAD = 0.1  # standard deviations by which later tokens may move what is not rounded


class Tolerance:
    """What logits of one model may differ by.

    Args:
        model: What runs the passes.
        rows: Of tokens, by which it is measured how much logits depend on the shape of a pass.
        last: Positions of every row that are compared for that.

    Attributes:
        sound: Whether the model's layers in float32 have passed the trial that runs.
        depends_on_batch: Whether logits were found to depend on the rest of a batch.
    """

    def __init__(self, model: Passes, rows: Sequence[Sequence[int]], last: int) -> None:
        self._model, self._rows, self._last = model, rows, last
        self.sound = False
        self.depends_on_batch = False

    def apart(self, found: Tensor, expected: Tensor) -> str | None:
        """Say how far logits are from the expected ones; None where numerics are all there is."""
        most = self._most
        apart = difference(found, expected)
        if apart <= most or self._only_rounded(apart) or self._only_numerics(found, expected, most):
            return None
        return f"its logits differ from a pass without a cache by {apart:.2g} standard deviations"

    def depends_on_later(self, within: Tensor, padded: Tensor, alone: Tensor) -> str | None:
        """Say how far a token's logits are moved by later ones; None where by numerics at most.

        Args:
            within: Its logits in a row that goes on.
            padded: In a row that ends with it, beside a longer one.
            alone: In a row that ends with it.
        """
        apart = max(difference(within, alone), difference(padded, alone))
        most = _AHEAD if self._model.exact else _ROUNDED
        if not apart > most:  # NaN is told where it is met
            return None
        square = max(root_mean_square(within, alone), root_mean_square(padded, alone))
        if only_numerics(square, self._batch_spread, 1e-3):  # as rows of one length differ, too
            return None
        return f"what it says of a token depends on later ones (by {apart:.2g} standard deviations)"

    @torch.inference_mode()
    def measure(self) -> None:
        """Note a dependence of a quantised model's logits that its type's tolerance would hide."""
        exact = self._model.dtype in (torch.float32, torch.float64)
        rounds = exact and self._nudge_spread > _ROUNDS * NUDGE
        if rounds or only_numerics(0.0, self._batch_spread, self._most):
            self._note_dependence()

    def _only_rounded(self, apart: float) -> bool:
        """Whether float32 has shown no fault, and rounding may make this difference."""
        if not (self.sound and apart <= _ROUNDED):  # NaN is no rounding
            return False
        if self._model.quantized:
            self._note_dependence()
        return True

    def _only_numerics(self, found: Tensor, expected: Tensor, most: float) -> bool:
        if not only_numerics(root_mean_square(found, expected), self._spread, most):
            return False
        self._note_dependence()
        return True

    def _note_dependence(self) -> None:
        if not self.depends_on_batch:
            self.depends_on_batch = True
            log.warning(
                "%s: its logits depend on the rest of a batch (by %.2g standard deviations, without"
                " any cache, too): responses change a little with batch_size and block",
                self._model.label, self._spread,
            )  # fmt: skip

    @property
    def _most(self) -> float:
        return 1e-3 if self._model.dtype in (torch.float32, torch.float64) else 0.1

    @functools.cached_property
    def _batch_spread(self) -> float:
        return batch_spread(self._model.logits, self._rows, self._last)

    @functools.cached_property
    def _spread(self) -> float:
        """How much logits without a cache depend on the other rows of a batch, or on last bits."""
        if self._model.exact:
            return self._batch_spread
        nudges = self._nudge_spread if self._model.quantized else self._nudge_spread / 3
        return max(self._batch_spread, nudges)

    @functools.cached_property
    def _nudge_spread(self) -> float:
        return nudge_spread(self._model.model, self._model.logits, self._rows, self._last)
