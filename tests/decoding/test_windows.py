"""Layers with windows and chunks: drafted, token-equal to passes without a cache, in any batch.

Also where what lies out of the windows is dropped, which the cache does behind a horizon.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from cacheless import LENGTH, check, chosen, composite_of, requests_of, stopped
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_models import perturb
from transformers import GPTNeoConfig
from windowed_models import KINDS, save_windowed

from eft_eval.api import Composite
from eft_eval.decoding import Decoder, SamplingRule
from eft_eval.engine import states
from eft_eval.engine.footprint import cache_bytes
from eft_eval.engine.loading import LoadOptions, Member
from eft_eval.engine.windows import layer_windows

WINDOW = 6
LENGTHS = (1, WINDOW - 1, 3 * WINDOW + 1, WINDOW, 2, WINDOW + 1, 2 * WINDOW)
WITHOUT_FLOAT64 = ("GptOss", "Llama4Text")  # mixtures of experts
QUICK = "Gemma3Text"


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Any:
    made: dict[str, Composite] = {}

    def of(kind: str) -> Composite:
        if kind not in made:
            folder = tmp_path_factory.mktemp(kind)
            base = save_windowed(folder / "base", kind, WINDOW)
            tuned = perturb(base, folder / "tuned", seed=1, amount=0.1)
            made[kind] = composite_of(
                base, tuned, "float32" if kind in WITHOUT_FLOAT64 else "float64"
            )
        return made[kind]

    return of


@pytest.mark.parametrize("horizon", [3, 128], ids=["dropped", "kept"])
@pytest.mark.parametrize("heat", [0.0, 1.0])
@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[pytest.mark.slow] * (kind != QUICK)) for kind in KINDS]
)
def test_tokens_are_those_of_passes_without_a_cache(
    make: Any, kind: str, heat: float, horizon: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(states, "HORIZON", horizon)
    for block, size in ((0, 7), (1, 1), (3, 4), (16, 7), ("auto", 4)):
        check(make(kind), LENGTHS, block, size, heat)


WAYS = {
    "window": st.integers(1, 14),
    "lengths": st.lists(st.integers(1, 30), min_size=1, max_size=7),
    "block": st.integers(0, 16),
    "size": st.sampled_from([1, 4, 7]),
    "heat": st.sampled_from([0.0, 1.0]),
    "horizon": st.sampled_from([1, 5, 18, 128]),  # smaller ones grow
    "together": st.sampled_from([20, 2048]),  # tokens of prompts in one pass
}


def around_the_window(
    composite: Composite,
    window: int,
    lengths: list[int],
    block: int,
    size: int,
    heat: float,
    horizon: int,
    together: int,
) -> None:
    for member in {view.member for view in composite.views}:
        member.model.config.sliding_window = window  # read at every pass
    before = states.HORIZON, states._TOKENS
    states.HORIZON, states._TOKENS = horizon, together
    try:
        made = Decoder(composite, block).generate(
            requests_of(composite, lengths), SamplingRule(heat), LENGTH, stopped, batch_size=size
        )
        for request, one in zip(requests_of(composite, lengths), made, strict=True):
            assert one.tokens == chosen(composite, request, one.tokens, heat)
    finally:
        states.HORIZON, states._TOKENS = before
        for view in composite.views:
            view.member.model.config.sliding_window = WINDOW


@given(**WAYS)
@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_window_and_lengths(make: Any, **way: Any) -> None:
    around_the_window(make(QUICK), **way)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [QUICK, "Mistral"])
@given(**WAYS)
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
def test_many_windows_and_lengths(make: Any, kind: str, **way: Any) -> None:
    around_the_window(make(kind), **way)


def test_windows_of_another_name_are_not_taken_for_none() -> None:
    """GPT-Neo masks by place in its own layers; a trial is shorter than its real window."""
    config = GPTNeoConfig(num_layers=2, attention_types=[[["global", "local"], 1]])
    assert config.window_size == 256
    assert layer_windows(config) is None


@pytest.mark.parametrize("length", [100, 300])
def test_what_no_window_reaches_is_dropped(make: Any, length: int) -> None:
    """Layers with windows keep a window and what may be taken back; the plan counts the same."""
    member = make(QUICK).members["base"]
    state: Any = member.engine.row_state(2, length)
    state.join([[7] * (length - 8), [9] * (length - 20)])
    with torch.inference_mode():
        for _ in range(4):
            state.forward(torch.tensor([[5, 6], [7, 8]]))
            state.rewind([one - 1 for one in state._lengths])
    kept = [layer.keys for layer in state._cache.layers]
    most = {100: 128, 300: 384}[length]
    assert [one.shape[2] for one in kept] == [
        min(most, WINDOW + 128),
        most,
        min(most, WINDOW + 128),
    ]
    assert {one.dtype for one in kept} == {member.dtype}
    total = 2 * sum(one.numel() * one.element_size() for one in kept)
    assert total == cache_bytes(member, 2, length)


@torch.inference_mode()
def test_rounds_of_fixed_shapes_drop_nothing(make: Any) -> None:
    member = make(QUICK).members["base"]
    state: Any = member.engine.fixed_state(2, 299, 1)
    state.join([[7] * 200, [9] * 20])
    kept = [one for layer in state._cache.layers for one in (layer.keys, layer.values)]
    on_cuda = Member(member.spec, LoadOptions(torch.device("cuda")))
    assert sum(one.numel() * one.element_size() for one in kept) == cache_bytes(on_cuda, 2, 300)


def test_half_precision_members_have_half_precision_caches(tmp_path: Path) -> None:
    path = save_windowed(tmp_path / "base", QUICK, WINDOW)
    composite = composite_of(path, path, "bfloat16")
    member = composite.members["base"]
    state: Any = member.engine.row_state(1, 20)
    state.join([[5, 6, 7, 8]])
    with torch.inference_mode():
        state.forward(torch.tensor([[9]]))
    assert {layer.keys.dtype for layer in state._cache.layers} == {torch.bfloat16}
