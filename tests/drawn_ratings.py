"""Ratings of two raters and of panels, as hypothesis draws them."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

fewer = settings(max_examples=40)  # where the reference is slow
rows = st.integers(2, 60)


def ratings(size: int, most: int = 3):
    return arrays(np.float64, size, elements=st.integers(0, most).map(float))


few_raters, some_items = st.integers(2, 5), st.integers(1, 25)


@st.composite
def panels(draw, raters=few_raters, items=some_items, most: int = 4):
    shape = (draw(raters), draw(items))
    values = draw(arrays(np.float64, shape, elements=st.integers(0, most).map(float)))
    values[draw(arrays(np.bool_, shape, elements=st.booleans() | st.just(False)))] = np.nan
    return values


def named(values: np.ndarray) -> dict[str, np.ndarray]:
    return {f"person {row}": line for row, line in enumerate(values)}


def plain(value: object) -> bool:
    """Whether a result is made of Python's own numbers and words, as JSON wants."""
    if isinstance(value, tuple):
        return all(map(plain, value))
    return type(value) in (int, float, str, bool, type(None))


def is_unknown(value: float) -> bool:
    return math.isnan(value)


def correlated_panel(items: int, raters: int = 5, seed: int = 0, holes: float = 0.2) -> np.ndarray:
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, 4, items)
    noise = generator.integers(-1, 2, (raters, items)) * (generator.random((raters, items)) < 0.5)
    values = np.clip(truth + noise, 0, 4).astype(float)
    values[generator.random(values.shape) < holes] = np.nan
    return values
