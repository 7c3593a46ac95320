"""Choosing tokens in plain and speculative decoding: coupled noise or rejection sampling."""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from eft_eval.composition import (
    accept_or_resample,
    choose_tokens,
    filtered_scores,
    gumbel_noise,
    uniform_noise,
)
from eft_eval.decoding.requests import SamplingRule

__all__ = ["Chooser", "Noise", "chooser_for"]

# Streams of noise that must not know of each other; added to a request's seed.
_DRAFTS, _COINS = 0x5851F42D4C957F2D, 0x14057B7EF767814F


class Noise(NamedTuple):
    """Of one round.

    Attributes:
        choice: Gumbel noise of the composite's own choices, [rows, positions, V].
        draft: Gumbel noise of the drafts, the same shape.
        coins: Uniform numbers that decide on acceptance, [rows, positions].
    """

    choice: Tensor
    draft: Tensor
    coins: Tensor | None


class Chooser(Protocol):
    """How the composite's tokens and the drafts are chosen."""

    def noise(self, seeds: Tensor, first: Tensor, positions: int, vocabulary: int) -> Noise | None:
        """Return the noise of a round that begins at timesteps ``first``, [rows]."""

    def draft(self, logits: Tensor, noise: Noise | None, position: int) -> Tensor:
        """Return the draft member's tokens, [rows]."""

    def verify(
        self,
        scores: Tensor,
        draft_logits: Tensor,
        draft: Tensor,
        noise: Noise | None,
        position: int,
    ) -> Tensor:
        """Return the composite's tokens at a drafted position, [rows]."""

    def choose(self, scores: Tensor, noise: Noise | None, position: int) -> Tensor:
        """Return the composite's tokens where nothing was drafted, [rows]."""


def chooser_for(sampling: Literal["coupled", "rejection"], rule: SamplingRule) -> Chooser:
    """Return the way of choosing; without randomness there is one only."""
    if sampling == "rejection" and rule.temperature > 0:
        return _Rejection(rule)
    return _Coupled(rule)


class _Coupled:
    """Draft and composite share their noise, so that both choose alike where they think alike.

    Samples are those of plain decoding, token by token (footnote 4).
    """

    def __init__(self, rule: SamplingRule) -> None:
        self._rule = rule

    def noise(self, seeds: Tensor, first: Tensor, positions: int, vocabulary: int) -> Noise | None:
        if self._rule.temperature == 0:
            return None
        shared = _gumbel(seeds, first, positions, vocabulary)
        return Noise(shared, shared, None)

    def draft(self, logits: Tensor, noise: Noise | None, position: int) -> Tensor:
        own = noise and noise.draft[:, position].to(logits.device)
        return choose_tokens(_at_least_float32(logits), own, **self._rule._asdict())

    def verify(
        self,
        scores: Tensor,
        draft_logits: Tensor,
        draft: Tensor,
        noise: Noise | None,
        position: int,
    ) -> Tensor:
        return self.choose(scores, noise, position)

    def choose(self, scores: Tensor, noise: Noise | None, position: int) -> Tensor:
        own = noise and noise.choice[:, position]
        return choose_tokens(scores, own, **self._rule._asdict())


class _Rejection:
    """Accept a draft with probability min(1, p / q), else sample from max(p - q, 0).

    Exact in distribution (Leviathan et al. 2023); the samples are not those of plain decoding.
    """

    def __init__(self, rule: SamplingRule) -> None:
        self._rule = rule

    def noise(self, seeds: Tensor, first: Tensor, positions: int, vocabulary: int) -> Noise | None:
        timesteps = first[:, None] + torch.arange(positions, device=first.device)
        coins = uniform_noise(
            (seeds + _COINS)[:, None].expand_as(timesteps).reshape(-1), timesteps.reshape(-1)
        )
        return Noise(
            _gumbel(seeds, first, positions, vocabulary),
            _gumbel(seeds + _DRAFTS, first, positions, vocabulary),
            coins.view_as(timesteps),
        )

    def draft(self, logits: Tensor, noise: Noise | None, position: int) -> Tensor:
        assert noise is not None
        own = noise.draft[:, position].to(logits.device)
        return choose_tokens(_at_least_float32(logits), own, **self._rule._asdict())

    def verify(
        self,
        scores: Tensor,
        draft_logits: Tensor,
        draft: Tensor,
        noise: Noise | None,
        position: int,
    ) -> Tensor:
        assert noise is not None
        assert noise.coins is not None
        rule = self._rule._asdict()
        q = filtered_scores(_at_least_float32(draft_logits).to(scores.device), **rule)
        return accept_or_resample(
            filtered_scores(scores, **rule).log_softmax(dim=-1),
            q.log_softmax(dim=-1),
            draft,
            noise.coins[:, position],
            noise.choice[:, position],
        )

    def choose(self, scores: Tensor, noise: Noise | None, position: int) -> Tensor:
        assert noise is not None
        return choose_tokens(scores, noise.choice[:, position], **self._rule._asdict())


def _gumbel(seeds: Tensor, first: Tensor, positions: int, vocabulary: int) -> Tensor:
    timesteps = first[:, None] + torch.arange(positions, device=first.device)
    rows = seeds[:, None].expand_as(timesteps)
    noise = gumbel_noise(rows.reshape(-1), timesteps.reshape(-1), vocabulary)
    return noise.view(*timesteps.shape, vocabulary)


def _at_least_float32(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
