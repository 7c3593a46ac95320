"""Recurrent layers: drafted, token-equal to passes without a cache, in any batch."""

from __future__ import annotations

from typing import Any

import pytest
from cacheless import LENGTH, check, chosen, composite_of, requests_of, stopped
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recurrent_models import KINDS, save_recurrent
from tiny_models import perturb

from eft_eval.api import Composite
from eft_eval.decoding import Decoder, SamplingRule

LENGTHS = (1, 5, 19, 6, 2, 30, 12)
WITHOUT_FLOAT64 = ("Qwen3Next",)  # mixtures of experts
QUICK = "Lfm2"

# reference implementations of recurrent layers say that quicker ones are not installed
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Any:
    made: dict[str, Composite] = {}

    def of(kind: str) -> Composite:
        if kind not in made:
            folder = tmp_path_factory.mktemp(kind)
            base = save_recurrent(folder / "base", kind)
            tuned = perturb(base, folder / "tuned", seed=1, amount=0.1)
            dtype = "float32" if kind in WITHOUT_FLOAT64 else "float64"
            made[kind] = composite_of(base, tuned, dtype)
        return made[kind]

    return of


@pytest.mark.parametrize(
    ("kind", "heat"),
    [
        pytest.param(kind, heat, marks=[pytest.mark.slow] * ((kind, heat) != (QUICK, 1.0)))
        for kind in KINDS
        for heat in (0.0, 1.0)
    ],
)
def test_tokens_are_those_of_passes_without_a_cache(make: Any, kind: str, heat: float) -> None:
    for block, size in ((0, 7), (1, 1), (3, 4), (16, 7), ("auto", 4)):
        check(make(kind), LENGTHS, block, size, heat)


WAYS = {
    "lengths": st.lists(st.integers(1, 40), min_size=1, max_size=7),
    "block": st.integers(0, 16),
    "size": st.sampled_from([1, 4, 7]),
    "heat": st.sampled_from([0.0, 1.0]),
}


def any_way(composite: Composite, lengths: list[int], block: int, size: int, heat: float) -> None:
    requests = requests_of(composite, lengths)
    made = Decoder(composite, block).generate(
        requests, SamplingRule(heat), LENGTH, stopped, batch_size=size
    )
    for request, one in zip(requests, made, strict=True):
        assert one.tokens == chosen(composite, request, one.tokens, heat)


@given(**WAYS)
@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_lengths(make: Any, **way: Any) -> None:
    any_way(make(QUICK), **way)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["GraniteMoeHybrid", "Qwen3_5Text"])
@given(**WAYS)
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
def test_many_lengths(make: Any, kind: str, **way: Any) -> None:
    any_way(make(kind), **way)
