"""The mathematics of emulated fine-tuning: pure functions on tensors, nothing about models.

Scores are log-weights that need no normalisation: a composite's next-token distribution is their
softmax. Equations and sections are those of Mitchell et al. 2023. ``V`` is the vocabulary.
"""

from __future__ import annotations

import hashlib
import math
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

_NEG_INF = float("-inf")


def add_term(
    total: Tensor, logits: Tensor, coefficient: float, *, looks: bool | None = None
) -> None:
    """Add ``coefficient * logits`` to ``total`` in place: one model's part of Eq. 5.

    Summing logits is summing log-probabilities: a model's normaliser is one number per timestep
    and falls out with ``Z``. A token that any model of the sum excludes (-inf) stays excluded, so
    -inf - -inf cannot become NaN, nor a vanishing reference an infinite weight.

    Args:
        total: Scores so far, shape [..., V], float32 or wider.
        logits: One model's logits or log-probabilities, shape [..., V], any float type.
        coefficient: The model's factor: 1 for the base, w and -w for a delta's two models.
        looks: Whether the host may look at the logits; None: on a CPU. A GPU would be waited for.
    """
    total.add_(logits, alpha=coefficient)
    if coefficient == 1.0:  # 1 * -inf is -inf as it stands
        return
    looks = total.device.type == "cpu" if looks is None else looks
    if looks and bool((logits.amin(dim=-1) > _NEG_INF).all()):
        return
    total.masked_fill_(torch.isneginf(logits), _NEG_INF)


def add_filtered_tuned(total: Tensor, tuned_log_probs: Tensor, top_p: float) -> None:
    """Turn ``log(p_base / p_reference)`` into filtered up-scaling scores, in place (section 4.4).

    Inside the tuned model's top-p set a token weighs ``p_tuned * p_base / p_reference``; outside
    it the ratio is 1 and the token keeps ``p_tuned``. Nothing is cut to zero.

    Args:
        total: ``log p_base - log p_reference``, both normalised, shape [..., V].
        tuned_log_probs: ``log p_tuned``, normalised, shape [..., V].
        top_p: Mass of the set, in (0, 1].
    """
    total.masked_fill_(~top_p_set(tuned_log_probs, top_p), 0.0)
    total.add_(tuned_log_probs)


def top_p_set(log_probs: Tensor, top_p: float) -> Tensor:
    """Return the mask of the smallest set of tokens whose mass reaches ``top_p``.

    Args:
        log_probs: Normalised log-probabilities, shape [..., V].
        top_p: Mass to reach, in (0, 1]; ties are taken in order of token id.

    Returns:
        Boolean mask, shape [..., V], with at least one token.
    """
    ordered, order = log_probs.sort(dim=-1, descending=True, stable=True)
    before = ordered.exp().cumsum(dim=-1) - ordered.exp()  # mass of the tokens ahead, [..., V]
    inside = before < top_p
    inside[..., 0] = True
    return torch.zeros_like(inside).scatter(-1, order, inside)


def top_k_set(scores: Tensor, top_k: int) -> Tensor:
    """Return the mask of the ``top_k`` highest scores (all of a tie at the border), [..., V]."""
    least = scores.topk(min(top_k, scores.shape[-1]), dim=-1).values[..., -1:]
    return scores >= least


def min_p_set(log_probs: Tensor, min_p: float) -> Tensor:
    """Return the mask of tokens with at least ``min_p`` times the best one's probability, [..., V].

    Args:
        log_probs: Log-probabilities up to a constant per row, shape [..., V].
        min_p: Share, in 0 to 1 (Nguyen et al. 2024).
    """
    least: Tensor = log_probs.amax(dim=-1, keepdim=True) + math.log(min_p)
    return log_probs >= least


def typical_set(log_probs: Tensor, mass: float) -> Tensor:
    """Return the mask of the tokens whose surprise is nearest to the entropy, [..., V].

    The smallest such set that reaches ``mass``, with all of a tie at the border (Meister et al.
    2023).

    Args:
        log_probs: Normalised log-probabilities, shape [..., V].
        mass: Mass to reach, in (0, 1].
    """
    probs = log_probs.exp()
    entropy = torch.special.entr(probs).sum(dim=-1, keepdim=True)
    distance = (-log_probs - entropy).abs()
    ordered, order = distance.sort(dim=-1, stable=True)
    mass_of = probs.gather(-1, order)
    inside = mass_of.cumsum(dim=-1) - mass_of < mass
    inside[..., 0] = True
    last = inside.sum(dim=-1, keepdim=True) - 1
    chosen: Tensor = distance <= ordered.gather(-1, last)
    return chosen


