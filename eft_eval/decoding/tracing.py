"""The per-token view of a composite: who would have said what, and who changed it (Figure 7).

Knows tokens and members. One pass of every view over prompt and response.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from eft_eval.composite.mathematics import total_variation
from eft_eval.composite.model import CompositeModel
from eft_eval.decoding.drafting import draft_view
from eft_eval.runs.traces import MemberChoice, Shift, TokenTrace, Trace

__all__ = ["MemberChoice", "Shift", "TokenTrace", "Trace", "trace_tokens"]


@torch.inference_mode()
def trace_tokens(
    composite: CompositeModel,
    prompts: tuple[Sequence[int], ...],
    response: Sequence[int],
    pieces: Sequence[str],
    top: int = 3,
) -> tuple[TokenTrace, ...]:
    """Trace a response that was generated, or written by anybody.

    Args:
        composite: The model.
        prompts: What each view reads before it, in the order of `CompositeModel.views`.
        response: Tokens, at least one.
        pieces: Each token's part of the response's text.
        top: Tokens named in ``raised`` and ``lowered`` per position.
    """
    draft = draft_view(composite)
    total = composite.empty_scores(len(response))  # [tokens, V]
    best: list[_Best] = []
    draft_probs = total
    for number, view in enumerate(composite.views):
        read = [*prompts[number], *response[:-1]]
        logits, first = view.member.engine.logits([read], [len(response)])
        start = len(prompts[number]) - 1 - first
        own = logits[0, start : start + len(response)]
        composite.accumulate(total, view, own)
        probs = own[:, : composite.vocabulary].float().softmax(dim=-1).to(total.device)
        best.append(_Best(view.role, *probs.max(dim=-1)))
        if number == draft:
            draft_probs = probs
    probs = total.softmax(dim=-1)
    best.append(_Best("composite", *probs.max(dim=-1)))
    seen = _Seen([*prompts[draft], *response], probs, draft_probs, best)
    return _records(composite, pieces, seen, top)


class _Best(NamedTuple):  # one member's likeliest token at every position, [tokens] each
    member: str
    probabilities: Tensor
    tokens: Tensor


class _Seen(NamedTuple):  # composite's and draft's probabilities, [tokens, V], and who likes what
    tokens: list[int]  # prompt and response
    probs: Tensor
    draft_probs: Tensor
    best: list[_Best]


def _records(
    composite: CompositeModel, pieces: Sequence[str], seen: _Seen, top: int
) -> tuple[TokenTrace, ...]:
    tokens, probs, draft_probs, best = seen
    start = len(tokens) - len(pieces)
    change = probs - draft_probs  # [tokens, V]
    distance = total_variation(probs, draft_probs)
    entropy = torch.special.entr(probs).sum(dim=-1)
    up, down = change.topk(top, dim=-1), (-change).topk(top, dim=-1)
    found = []
    for place, piece in enumerate(pieces):
        token, before = tokens[start + place], tokens[: start + place]
        text = partial(_text, composite, before)
        found.append(
            TokenTrace(
                token=piece,
                token_id=token,
                probability=float(probs[place, token]),
                draft_probability=float(draft_probs[place, token]),
                total_variation=float(distance[place]),
                entropy=float(entropy[place]),
                raised=tuple(
                    Shift(text(t), float(v))
                    for t, v in zip(up.indices[place], up.values[place], strict=True)
                    if v > 0
                ),
                lowered=tuple(
                    Shift(text(t), -float(v))
                    for t, v in zip(down.indices[place], down.values[place], strict=True)
                    if v > 0
                ),
                choices=tuple(
                    MemberChoice(
                        one.member, text(one.tokens[place]), float(one.probabilities[place])
                    )
                    for one in best
                ),
            )
        )
    return tuple(found)


def _text(composite: CompositeModel, before: Sequence[int], token: Tensor) -> str:
    """Return what a token would have added to the text."""
    return composite.encoding.piece(int(token), before)
