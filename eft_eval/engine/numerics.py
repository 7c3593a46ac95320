"""Whether a model's logits depend on what else is in a pass, as those of 8-bit weights do.

Some quantised layers choose their scales over all rows of a pass; others round activations, token
by token, so that the last bits of a sum, which depend on a pass's shape, become whole steps. Then
no two shapes of a pass give equal logits, and a difference is no sign that a cache does not work.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = [
    "NUDGE",
    "batch_spread",
    "difference",
    "nudge_spread",
    "only_numerics",
    "root_mean_square",
]

NUDGE = 1e-4
"""Relative, if not the last bit of the type: far above that of float32, below a step of 8 bits."""

_Rows = Sequence[Sequence[int]]
Logits = Callable[[_Rows, Sequence[int]], tuple[Tensor, int]]
_MOST = 3.0  # times the spread: a pass over other tokens is one more draw of it


def root_mean_square(found: Tensor, expected: Tensor) -> float:
    """Return the root mean square difference in standard deviations of the expected logits."""
    expected = expected.to(found.device).double()
    apart = (found.double() - expected).square().mean().sqrt()
    return float(apart / expected.std())


def difference(found: Tensor, expected: Tensor) -> float:
    """Return the largest difference of logits, in standard deviations of the expected ones."""
    expected = expected.to(found.device)
    return float((found - expected).double().abs().max() / expected.double().std())


def batch_spread(logits: Logits, rows: _Rows, last: int) -> float:
    """Return how much logits without a cache differ between rows alone and in batches.

    Args:
        logits: Of a model, as `eft_eval.engine.engine.Engine.logits`.
        rows: Token sequences.
        last: Positions to compare, from the end of every row.

    Returns:
        The largest `root_mean_square` of some shapes of a batch.
    """
    found = []
    for row in rows:
        # rows of one length: what a model makes of padding is another question
        others = [[(3 * token + shift) % (max(row) + 1) for token in row] for shift in (1, 5)]
        alone = logits([row], [last])[0][0, -last:]
        for batch in ([row, others[0]], [row, *others]):
            together = logits(batch, [last] * len(batch))[0][0, -last:]
            found.append(root_mean_square(together, alone))
    return max(found)


def nudge_spread(model: Any, logits: Logits, rows: _Rows, last: int) -> float:
    """Return how much logits move with the last bits of what a model reads.

    Args:
        model: Of `transformers`.
        logits: Its own, as `eft_eval.engine.engine.Engine.logits`.
        rows: Token sequences.
        last: Positions to compare, from the end of every row.

    Returns:
        The largest `root_mean_square` of some changes of the embeddings by `NUDGE`.
    """

    def nudged(_: object, inputs: object, output: Tensor) -> Tensor:
        signs = torch.arange(output.shape[-1], device=output.device) // period % 2 * 2 - 1
        relative = max(NUDGE, torch.finfo(output.dtype).eps)
        return output * (1 + signs.to(output.dtype) * relative)

    found, period = [], 1
    for row in rows:
        before = logits([row], [last])[0][0, -last:]
        hook = model.get_input_embeddings().register_forward_hook(nudged)
        try:
            for period in (1, 2, 3):  # noqa: B007  # of the hook
                after = logits([row], [last])[0][0, -last:]
                found.append(root_mean_square(after, before))
        finally:
            hook.remove()
    return max(found)


def only_numerics(apart: float, spread: float, tolerance: float) -> bool:
    """Whether a difference is no larger than what other shapes give without any cache.

    Args:
        apart: Of a pass with a cache, by `root_mean_square`.
        spread: By `batch_spread`, or `nudge_spread`.
        tolerance: What is taken as equal for models that do not depend on their batch.
    """
    return spread > tolerance / 10 and apart <= _MOST * spread