def total_variation(p: Tensor, q: Tensor) -> Tensor:
    """Return half the sum of |p - q|: the distance that the paper's Figure 7 colours by.

    Args:
        p: Probabilities, shape [..., V].
        q: Probabilities, the same shape.

    Returns:
        Distances in 0 to 1, shape [...].
    """
    return (p - q).abs().sum(dim=-1) / 2


def filtered_scores(
    scores: Tensor,
    *,
    temperature: float,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    typical_p: float | None = None,
) -> Tensor:
    """Return tempered scores with -inf outside the sets that the filters leave, [..., V].

    The arg max of them plus Gumbel noise is an exact sample of the tempered, filtered distribution
    (the Gumbel-max rule); the same noise gives the same sample, which couples decoding modes
    (footnote 4). The filters are applied in the order of transformers.

    Args:
        scores: Log-weights, shape [..., V].
        temperature: Above 0.
        top_k: Keep this many best tokens.
        top_p: Of these, keep the smallest set of this mass, in (0, 1].
        min_p: Of these, keep those of `min_p_set`.
        typical_p: Of these, keep those of `typical_set`.
    """
    tempered = scores / temperature
    if top_k is not None:
        tempered = tempered.masked_fill(~top_k_set(tempered, top_k), _NEG_INF)
    if top_p is not None and top_p < 1.0:
        inside = top_p_set(tempered.log_softmax(dim=-1), top_p)
        tempered = tempered.masked_fill(~inside, _NEG_INF)
    if min_p:
        tempered = tempered.masked_fill(~min_p_set(tempered, min_p), _NEG_INF)
    if typical_p is not None and typical_p < 1.0:
        inside = typical_set(tempered.log_softmax(dim=-1), typical_p)
        tempered = tempered.masked_fill(~inside, _NEG_INF)
    return tempered


def accept_or_resample(
    log_p: Tensor, log_q: Tensor, drafts: Tensor, coins: Tensor, noise: Tensor
) -> Tensor:
    """Return a sample of ``p`` per row, which is the draft wherever that can be (Leviathan 2023).

    A draft from ``q`` is accepted with probability min(1, p / q); else the token is a sample of
    max(p - q, 0), renormalised, which is never the draft.

    Args:
        log_p: Log-probabilities that are to be sampled, shape [rows, V].
        log_q: Log-probabilities that the drafts were sampled from, shape [rows, V].
        drafts: Token ids, shape [rows].
        coins: Uniform in (0, 1), shape [rows].
        noise: Standard Gumbel noise, shape [rows, V].
    """
    where = drafts[:, None]
    ratio = (log_p.gather(-1, where) - log_q.gather(-1, where))[:, 0]
    accepted = coins.log() < ratio
    residual = (log_p.exp() - log_q.exp()).clamp(min=0.0).log()
    # equal up to rounding, yet rejected: nothing is left over, and p itself will do
    residual = torch.where(residual.amax(dim=-1, keepdim=True) > _NEG_INF, residual, log_p)
    return torch.where(accepted, drafts, (residual + noise).argmax(dim=-1))


def request_seed(run_seed: int, prompt: str, repeat: int) -> int:
    """Return the 64-bit seed of one response: of the run's seed, the prompt and the repeat."""
    return hash_of(f"{run_seed}\0{repeat}\0{prompt}")


def hash_of(text: str) -> int:
    """Return 64 bits of a text's SHA-256 as a signed number, the same in every process."""
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


# Constants of the splitmix64 generator (Steele, Lea and Flood 2014), as signed 64-bit numbers.
_GAMMA = 0x9E3779B97F4A7C15 - 2**64
_MIX_1 = 0xBF58476D1CE4E5B9 - 2**64
_MIX_2 = 0x94D049BB133111EB - 2**64
_CACHED_TOKENS = 1 << 15


