"""The few candidates against the whole vocabulary, sorted; the best token against arg max."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eft_eval.composite.candidates import best_token, candidates, how_many, margin_of
from eft_eval.composite.mathematics import filtered_scores, gumbel_noise, gumbel_noise_of

FEW = 256
NEG_INF = float("-inf")
SIZES = (2048, 2049, 5000)


def rows(seed: int, size: int, peaks: list[float], ties: bool) -> torch.Tensor:
    """Return scores, a row per peak: the higher it is, the fewer tokens have the mass."""
    generator = np.random.default_rng(seed)
    found = generator.normal(size=(len(peaks), size))
    for row, peak in zip(found, peaks, strict=True):
        row[generator.integers(0, size, 40)] += peak
        row[generator.integers(0, size, 20)] = NEG_INF
    return torch.tensor(found.round(1) if ties else found, dtype=torch.float32)


RULES = st.fixed_dictionaries(
    {"temperature": st.sampled_from([0.3, 0.7, 1.0, 1.5])},
    optional={
        "top_k": st.sampled_from([1, 2, 40, FEW - 1]),
        "top_p": st.sampled_from([0.05, 0.5, 0.9, 0.95, 0.999]),
        "min_p": st.sampled_from([0.01, 0.05, 0.3]),
        "typical_p": st.sampled_from([0.2, 0.9]),
    },
)


@given(
    rule=RULES,
    seed=st.integers(0, 2**32 - 1),
    size=st.sampled_from(SIZES),
    peaks=st.lists(st.sampled_from([0.0, 2.0, 5.0, 9.0]), min_size=1, max_size=4),
    ties=st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_proven_rows_are_what_the_filters_leave(
    rule: dict[str, Any], seed: int, size: int, peaks: list[float], ties: bool
) -> None:
    named = {name: rule.get(name) for name in ("top_k", "top_p", "min_p")}
    if not how_many(size, **named):
        return
    scores = rows(seed, size, peaks, ties)
    found = candidates(scores, FEW, **rule)
    assert (found.ids.diff(dim=-1) > 0).all()
    whole = torch.full_like(scores, NEG_INF).scatter(-1, found.ids, found.scores)
    expected = filtered_scores(scores, **rule)
    for row in found.proven.nonzero()[:, 0].tolist():
        if "typical_p" in rule:  # the entropy is summed in another order: a border may differ
            differing = whole[row] != expected[row]
            at_border = torch.cat([whole[row][differing], expected[row][differing]])
            assert at_border[at_border > NEG_INF].unique().numel() <= 1
        else:
            torch.testing.assert_close(whole[row], expected[row], rtol=0, atol=0)


def test_peaked_rows_are_proven_and_flat_ones_are_not() -> None:
    scores = torch.stack([torch.zeros(5000), torch.zeros(5000)])
    scores[0, 17] = 20.0
    proven = candidates(scores, FEW, temperature=1.0, top_p=0.9).proven
    assert proven.tolist() == [True, False]
    assert candidates(scores, FEW, temperature=1.0, top_k=3).proven.tolist() == [
        False,
        False,
    ]  # ties
    assert candidates(scores, FEW, temperature=1.0, min_p=0.5).proven.tolist() == [True, False]


@pytest.mark.parametrize(
    ("rule", "few"),
    [
        ({"top_p": 0.95}, (256, 4096)),
        ({"top_p": 1.0}, ()),
        ({"top_k": 50}, (256, 4096)),
        ({"top_k": 256}, (4096,)),
        ({"top_k": 1000, "top_p": 0.9}, (4096,)),
        ({"top_k": 5000, "top_p": 0.9}, ()),
        ({"min_p": 0.1}, (256, 4096)),
        ({"min_p": 0.0}, ()),
        ({}, ()),
    ],
)
def test_how_many_are_looked_at(rule: dict[str, Any], few: tuple[int, ...]) -> None:
    given = {"top_k": None, "top_p": None, "min_p": None, **rule}
    assert how_many(50_000, **given) == few
    assert how_many(2048, **given) == tuple(one for one in few if one == 256)
    assert how_many(500, **given) == ()


@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.sampled_from([1, 255, 256, 511, 512, 513, 1024, 5000]),
    kind=st.sampled_from(["plain", "ties", "nan", "excluded"]),
)
@settings(max_examples=100, deadline=None)
def test_the_best_token_is_that_of_arg_max(seed: int, size: int, kind: str) -> None:
    generator = np.random.default_rng(seed)
    values = generator.normal(size=(3, 2, size))
    if kind == "ties":
        values = values.round()
    if kind == "nan":
        values[generator.random(values.shape) < 0.01] = np.nan
    if kind == "excluded":
        values[generator.random(values.shape) < 0.9] = -np.inf
    found = best_token(torch.tensor(values))
    assert found.tolist() == values.argmax(axis=-1).tolist()  # numpy's: the first, or a NaN


def test_the_margin_is_that_of_the_two_best() -> None:
    values = torch.randn(5, 3000)
    best = values.topk(2, dim=-1).values
    torch.testing.assert_close(margin_of(values), best[:, 0] - best[:, 1])
    assert margin_of(torch.ones(2, 300)).tolist() == [0.0, 0.0]


def test_noise_of_some_tokens_is_theirs_in_the_whole() -> None:
    seeds, steps = torch.randint(-(2**62), 2**62, (4,)), torch.arange(4)
    ids = torch.randint(0, 40_000, (4, 256))
    whole = gumbel_noise(seeds, steps, 40_000).gather(-1, ids)
    torch.testing.assert_close(gumbel_noise_of(seeds, steps, ids), whole, rtol=0, atol=0)
