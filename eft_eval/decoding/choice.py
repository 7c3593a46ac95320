"""Choosing tokens in plain and speculative decoding: coupled noise or rejection sampling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor

from eft_eval.composite.candidates import best_token, candidates, how_many
from eft_eval.composite.mathematics import (
    accept_or_resample,
    filtered_scores,
    gumbel_noise,
    gumbel_noise_of,
    noise_streams,
    uniform_noise,
)
from eft_eval.composite.winners import LARGE, LoudTokens, Winners, loud_tokens, winners
from eft_eval.decoding.requests import SamplingRule

__all__ = ["Chooser", "Noise", "chooser_for"]

# Streams of noise that must not know of each other; added to a request's seed.
_DRAFTS, _COINS = 0x5851F42D4C957F2D, 0x14057B7EF767814F


class Noise:
    """The noise of a batch's next positions, made when it is asked for.

    Args:
        seeds: Of each row's request, int64, [rows].
        first: Each row's next timestep, int64, [rows].
        vocabulary: Tokens.
        made: Gumbel noise that is there already, by position and stream.
    """

    def __init__(
        self,
        seeds: Tensor,
        first: Tensor,
        vocabulary: int,
        made: Mapping[tuple[int, int], Tensor] | None = None,
    ) -> None:
        self._seeds, self._first, self._vocabulary = seeds, first, vocabulary
        self._gumbel: dict[tuple[int, int], Tensor] = dict(made or {})
        self._loud: dict[tuple[int, int], tuple[Tensor, LoudTokens]] = {}
        self._flat = False

    def gumbel(self, position: int, stream: int = 0) -> Tensor:
        """Return standard Gumbel noise, float32, [rows, V]; a position's is made once."""
        key = position, stream
        if key not in self._gumbel:
            self._gumbel[key] = gumbel_noise(
                self._seeds + stream, self._first + position, self._vocabulary
            )
        return self._gumbel[key]

    def gumbel_of(self, ids: Tensor, position: int, stream: int = 0) -> Tensor:
        """Return the noise of some tokens, float32, in the shape of ``ids``, [rows, n]."""
        return gumbel_noise_of(self._seeds + stream, self._first + position, ids)

    def winners(
        self, scores: Tensor, temperature: float, position: int, stream: int = 0
    ) -> Winners | None:
        """Return the best tokens under this noise; None where it takes that of all tokens.

        What was flat at one position is not tried at those after it.
        """
        if self._flat or self._seeds.device != scores.device:
            return None
        key = position, stream
        if key not in self._loud:
            streams = noise_streams(self._seeds + stream, self._first + position)
            self._loud[key] = streams, loud_tokens(streams, self._vocabulary)
        found = winners(scores, temperature, *self._loud[key])
        if found is None:
            self._flat = True
            self._loud.clear()
        return found

    def of(self, rows: Tensor) -> Noise:
        """Return the noise of these rows, int64, [n], alone."""
        return Noise(self._seeds[rows], self._first[rows], self._vocabulary)

    def uniform(self, position: int, stream: int) -> Tensor:
        """Return numbers in (0, 1), float64, [rows]."""
        return uniform_noise(self._seeds + stream, self._first + position)


class Chooser(Protocol):
    """How the composite's tokens and the drafts are chosen.

    Attributes:
        coupled: Whether `verify` gives what `choose` gives, whatever was drafted.
    """

    coupled: bool

    def draft(self, logits: Tensor, noise: Noise, position: int) -> tuple[Tensor, Tensor]:
        """Return the draft member's tokens, [rows], and the values it chose by, [rows, n]."""

    def verify(
        self, scores: Tensor, draft_logits: Tensor, draft: Tensor, noise: Noise, position: int
    ) -> Tensor:
        """Return the composite's tokens at a drafted position, [rows]."""

    def choose(self, scores: Tensor, noise: Noise, position: int) -> Tensor:
        """Return the composite's tokens where nothing was drafted, [rows]."""


