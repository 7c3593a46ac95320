"""Composites decoded in any batch, against the tokens that passes without a cache choose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from eft_eval.api import Composite
from eft_eval.composite.mathematics import gumbel_noise
from eft_eval.decoding import Decoder, Request, SamplingRule
from eft_eval.engine.loading import LoadOptions
from eft_eval.recipe import parse_recipe

LENGTH = 12


def composite_of(base: str, tuned: str, dtype: str) -> Composite:
    spec = {path: {"model": path, "dtype": dtype} for path in (base, tuned)}
    delta = {"tuned": spec[tuned], "reference": spec[base], "weight": 0.5}
    return Composite(parse_recipe({"base": spec[base], "deltas": [delta]}), LoadOptions())


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
