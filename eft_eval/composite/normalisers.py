"""What the product of per-step partition functions leaves out of the sequence-level one.

Eq. 5 normalises at every step, so that a sample of it is one of Eq. 4 with the importance weight
``prod_t Z(x, y_<t)``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from eft_eval.composite.model import CompositeModel
from eft_eval.errors import ConfigError

__all__ = ["log_normalisers"]


@torch.inference_mode()
def log_normalisers(
    composite: CompositeModel, prompts: Sequence[Sequence[int]], response: Sequence[int]
) -> Tensor:
    """Return ``log Z(x, y_<t)`` of Eq. 5 at every step, and at the one after the last token.

    ``Z = sum_v base(v) prod (tuned(v) / reference(v))^w`` over the tokens that members share, each
    member's distribution normalised over them.

    Args:
        composite: The model, without a filter of its weights.
        prompts: What each view reads before the response, in the order of `views`.
        response: Tokens; may be empty.

    Returns:
        float64 on the CPU, shape [tokens + 1].

    Raises:
        ConfigError: The composite filters its weights.
    """
    if composite.recipe.decoding.weight_top_p is not None:
        raise ConfigError("a composite with weight_top_p has no sequence-level weights")
    steps = len(response) + 1
    total = composite.empty_scores(steps, dtype=torch.float64)  # [steps, V]
    excluded = torch.tensor(
        sorted(composite.excluded_tokens), dtype=torch.long, device=composite.device
    )
    own_normalisers = torch.zeros(steps, dtype=torch.float64, device=composite.device)
    for number, view in enumerate(composite.views):
        read = [*prompts[number], *response]
        logits, first = view.member.engine.logits([read], [steps])
        start = len(prompts[number]) - 1 - first
        own = logits[0, start : start + steps, : composite.vocabulary].double()
        own = own.to(composite.device).index_fill(-1, excluded, -math.inf)
        composite.accumulate(total, view, own)
        own_normalisers += view.coefficient * own.logsumexp(dim=-1)
    return (total.logsumexp(dim=-1) - own_normalisers).cpu()
