"""What this machine's CPU reaches, measured: streams, products of few and of many rows, layers."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch

from eft_eval.engine.layer_cost import layer_seconds, least_seconds

__all__ = ["Processor", "measured_processor"]

_ROWS = (1, 2, 4, 8, 16, 32, 64, 256)
_MATRIX = (16384, 1024)  # float32, 64 MiB: larger than caches


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
    matrix = torch.ones(_MATRIX)
    products = [(rows, _product_seconds(matrix, rows, clock)) for rows in _ROWS]
    return Processor(tuple(products), layer_seconds(clock))


def _product_seconds(matrix: torch.Tensor, rows: int, clock: Callable[[], float]) -> float:
    """Return the seconds per weight of a product with so many rows."""
    given = torch.ones(rows, matrix.shape[1])
    with torch.inference_mode():
        seconds = least_seconds(lambda: torch.nn.functional.linear(given, matrix), clock)
    return seconds / matrix.numel()
