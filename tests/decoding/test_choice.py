"""Tokens over a large vocabulary: few candidates, the whole, batches and float64 agree."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from eft_eval.composite.mathematics import filtered_scores, gumbel_noise
from eft_eval.decoding.choice import Noise, chooser_for
from eft_eval.decoding.requests import SamplingRule

VOCABULARY = 33_001
RULES = [
    {"top_p": 0.95},
    {"top_p": 0.5, "min_p": 0.02},
    {"top_k": 50},
    {"top_k": 300, "top_p": 0.9},
    {"min_p": 0.05},
    {"top_p": 0.9, "typical_p": 0.9},
    {"top_k": 40, "top_p": 0.9, "min_p": 0.01, "typical_p": 0.95},
    {},
]


def peaked(count: int) -> torch.Tensor:
    """Return rows of which some have their mass on few tokens, some on hundreds, some on most."""
    spreads = torch.tensor([9.0, 6.0, 4.0, 2.5, 1.0]).repeat(count)[:count]
    draw = torch.Generator().manual_seed(count)
    scores = torch.randn(count, VOCABULARY, generator=draw) * spreads[:, None]
    scores[:, 7::501] = float("-inf")
    return scores


def seeds_of(count: int) -> torch.Tensor:
    return torch.randint(0, 2**62, (count,), generator=torch.Generator().manual_seed(count))


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_samples_are_those_of_the_whole_vocabulary(rule: dict[str, Any]) -> None:
    count = 25
    scores = peaked(count)
    seeds, first = seeds_of(count), torch.arange(count) * 4
    chooser = chooser_for("coupled", SamplingRule(0.8, **rule))
    tokens = chooser.choose(scores, Noise(seeds, first, VOCABULARY), 3)
    kept = filtered_scores(scores.double(), temperature=0.8, **rule)
    values = (kept + gumbel_noise(seeds, first + 3, VOCABULARY)).numpy()
    assert (tokens.numpy() == values.argmax(axis=-1)).mean() >= 1 - 1 / count  # float32 at a border


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_a_row_alone_is_chosen_as_in_any_batch(rule: dict[str, Any]) -> None:
    scores = peaked(10)
    seeds, first = seeds_of(10), torch.zeros(10, dtype=torch.long)
    chooser = chooser_for("coupled", SamplingRule(1.0, **rule))
    together = chooser.choose(scores, Noise(seeds, first, VOCABULARY), 0)
    drafted, values = chooser.draft(scores, Noise(seeds, first, VOCABULARY), 0)
    alone = [
        chooser.choose(scores[[row]], Noise(seeds[[row]], first[[row]], VOCABULARY), 0)[0]
        for row in range(10)
    ]
    assert together.tolist() == [int(token) for token in alone] == drafted.tolist()
    best = values.topk(2, dim=-1).values
    whole = filtered_scores(scores, temperature=1.0, **rule) + gumbel_noise(
        seeds, first, VOCABULARY
    )
    np.testing.assert_allclose(best.numpy(), whole.topk(2, dim=-1).values.numpy(), atol=1e-4)


def test_no_number_is_no_token_in_silence() -> None:
    scores = torch.full((2, VOCABULARY), float("nan"))
    noise = Noise(torch.zeros(2, dtype=torch.long), torch.zeros(2, dtype=torch.long), VOCABULARY)
    for rule in RULES:
        token = chooser_for("coupled", SamplingRule(1.0, **rule)).choose(scores, noise, 0)
        assert scores.gather(-1, token[:, None]).isnan().all()  # which the loop refuses
