"""The best tokens of a large vocabulary under Gumbel noise, with the noise of few tokens only.

For a CPU, where two logarithms for every token cost more than a small model's pass. A token can
only win if its noise is among the highest, or its score near the best one: all others are left out
by a bound, so that winners and their values are those of the whole vocabulary. ``V`` is its size.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from eft_eval.composite.mathematics import high_hashes, noise_of_streams

__all__ = ["LARGE", "LoudTokens", "Winners", "loud_tokens", "winners"]

LARGE = 8192
"""From this vocabulary on it pays."""
_LOUD = 256  # tokens per row whose noise is made in any case, on average
_BLOCK = 256
_FIRST = 8  # blocks whose best tokens are tried first
_PIECE = 16384  # hashes that fit a core's cache
_SLACK = 1e-3  # float32 rounding of noise and sums

Array = np.ndarray[Any, Any]


class LoudTokens(NamedTuple):
    """The tokens with the highest noise of each row.

    Attributes:
        rows: Ascending, int64, shape [n].
        ids: Ascending within a row, int64, shape [n].
        noise: float32, shape [n].
        ceiling: What no other token's noise exceeds.
    """

    rows: Array
    ids: Array
    noise: Array
    ceiling: float


class Winners(NamedTuple):
    """The best token of each row.

    Attributes:
        ids: The first of the best, int64, shape [rows].
        values: The best and the second best value, shape [rows, 2].
    """

    ids: Tensor
    values: Tensor


def loud_tokens(streams: Tensor, size: int) -> LoudTokens:
    """Return the tokens with the highest `gumbel_noise`, found by their hashes alone.

    Args:
        streams: Of the rows, from `noise_streams`, on a CPU.
        size: Number of tokens V.
    """
    # the last step of the hash leaves its first 31 bits as they are, and noise rises with them
    least = int((1 - _LOUD / size) * 2**31) << 33
    rows, ids = high_hashes(streams, size, least, _PIECE)
    ceiling = -math.log(-math.log(least * 2.0**-64))
    return LoudTokens(rows, ids, _noise(streams, rows, ids), ceiling)


def winners(
    scores: Tensor, temperature: float, streams: Tensor, loud: LoudTokens
) -> Winners | None:
    """Return the best tokens of ``scores / temperature`` plus noise; None where few do not tell.

    Args:
        scores: Log-weights, on a CPU, shape [rows, V], V at least LARGE.
        temperature: Above 0.
        streams: As for `loud_tokens`.
        loud: Of these rows.
    """
    count, size = scores.shape
    full = size // _BLOCK
    body = scores[:, : full * _BLOCK].view(count, full, _BLOCK)
    # small arrays from here on, which NumPy handles in less time
    highest = body.amax(dim=-1).numpy()
    if not np.isfinite(highest.max(axis=-1)).all():  # NaN is the highest of all
        return None
    blocks, every = body.numpy(), np.arange(count)[:, None]
    rest = scores.numpy()[:, full * _BLOCK :] / temperature
    tried = highest.argpartition(-_FIRST, axis=-1)[:, -_FIRST:]
    ids = tried * _BLOCK + blocks[every, tried].argmax(axis=-1)
    known = highest[every, tried] / temperature + _noise(streams, every, ids)
    # the two best tokens have at least this, and of those that are not loud, this score
    reached = np.partition(known, -2, axis=-1)[:, -2]
    least = reached - loud.ceiling - _SLACK
    if not np.isfinite(least).all() or np.isnan(rest).any():
        return None
    row, block = (highest / temperature >= least[:, None]).nonzero()
    if len(row) * 4 > count * full:
        return None
    near = blocks[row, block] / temperature
    which, place = (near >= least[row, None]).nonzero()
    end, far = (rest >= least[:, None]).nonzero()
    rows = np.concatenate([row[which], end])
    ids = np.concatenate([block[which] * _BLOCK + place, full * _BLOCK + far])
    heard = np.concatenate([near[which, place], rest[end, far]]) + _noise(streams, rows, ids)
    quiet = scores.numpy()[loud.rows, loud.ids] / temperature
    other = quiet < least[loud.rows]  # those above are among the near ones
    return _best(
        np.concatenate([rows, loud.rows[other]]),
        np.concatenate([ids, loud.ids[other]]),
        np.concatenate([heard, (quiet + loud.noise)[other]]),
        count,
    )


def _noise(streams: Tensor, rows: Array, ids: Array) -> Array:
    """Return the noise of tokens, float32; the shapes of ``rows`` and ``ids`` meet."""
    own = streams[torch.from_numpy(rows)]
    return noise_of_streams(own, torch.from_numpy(ids)).numpy()


def _best(rows: Array, ids: Array, values: Array, count: int) -> Winners:
    """Return the winners among distinct tokens of ``count`` rows, each given with its row."""
    best, second = np.full((2, count), -np.inf, values.dtype)
    chosen = np.full(count, np.iinfo(np.int64).max)
    np.maximum.at(best, rows, values)
    top = values == best[rows]
    np.minimum.at(chosen, rows[top], ids[top])
    others = ids != chosen[rows]
    np.maximum.at(second, rows[others], values[others])
    return Winners(torch.from_numpy(chosen), torch.from_numpy(np.stack([best, second], axis=-1)))
