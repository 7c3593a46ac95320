"""Winners found with the noise of few tokens, against the noise of all."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eft_eval.composite.mathematics import gumbel_noise, noise_streams
from eft_eval.composite.winners import LARGE, Winners, loud_tokens, winners

NEG_INF = float("-inf")


def noise_of(rows: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = np.random.default_rng(seed)
    seeds = generator.integers(-(2**63), 2**63 - 1, rows)
    return torch.tensor(seeds), torch.tensor(generator.integers(0, 5000, rows))


def told(
    scores: torch.Tensor, temperature: float, seeds: torch.Tensor, steps: torch.Tensor
) -> Winners | None:
    streams = noise_streams(seeds, steps)
    return winners(scores, temperature, streams, loud_tokens(streams, scores.shape[-1]))


@pytest.mark.parametrize("size", [LARGE, 49_152, 151_936])
def test_no_other_token_is_louder(size: int) -> None:
    seeds, steps = noise_of(3, size)
    loud = loud_tokens(noise_streams(seeds, steps), size)
    noise = gumbel_noise(seeds, steps, size).numpy()
    assert (loud.noise == noise[loud.rows, loud.ids]).all()
    assert 150 < len(loud.ids) / 3 < 360  # 256 on average
    noise[loud.rows, loud.ids] = NEG_INF
    assert loud.ceiling - 0.1 < noise.max() <= loud.ceiling


@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.sampled_from([LARGE, LARGE + 1, LARGE + 255, 20_000]),
    spreads=st.lists(st.sampled_from([0.0, 0.5, 2.0, 5.0, 9.0, 40.0]), min_size=1, max_size=4),
    temperature=st.sampled_from([0.05, 0.7, 1.0, 3.0]),
    kind=st.sampled_from(["plain", "ties", "excluded", "wide"]),
)
@settings(max_examples=80, deadline=None)
def test_winners_are_those_of_all_noise(
    seed: int, size: int, spreads: list[float], temperature: float, kind: str
) -> None:
    generator = np.random.default_rng(seed)
    values = generator.normal(size=(len(spreads), size)) * np.array(spreads)[:, None]
    if kind == "ties":
        values = values.round()
    if kind == "excluded":
        values[generator.random(values.shape) < 0.9] = NEG_INF
    scores = torch.tensor(values, dtype=torch.float64 if kind == "wide" else torch.float32)
    seeds, steps = noise_of(len(spreads), seed)
    found = told(scores, temperature, seeds, steps)
    if found is None:  # so flat that few tokens do not tell
        return
    whole = scores / temperature + gumbel_noise(seeds, steps, size)
    assert found.ids.tolist() == whole.argmax(dim=-1).tolist()
    torch.testing.assert_close(found.values, whole.topk(2, dim=-1).values, rtol=0, atol=0)


def peaked(rows: int, size: int) -> torch.Tensor:
    values = np.random.default_rng(size).normal(size=(rows, size)) * 8
    return torch.tensor(values, dtype=torch.float32)


def test_peaked_rows_are_told_by_few_tokens() -> None:
    scores = peaked(8, 49_152)
    scores[:, :300] = NEG_INF
    seeds, steps = noise_of(8, 1)
    assert told(scores, 1.0, seeds, steps) is not None


@pytest.mark.parametrize("number", [float("nan"), float("inf"), NEG_INF])
def test_rows_without_real_scores_are_not_told(number: float) -> None:
    scores = peaked(2, LARGE)
    scores[1] = number
    seeds, steps = noise_of(2, 2)
    assert told(scores, 1.0, seeds, steps) is None
    for size, place in ((LARGE, 300), (LARGE + 9, LARGE + 5)):
        scores = peaked(2, size)
        scores[1, place] = float("nan")
        assert told(scores, 1.0, seeds, steps) is None
