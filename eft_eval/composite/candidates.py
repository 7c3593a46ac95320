"""The few tokens that filters leave, found without sorting the vocabulary; the best token.

For a CPU, where a full sort, or an arg max, of a large vocabulary costs as much as a small model.
``V`` is the vocabulary.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from eft_eval.composite.mathematics import top_p_set, typical_set

__all__ = ["Candidates", "best_token", "candidates", "how_many", "margin_of", "real_choices"]

_FEW = (256, 4096)
"""Tokens that are looked at first, and where these do not hold all that may be chosen."""
_BLOCK = 256
_SMALL = 32
_NEG_INF = float("-inf")


class Candidates(NamedTuple):
    """The best tokens of each row, after filters.

    Attributes:
        ids: Ascending, int64, shape [rows, few].
        scores: Tempered, -inf where a filter leaves a token out, shape [rows, few].
        proven: Whether nothing outside of ``ids`` passes the filters, bool, shape [rows].
    """

    ids: Tensor
    scores: Tensor
    proven: Tensor


def how_many(
    vocabulary: int, top_k: int | None, top_p: float | None, min_p: float | None
) -> tuple[int, ...]:
    """Return how many of the best tokens to look at, one number after the other.

    Empty where these filters do not leave few tokens, or the vocabulary is small.
    """
    filtered = top_k is not None or (top_p is not None and top_p < 1.0) or bool(min_p)
    return tuple(few for few in _FEW if filtered and (top_k or 0) < few <= vocabulary / 8)


def candidates(
    scores: Tensor,
    few: int,
    *,
    temperature: float,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    typical_p: float | None = None,
) -> Candidates:
    """Return the tokens that the filters leave, as `filtered_scores` has them, where few hold them.

    Args:
        scores: Log-weights, shape [rows, V].
        few: How many of the best tokens are looked at, up to V; see `how_many`.
        temperature: Above 0.
        top_k: Keep this many best tokens (all of a tie at the border), fewer than FEW.
        top_p: Of these, keep the smallest set of this mass, in (0, 1].
        min_p: Of these, keep those with this share of the best one's probability.
        typical_p: Of these, keep the tokens of typical surprise with this mass.
    """
    tempered = scores / temperature
    best, indices = _best_few(tempered, few)
    border = best[:, -1:]  # nothing outside is above
    ids = indices.sort(dim=-1).values
    kept = tempered.gather(-1, ids)
    proven = torch.zeros_like(border, dtype=torch.bool)
    if top_k is not None:
        least = best[:, top_k - 1 : top_k]
        kept = kept.masked_fill(kept < least, _NEG_INF)
        proven = border < least
    if top_p is not None and top_p < 1.0:
        if top_k is not None:
            log_probs = kept.log_softmax(dim=-1)
        else:
            log_probs = tempered.log_softmax(dim=-1).gather(-1, ids)
        inside = top_p_set(log_probs, top_p)
        if top_k is None:
            # those that tie with the border may have equals outside
            ends = log_probs == log_probs.amin(dim=-1, keepdim=True)
            proven = ~(inside & ends).any(dim=-1, keepdim=True)
        kept = kept.masked_fill(~inside, _NEG_INF)
    if min_p:
        least = best[:, :1] + math.log(min_p)
        kept = kept.masked_fill(kept < least, _NEG_INF)
        if top_k is None:
            proven = proven | (border < least)
    if typical_p is not None and typical_p < 1.0:
        kept = kept.masked_fill(~typical_set(kept.log_softmax(dim=-1), typical_p), _NEG_INF)
    return Candidates(ids, kept, proven[:, 0])


def _best_few(scores: Tensor, few: int) -> tuple[Tensor, Tensor]:
    """Return the values and ids of the ``few`` highest scores per row, descending.

    They lie in the blocks with the ``few`` highest maxima, which are looked for first.
    """
    count, size = scores.shape
    blocks = size // _SMALL
    if scores.device.type != "cpu" or 2 * few > blocks:
        return scores.topk(few, dim=-1)
    body = scores[:, : blocks * _SMALL].view(count, blocks, _SMALL)
    chosen = body.amax(dim=-1).topk(few, dim=-1, sorted=False).indices
    within = body.gather(1, chosen[..., None].expand(-1, -1, _SMALL)).flatten(1)
    ids = (chosen[..., None] * _SMALL + torch.arange(_SMALL)).flatten(1)
    rest = torch.arange(blocks * _SMALL, size).expand(count, -1)
    within = torch.cat([within, scores[:, blocks * _SMALL :]], dim=-1)
    values, places = within.topk(few, dim=-1)
    return values, torch.cat([ids, rest], dim=-1).gather(-1, places)


def best_token(scores: Tensor) -> Tensor:
    """Return the first of the highest scores per row, as arg max does, shape [...].

    On a CPU the maximum of blocks is found first, which is many times faster.

    Args:
        scores: Shape [..., V].
    """
    blocks = scores.shape[-1] // _BLOCK
    if scores.device.type != "cpu" or blocks < 2:
        return scores.argmax(dim=-1)
    shape = *scores.shape[:-1], blocks, _BLOCK
    body = scores[..., : blocks * _BLOCK].reshape(shape)
    block = body.amax(dim=-1).argmax(dim=-1, keepdim=True)
    within = body.gather(-2, block[..., None].expand(*block.shape, _BLOCK))[..., 0, :]
    place = within.argmax(dim=-1, keepdim=True)
    found = block * _BLOCK + place
    rest = scores[..., blocks * _BLOCK :]
    if rest.shape[-1]:
        last = rest.argmax(dim=-1, keepdim=True)
        # a NaN anywhere is the highest, as for arg max
        highest, other = within.gather(-1, place), rest.gather(-1, last)
        later = (other > highest) | (other.isnan() & ~highest.isnan())
        found = torch.where(later, blocks * _BLOCK + last, found)
    return found[..., 0]


def real_choices(scores: Tensor, chosen: Tensor) -> Tensor:
    """Return whether chosen tokens have a real score, and all others one or -inf, shape [...].

    Filters leave NaN out, and so would choose among what is left.

    Args:
        scores: Shape [..., V].
        chosen: Token ids, shape [...].
    """
    own = scores.gather(-1, chosen[..., None])[..., 0]
    return own.isfinite() & scores.amax(dim=-1).isfinite()  # NaN is the highest of all


def margin_of(values: Tensor) -> Tensor:
    """Return how far the best value is above the second best one, shape [rows].

    Args:
        values: Shape [rows, at least 2].
    """
    best = best_token(values)[:, None]
    others: Tensor = values.scatter(-1, best, _NEG_INF)
    return values.gather(-1, best)[:, 0] - others.amax(dim=-1)
