"""What a tuned model prefers of pairs that it was not trained on, asked through the engine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eft_eval.api import Composite
from eft_eval.errors import ConfigError
from eft_eval.recipe.model import MemberSpec
from eft_eval.training.texts import PairText

__all__ = ["margins_of"]


def margins_of(
    reference: MemberSpec, adapter: Path, pairs: Sequence[PairText], beta: float, device: Any
) -> list[float]:
    """Return each pair's difference of rewards: β (Δ chosen − Δ rejected), Δ = log p − log p_ref.

    Args:
        reference: What the adapter was tuned from.
        adapter: Folder of the adapter.
        pairs: Texts.
        beta: DPO's β.
        device: Where the models go.

    Raises:
        ConfigError: A log-probability is no number.
    """
    own = reference.model_dump(exclude_defaults=True)
    recipe = {"base": own, "tuned": {**own, "adapter": str(adapter)}, "reference": own}
    tuned, before = (_gaps(recipe, weight, pairs, device) for weight in (1.0, 0.0))
    margins = [beta * (one - other) for one, other in zip(tuned, before, strict=True)]
    if wrong := sum(not math.isfinite(one) for one in margins):
        raise ConfigError(
            f"{adapter}: {wrong} of {len(margins)} held-out margins are no numbers; train in "
            "another dtype, such as float32"
        )
    return margins


def _gaps(
    recipe: dict[str, Any], weight: float, pairs: Sequence[PairText], device: Any
) -> list[float]:
    """Return log p(chosen) − log p(rejected) of the tuned model, or with weight 0 of the other."""
    composite = Composite.load(recipe, weight=weight, device=device)
    asked = [(one.prompt, answer) for one in pairs for answer in (one.chosen, one.rejected)]
    scored = [one.log_prob for one in composite.loglikelihood(asked)]
    return [one - other for one, other in zip(scored[::2], scored[1::2], strict=True)]
