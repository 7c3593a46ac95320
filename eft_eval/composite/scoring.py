"""Log-probabilities of given continuations under a composite, a batch at a time.

Knows tokens, not text. Only positions that predict a continuation token are turned into logits,
one model's logits are held at a time, and what rows of a batch begin with alike is read once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from eft_eval.composite.model import CompositeModel
from eft_eval.errors import ConfigError


class Scored(NamedTuple):
    """A scored continuation: its log-probability, and whether greedy decoding would give it."""

    log_prob: float
    is_greedy: bool


class ScoredRow(NamedTuple):
    """A continuation to score.

    Attributes:
        contexts: What each view of the composite reads before it, in the order of its views.
        continuation: The tokens to score, at least one.
    """

    contexts: tuple[Sequence[int], ...]
    continuation: Sequence[int]


@torch.inference_mode()
def continuation_log_probs(
    composite: CompositeModel,
    rows: Sequence[ScoredRow],
    max_length: int,
    dtype: torch.dtype = torch.float32,
) -> list[Tensor]:
    """Return the composite's log-probabilities at every continuation position.

    Args:
        composite: The model.
        rows: One batch; contexts that do not fit ``max_length`` lose tokens on the left.
        max_length: Tokens that fit into every member.
        dtype: Of the sum and of the result, float32 or wider.

    Returns:
        One tensor per row, shape [continuation length, V], normalised over V.
    """
    lengths = [len(row.continuation) for row in rows]
    if max(lengths) > max_length:
        raise ConfigError(
            f"a continuation of {max(lengths)} tokens cannot be scored: the shortest member reads "
            f"{max_length} tokens; shorten it, or leave the document out"
        )
    total = composite.empty_scores(sum(lengths), dtype=dtype)  # [all positions, V]
    parts = list(torch.split(total, lengths))
    for number, view in enumerate(composite.views):
        longest = max(len(row.contexts[number]) + len(row.continuation) for row in rows)
        view.member.engine.check_positions(min(longest, max_length + 1) - 1)
        inputs = [
            [*row.contexts[number], *row.continuation][-(max_length + 1) :][:-1] for row in rows
        ]
        for row, logits in view.member.engine.last_logits(inputs, lengths):
            composite.accumulate(parts[row], view, logits)
            del logits
    for part in parts:
        whole = part.logsumexp(dim=-1, keepdim=True)
        # beside an infinite score all others would look impossible, which is no probability
        part.sub_(whole.masked_fill(whole.isinf(), math.nan))
    return parts


def score_of(composite: CompositeModel, log_probs: Tensor, continuation: Sequence[int]) -> Scored:
    """Return what a row of `continuation_log_probs` says of a continuation.

    Args:
        composite: The model, for the error.
        log_probs: Shape [at least the continuation's length, V]; the last positions are its own.
        continuation: At least one token.

    Raises:
        ConfigError: A member's numbers are none (NaN, infinity), as those of a float16 that
            overflowed.
    """
    target = torch.tensor(list(continuation), device=log_probs.device)
    own = log_probs[-len(continuation) :]  # [continuation, V]
    value = float(own.gather(-1, target[:, None]).sum())
    if math.isnan(value):
        raise ConfigError(
            "a log-likelihood is not a number: the logits of one of "
            f"{', '.join(view.member.label for view in composite.views)} overflow in their type; "
            "load it with dtype=bfloat16 or dtype=float32"
        )
    return Scored(value, bool((own.argmax(dim=-1) == target).all()))
