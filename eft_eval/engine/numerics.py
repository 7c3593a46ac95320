"""Whether a model's logits depend on what else is in a batch, as those of 8-bit weights do.

Some quantised layers choose their scales over all rows of a pass. Then no two shapes of a batch
give equal logits, and a difference is no sign that a cache does not work.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

__all__ = ["batch_spread", "only_numerics", "root_mean_square"]

_Rows = Sequence[Sequence[int]]
_MOST = 3.0  # times the spread: a pass over other tokens is one more draw of it


def root_mean_square(found: Tensor, expected: Tensor) -> float:
    """Return the root mean square difference in standard deviations of the expected logits."""
    expected = expected.to(found.device).double()
    apart = (found.double() - expected).square().mean().sqrt()
    return float(apart / expected.std())


def batch_spread(
    logits: Callable[[_Rows, Sequence[int]], tuple[Tensor, int]], rows: _Rows, last: int
) -> float:
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


def only_numerics(apart: float, spread: float, tolerance: float) -> bool:
    """Whether a difference is no larger than what other batches give without any cache.

    Args:
        apart: Of a pass with a cache, by `root_mean_square`.
        spread: By `batch_spread`.
        tolerance: What is taken as equal for models that do not depend on their batch.
    """
    return spread > tolerance / 10 and apart <= _MOST * spread
