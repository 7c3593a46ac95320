"""What this machine's CPU reaches, measured: streams, products of few and of many rows, layers."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch

__all__ = ["Processor", "measured_processor"]

_ROWS = (1, 2, 4, 8, 16, 32, 64, 256)
_MATRIX = (2048, 8192)  # float32, 64 MiB: larger than caches
_LAYERS = (2, 10)
_TIMES = 4


class Processor(NamedTuple):
    """A CPU's figures, float32, on as many threads as torch uses.

    Attributes:
        products: Seconds per weight of a product of a matrix with so many rows: (rows, seconds).
        layer: Seconds of a decoder layer of transformers with next to no weights, one token.
    """

    products: tuple[tuple[int, float], ...]
    layer: float

    @property
    def bandwidth(self) -> float:
        """Bytes a second of a matrix times a vector, which is what a decoding step does."""
        return 4 / self.products[0][1]

    @property
    def compute(self) -> float:
        """Operations a second of a product of many rows."""
        rows, seconds = self.products[-1]
        return 2 * rows / seconds

    def per_weight(self, rows: float) -> float:
        """Return the seconds that a product with so many rows takes per weight beyond one row's.

        Few rows reach neither the bandwidth nor the arithmetic: between the rows that were
        measured it is interpolated, and beyond them goes on at the rate of the most.
        """
        least = self.products[0][1]
        for (few, less), (many, more) in pairwise(self.products):
            if rows <= many:
                share = max(rows - few, 0) / (many - few)
                return max(less + share * (more - less) - least, 0.0)
        most, seconds = self.products[-1]
        return seconds * rows / most - least


def measured_processor(clock: Callable[[], float] = time.perf_counter) -> Processor:
    """Return this machine's figures; takes about three seconds.

    Args:
        clock: Seconds; ``time.process_time`` on one thread, so that other work does not count.
    """
    found = []
    with torch.inference_mode():
        matrix = torch.ones(_MATRIX)
        for rows in _ROWS:
            given = torch.ones(rows, _MATRIX[1])
            seconds = _least(lambda given=given: torch.nn.functional.linear(given, matrix), clock)
            found.append((rows, seconds / matrix.numel()))
    return Processor(tuple(found), _layer_seconds(clock))


def _layer_seconds(clock: Callable[[], float]) -> float:
    few, many = (_step_seconds(layers, clock) for layers in _LAYERS)
    return max(0.0, (many - few) / (_LAYERS[1] - _LAYERS[0]))


def _step_seconds(layers: int, clock: Callable[[], float]) -> float:
    from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=8, hidden_size=64, intermediate_size=64, num_hidden_layers=layers,
        num_attention_heads=2, max_position_embeddings=64,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    cache, token = DynamicCache(config=config), torch.ones(1, 1, dtype=torch.long)
    with torch.inference_mode():
        return _least(lambda: model(token, past_key_values=cache, use_cache=True), clock)


def _least(run: Callable[[], object], clock: Callable[[], float]) -> float:
    least = float("inf")
    for _ in range(_TIMES):
        start = clock()
        run()
        least = min(least, clock() - start)
    return least