def chooser_for(
    sampling: Literal["coupled", "rejection"], rule: SamplingRule, *, looks: bool = True
) -> Chooser:
    """Return the way of choosing; without randomness there is one only.

    Args:
        sampling: Of the recipe.
        rule: How tokens are chosen.
        looks: Whether the host may look at values, where that is quick; no token depends on it.
    """
    if sampling == "rejection" and rule.temperature > 0:
        return _Rejection(rule, looks)
    return _Coupled(rule, looks)


class _Coupled:
    """Draft and composite share their noise, so that both choose alike where they think alike.

    Samples are those of plain decoding, token by token (footnote 4).
    """

    coupled = True
    draft_stream = 0

    def __init__(self, rule: SamplingRule, looks: bool) -> None:
        self._rule, self._may_look = rule, looks

    def draft(self, logits: Tensor, noise: Noise, position: int) -> tuple[Tensor, Tensor]:
        return self._chosen(_wide(logits), noise, position, self.draft_stream)

    def verify(
        self, scores: Tensor, draft_logits: Tensor, draft: Tensor, noise: Noise, position: int
    ) -> Tensor:
        return self.choose(scores, noise, position)

    def choose(self, scores: Tensor, noise: Noise, position: int) -> Tensor:
        return self._chosen(scores, noise, position, 0)[0]

    def _chosen(
        self, scores: Tensor, noise: Noise, position: int, stream: int
    ) -> tuple[Tensor, Tensor]:
        """Return tokens, [rows], and values, [rows, n], of which theirs are the highest.

        Which way a row is chosen depends on its own scores alone, never on its batch.
        """
        rule = self._rule
        if rule.temperature == 0.0:
            return best_token(scores), scores
        few: tuple[int, ...] = ()
        # on a GPU a sort is cheap, and asking what was proven would make the host wait
        if self._may_look and scores.device.type == "cpu":
            few = how_many(scores.shape[-1], rule.top_k, rule.top_p, rule.min_p)
            if not rule.filters and scores.shape[-1] >= LARGE:
                found = noise.winners(scores, rule.temperature, position, stream)
                if found is not None:
                    return found
        return self._sampled(scores, noise, (position, stream), few)

    def _sampled(
        self, scores: Tensor, noise: Noise, place: tuple[int, int], few: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        if not few:
            own = noise.gumbel(*place).to(scores.device)
            values = filtered_scores(scores, **self._rule._asdict()) + own
            return best_token(values), values
        found = candidates(scores, few[0], **self._rule._asdict())
        values = found.scores + noise.gumbel_of(found.ids, *place)
        tokens = found.ids.gather(-1, values.argmax(dim=-1, keepdim=True))[:, 0]
        if not bool(found.proven.all()):
            rows = (~found.proven).nonzero()[:, 0]
            tokens[rows], more = self._sampled(scores[rows], noise.of(rows), place, few[1:])
            values[rows] = more.topk(few[0], dim=-1).values
        return tokens, values


class _Rejection(_Coupled):
    """Accept a draft with probability min(1, p / q), else sample from max(p - q, 0).

    Exact in distribution (Leviathan et al. 2023); the samples are not those of plain decoding.
    A position that is drafted again after a rejection has noise that decided on nothing so far.
    """

    coupled = False
    draft_stream = _DRAFTS

    def verify(
        self, scores: Tensor, draft_logits: Tensor, draft: Tensor, noise: Noise, position: int
    ) -> Tensor:
        rule = self._rule._asdict()
        q = filtered_scores(_wide(draft_logits).to(scores.device), **rule)
        return accept_or_resample(
            filtered_scores(scores, **rule).log_softmax(dim=-1),
            q.log_softmax(dim=-1),
            draft,
            noise.uniform(position, _COINS),
            noise.gumbel(position),
        )


def _wide(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