def gumbel_noise(seeds: Tensor, timesteps: Tensor, size: int) -> Tensor:
    """Return Gumbel noise that is a function of (seed, timestep, token id) and nothing else.

    A counter-based generator: no state, so a row's noise depends neither on its place in a batch
    nor on the batch, the block size or the device (up to the last bits of ``log``).

    Args:
        seeds: Seed of each row's request, int64, shape [rows].
        timesteps: Number of response tokens before this one, int64, shape [rows].
        size: Number of tokens V.

    Returns:
        Noise, float32, shape [rows, V].
    """
    rows = noise_streams(seeds, timesteps)
    counters = _token_counters(size, seeds.device)
    noise = torch.empty(len(rows), size, dtype=torch.float32, device=seeds.device)
    # a CPU works in pieces that fit its cache; all rows at once is over ten times slower
    piece = max(1, _CACHED_TOKENS // size) if seeds.device.type == "cpu" else max(1, len(rows))
    for start in range(0, len(rows), piece):
        noise[start : start + piece] = _gumbel_of(rows[start : start + piece, None] + counters)
    return noise


def gumbel_noise_of(seeds: Tensor, timesteps: Tensor, ids: Tensor) -> Tensor:
    """Return the Gumbel noise of some tokens only, float32; see `gumbel_noise`.

    Args:
        seeds: Seed of each row's request, int64, shape [rows].
        timesteps: Number of response tokens before this one, int64, shape [rows].
        ids: Token ids, int64, shape [rows, n].

    Returns:
        Noise, float32, shape [rows, n].
    """
    return noise_of_streams(noise_streams(seeds, timesteps)[:, None], ids)


def noise_streams(seeds: Tensor, timesteps: Tensor) -> Tensor:
    """Return what tells the noise of rows apart, int64, in the shape of ``timesteps``."""
    return _mix_(seeds + _GAMMA * (timesteps + 1))


def noise_of_streams(streams: Tensor, ids: Tensor) -> Tensor:
    """Return the Gumbel noise of tokens, float32.

    Args:
        streams: From `noise_streams`, in a shape that meets that of ``ids``.
        ids: Token ids, int64.
    """
    return _gumbel_of(streams + (ids + 1) * _GAMMA)


def high_hashes(
    streams: Tensor, size: int, least: int, piece: int
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return rows and ids of the tokens whose hash in `gumbel_noise` is at least ``least``.

    Args:
        streams: From `noise_streams`, on a CPU, shape [rows].
        size: Number of tokens V.
        least: Unsigned 64 bits, of which the last 33 are 0: these are compared before the last step
            of the hash, which does not change the others.
        piece: Tokens at a time.
    """
    counters = _token_counters(size, streams.device).numpy().view(np.uint64)
    first, second = np.uint64(_MIX_1 % 2**64), np.uint64(_MIX_2 % 2**64)
    border, thirty, twenty_seven = np.uint64(least), np.uint64(30), np.uint64(27)
    values, shifted = np.empty((2, min(piece, size)), np.uint64)
    rows, ids = [], []
    for row, stream in enumerate(streams.numpy().view(np.uint64)):
        for start in range(0, size, piece):
            part = counters[start : start + piece]
            value, other = values[: len(part)], shifted[: len(part)]
            np.add(part, stream, out=value)
            np.bitwise_xor(value, np.right_shift(value, thirty, out=other), out=value)
            np.multiply(value, first, out=value)
            np.bitwise_xor(value, np.right_shift(value, twenty_seven, out=other), out=value)
            np.multiply(value, second, out=value)
            found = np.flatnonzero(value >= border)
            ids.append(found + start)
            rows.append(np.full(len(found), row))
    return np.concatenate(rows), np.concatenate(ids)


def _gumbel_of(counters: Tensor) -> Tensor:
    # 52 bits, centred: the largest value is still below 1 in float64, so the noise is finite
    uniform = _shift_right(_mix_(counters), 12).to(torch.float64).add_(0.5).mul_(2.0**-52)
    return uniform.log_().neg_().log_().neg_().to(torch.float32)


def uniform_noise(seeds: Tensor, timesteps: Tensor) -> Tensor:
    """Return numbers in (0, 1) that are a function of (seed, timestep), float64, shape [rows]."""
    bits = _mix_(_mix_(seeds + _GAMMA * (timesteps + 1)))
    return _shift_right(bits, 12).to(torch.float64).add_(0.5).mul_(2.0**-52)


@cache  # for good: what is recorded on a GPU goes on reading them
def _token_counters(size: int, device: torch.device) -> Tensor:
    return torch.arange(1, size + 1, dtype=torch.int64, device=device) * _GAMMA


def _shift_right(value: Tensor, by: int) -> Tensor:
    """Shift as unsigned numbers: int64 would drag the sign along."""
    return (value >> by).bitwise_and_((1 << (64 - by)) - 1)


def _mix_(value: Tensor) -> Tensor:
    """Scramble 64 bits in place (splitmix64); int64 wraps around exactly as uint64 does."""
    value.bitwise_xor_(_shift_right(value, 30)).mul_(_MIX_1)
    value.bitwise_xor_(_shift_right(value, 27)).mul_(_MIX_2)
    return value.bitwise_xor_(_shift_right(value, 31))
