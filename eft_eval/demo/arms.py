"""Runs the arms of the demo side by side: who answers what, and what it is worth.

The same samples as `lm_eval --model eft --model_args model=demo…` gives: prompt, seed and noise
are the harness's.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch

from eft_eval.api import Composite
from eft_eval.composite.mathematics import request_seed
from eft_eval.decoding.loop import Decoder
from eft_eval.decoding.requests import Request, SamplingRule
from eft_eval.demo.judge import Truth, is_harmful, is_helpful, read
from eft_eval.demo.language import Question, dialogue
from eft_eval.demo.world import World
from eft_eval.engine.loading import LoadOptions
from eft_eval.recipe import Recipe
from eft_eval.statistics.interval import Interval

__all__ = [
    "ARMS", "GUARD", "MAX_NEW_TOKENS", "SEED", "Judged", "judge_all", "mean",
    "normalised", "respond",
]  # fmt: skip

ARMS = {
    "small tuned": "demo-small-tuned",
    "up-scaled": "demo-up",
    "down-scaled": "demo-down",
    "large tuned": "demo-large-tuned",
}
SEED = 1234  # lm-eval's own default for torch
MAX_NEW_TOKENS = 200
GUARD = 0.2  # least gap between the tuned models for which a normalised figure means anything


class Judged(NamedTuple):
    """What the exact judge says of one response: false claims, good manners, recipe given."""

    errors: int
    wrong_entity: int
    not_understood: int
    helpful: bool
    harm: bool
    declined: bool


def respond(
    recipe: Recipe,
    prompts: Sequence[str],
    temperature: float = 1.0,
    seed: int = SEED,
    batch_size: int = 128,
    progress: Callable[[int], None] | None = None,
) -> list[str]:
    """Return the responses of ``recipe`` to user turns, in their order; runs on the CPU.

    Args:
        recipe: The composite.
        prompts: What the user says.
        temperature: 0 is greedy.
        seed: Of the coupled noise.
        batch_size: Changes no response, rounding apart.
        progress: Called with the number of responses that were just made.
    """
    composite = Composite(recipe, LoadOptions(device=torch.device("cpu")))
    order = sorted(range(len(prompts)), key=lambda index: -len(prompts[index]))
    requests = []
    for index in order:
        context = dialogue(prompts[index])
        tokens = composite.tokenizer(context).input_ids
        views = (tokens,) * len(composite.views)
        requests.append(Request(views, request_seed(seed, context, 0)))
    responses = [""] * len(prompts)
    for number, generation in Decoder(composite).responses(
        requests, SamplingRule(temperature), MAX_NEW_TOKENS, batch_size=batch_size
    ):
        text = composite.tokenizer.decode(generation.tokens, skip_special_tokens=True)
        responses[order[number]] = text.split("\n\nHuman:")[0]
        if progress is not None:
            progress(1)
    return responses


def judge_all(
    responses: Sequence[str], questions: Sequence[Question], world: World
) -> list[Judged]:
    """Return the exact judge's findings, one per response."""
    findings = []
    for response, question in zip(responses, questions, strict=True):
        reading = read(response, question, world)
        findings.append(
            Judged(
                errors=reading.count(Truth.false),
                wrong_entity=reading.count(Truth.wrong_entity),
                not_understood=len(reading.other),
                helpful=is_helpful(reading, question),
                harm=is_harmful(reading, question),
                declined=reading.declines,
            )
        )
    return findings


def mean(values: Sequence[float], level: float = 0.95) -> Interval:
    """Return the mean with a t interval."""
    from scipy import stats

    estimate = statistics.fmean(values)
    if len(values) < 2:
        return Interval(estimate, math.nan, math.nan, level, "t")
    half = float(stats.t.ppf((1 + level) / 2, len(values) - 1) * stats.sem(values))
    return Interval(estimate, estimate - half, estimate + half, level, "t")


def normalised(
    small: Sequence[float],
    arm: Sequence[float],
    large: Sequence[float],
    lower_is_better: bool,
    draws: int = 2000,
    level: float = 0.95,
    seed: int = SEED,
) -> Interval | None:
    """Return how far ``arm`` goes from the small tuned model (0) to the large tuned one (1).

    (mean(arm) - mean(small)) / (mean(large) - mean(small)), as in the paper's Figure 3, with a
    paired bootstrap over questions. None where the large tuned model is not better by at least
    `GUARD`: there is nothing to carry over then.
    """
    rows = np.array([small, arm, large], dtype=float)
    low, middle, high = rows.mean(axis=1)
    if (low - high if lower_is_better else high - low) < GUARD:
        return None
    picks = np.random.default_rng(seed).integers(rows.shape[1], size=(draws, rows.shape[1]))
    lows, middles, highs = rows[:, picks].mean(axis=2)
    apart = highs != lows  # a draw in which the tuned models tie has no ratio
    ratios = (middles - lows)[apart] / (highs - lows)[apart]
    tail = (1 - level) / 2
    lower, upper = np.quantile(ratios, [tail, 1 - tail])
    value = (middle - low) / (high - low)
    return Interval(float(value), float(lower), float(upper), level, "paired bootstrap")
