"""What a tuned model prefers of pairs that it was not trained on, asked through the engine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from eft_eval.api import Composite
from eft_eval.errors import ConfigError
from eft_eval.recipe.model import MemberSpec
from eft_eval.statistics.interval import Interval
from eft_eval.statistics.means import mean_with_interval, share_of, wilson_interval
from eft_eval.training.texts import PairText

__all__ = ["HeldOut", "accuracy", "held_out", "margins_of"]


class HeldOut(NamedTuple):
    """What was measured on held-out pairs.

    Attributes:
        pairs: How many.
        prompts: Of how many different prompts.
        accuracy: Share of the pairs whose chosen answer has the higher reward; a tie is half.
        margin: Mean difference of the rewards, β times that of the log-ratios.
    """

    pairs: int
    prompts: int
    accuracy: Interval
    margin: Interval


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


def held_out(margins: Sequence[float], prompts: Sequence[str], level: float = 0.95) -> HeldOut:
    """Return what margins say, prompts that repeat being one draw each."""
    return HeldOut(
        len(margins),
        len({*prompts}),
        accuracy(margins, prompts, level),
        mean_with_interval(margins, prompts, level).interval,
    )


def accuracy(margins: Sequence[float], prompts: Sequence[str], level: float = 0.95) -> Interval:
    """Return the share of margins above zero with its interval.

    Wilson's where every prompt is there once and no margin is zero, or where all margins are on
    one side (of the prompts); else the t interval of the mean, clustered by prompt.
    """
    right = [1.0 if one > 0 else 0.5 if one == 0 else 0.0 for one in margins]
    distinct = len({*prompts})
    if distinct == len(prompts) and 0.5 not in right:
        return wilson_interval(sum(right), len(right), level)
    found = share_of(mean_with_interval(right, prompts, level)).interval
    if math.isnan(found.lower) and found.estimate in (0.0, 1.0):
        return wilson_interval(found.estimate * distinct, distinct, level)
    return found
