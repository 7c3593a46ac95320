"""Layers with windows and chunks: drafted, token-equal to passes without a cache, in any batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_models import perturb
from transformers import GPTNeoConfig
from windowed_models import KINDS, save_windowed

from eft_eval.api import Composite
from eft_eval.composite.mathematics import gumbel_noise
from eft_eval.decoding import Decoder, Request, SamplingRule
from eft_eval.engine.loading import LoadOptions
from eft_eval.engine.windows import layer_windows
from eft_eval.recipe import parse_recipe

WINDOW, LENGTH = 6, 12
LENGTHS = (1, WINDOW - 1, 3 * WINDOW + 1, WINDOW, 2, WINDOW + 1, 2 * WINDOW)
WITHOUT_FLOAT64 = ("GptOss", "Llama4Text")  # mixtures of experts
QUICK = "Gemma3Text"


def composite_of(base: str, tuned: str, dtype: str) -> Composite:
    spec = {path: {"model": path, "dtype": dtype} for path in (base, tuned)}
    delta = {"tuned": spec[tuned], "reference": spec[base], "weight": 0.5}
    return Composite(parse_recipe({"base": spec[base], "deltas": [delta]}), LoadOptions())


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


def requests_of(composite: Composite, lengths: Sequence[int]) -> list[Request]:
    prompts = [[(31 * row + 7 * i * i + i) % 250 + 5 for i in range(n)]
               for row, n in enumerate(lengths)]  # fmt: skip
    return [Request((prompt,) * len(composite.views), 77 + n) for n, prompt in enumerate(prompts)]


def stopped(tokens: Sequence[int], new: int = 1) -> bool:
    return any(token % 11 == 3 for token in tokens[-new:])


@torch.inference_mode()
def chosen(composite: Composite, request: Request, made: list[int], heat: float) -> list[int]:
    """What one pass per member without a cache chooses after every token of a response."""
    (prompt, *_), size = request.prompts, composite.vocabulary
    total = torch.zeros(len(made), size, dtype=torch.float64)
    for view in composite.views:
        row = torch.tensor([prompt + made[:-1]])
        logits = view.member.model(row, use_cache=False).logits[0, len(prompt) - 1 :, :size]
        total += view.coefficient * logits.double().log_softmax(dim=-1)
    if heat:
        seeds, steps = torch.full((len(made),), request.seed), torch.arange(len(made))
        total = total.log_softmax(dim=-1) / heat + gumbel_noise(seeds, steps, size)
    return total.argmax(dim=-1).tolist()


def check(composite: Composite, lengths: Sequence[int], block: Any, size: int, heat: float) -> None:
    decoder = Decoder(composite, block)
    requests = requests_of(composite, lengths)
    made = decoder.generate(requests, SamplingRule(heat), LENGTH, stopped, batch_size=size)
    assert decoder.statistics.plain_reason is None
    assert (decoder.statistics.drafted > 0) == (block != 0)
    for request, one in zip(requests, made, strict=True):
        assert one.tokens == chosen(composite, request, one.tokens, heat), (block, size)
        ends = [n for n, token in enumerate(one.tokens, 1) if stopped([token]) or token == 1]
        assert len(one.tokens) == (ends[0] if ends else LENGTH)


@pytest.mark.parametrize("heat", [0.0, 1.0])
@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[pytest.mark.slow] * (kind != QUICK)) for kind in KINDS]
)
def test_tokens_are_those_of_passes_without_a_cache(make: Any, kind: str, heat: float) -> None:
    for block, size in ((0, 7), (1, 1), (3, 4), (16, 7), ("auto", 4)):
        check(make(kind), LENGTHS, block, size, heat)


WAYS = {
    "window": st.integers(1, 14),
    "lengths": st.lists(st.integers(1, 30), min_size=1, max_size=7),
    "block": st.integers(0, 16),
    "size": st.sampled_from([1, 4, 7]),
    "heat": st.sampled_from([0.0, 1.0]),
}


def around_the_window(
    composite: Composite, window: int, lengths: list[int], block: int, size: int, heat: float
) -> None:
    for member in {view.member for view in composite.views}:
        member.model.config.sliding_window = window  # read at every pass
    try:
        made = Decoder(composite, block).generate(
            requests_of(composite, lengths), SamplingRule(heat), LENGTH, stopped, batch_size=size
        )
        for request, one in zip(requests_of(composite, lengths), made, strict=True):
            assert one.tokens == chosen(composite, request, one.tokens, heat)
    finally:
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
