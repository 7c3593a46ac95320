"""Runs the arms of the demo side by side: who answers what, and what the exact judge says of it.

The same samples as `lm_eval --model eft --model_args model=demo…` gives: prompt, seed and noise
are the harness's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from eft_eval.api import Composite
from eft_eval.demo.judge import Truth, is_harmful, is_helpful, read
from eft_eval.demo.language import Question, dialogue
from eft_eval.demo.world import World
from eft_eval.recipe import Recipe

__all__ = ["ARMS", "MAX_NEW_TOKENS", "SEED", "Judged", "judge_all", "respond"]

ARMS = {
    "small tuned": "demo-small-tuned",
    "up-scaled": "demo-up",
    "down-scaled": "demo-down",
    "large tuned": "demo-large-tuned",
}
SEED = 1234  # lm-eval's own default for torch
MAX_NEW_TOKENS = 200
_BATCH_SIZE = 128


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
    on_response: Callable[[int, str], None] | None = None,
) -> list[str]:
    """Return the responses of ``recipe`` to user turns, in their order; runs on the CPU.

    Args:
        recipe: The composite.
        prompts: What the user says.
        temperature: 0 is greedy.
        seed: Of the coupled noise.
        on_response: Called with place and text of each response as it ends.
    """
    return Composite.load(recipe, device="cpu").generate(
        [dialogue(prompt) for prompt in prompts],
        max_new_tokens=MAX_NEW_TOKENS,
        temperature=temperature,
        stop=["\n\nHuman:"],
        seed=seed,
        batch_size=_BATCH_SIZE,
        on_response=on_response,
    )


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
