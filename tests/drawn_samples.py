"""Labelled and unlabelled samples, as hypothesis draws them."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

numbers = st.integers(-40, 40).map(lambda tenths: tenths / 10 + 0.05)  # never a rate


def sample(elements=numbers):
    """Labels and verdicts of some responses, verdicts of others."""
    sizes = st.tuples(st.integers(4, 30), st.integers(2, 40))
    return sizes.flatmap(
        lambda size: st.tuples(
            arrays(np.float64, size[0], elements=elements),
            arrays(np.float64, size[0], elements=elements),
            arrays(np.float64, size[1], elements=elements),
        )
    )


bits = st.integers(0, 1).map(float)


def judged(size: int, generator: np.random.Generator, rate=0.4, right=0.85):
    truth = (generator.random(size) < rate).astype(float)
    return truth, np.where(generator.random(size) < right, truth, 1 - truth)
