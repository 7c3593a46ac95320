"""Hypervolumes against a count of cells, and their difference's interval by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eft_eval.statistics import hypervolume as module
from eft_eval.statistics.hypervolume import Objective, hypervolume, hypervolume_difference

WHOLE = st.lists(st.tuples(st.integers(-2, 9), st.integers(-2, 9)), min_size=1, max_size=6)


@given(WHOLE)
def test_it_is_the_area_that_points_dominate(points: list[tuple[int, int]]) -> None:
    cells = {(i, j) for a, b in points for i in range(max(a, 0)) for j in range(max(b, 0))}
    across, up = np.array(points, dtype=float).T
    assert hypervolume(across, up) == len(cells)
    assert hypervolume(up, across) == len(cells)


@given(WHOLE, WHOLE)
def test_rows_are_apart(first: list[tuple[int, int]], second: list[tuple[int, int]]) -> None:
    count = min(len(first), len(second))
    both = np.array([first[:count], second[:count]], dtype=float)
    whole = hypervolume(both[..., 0], both[..., 1])
    assert list(whole) == [hypervolume(row[:, 0], row[:, 1]) for row in both]


def objective(first: list[list[float]], second: list[list[float]], **changes: object) -> Objective:
    made = Objective(np.array(first, float), np.array(second, float), 0.0, True)
    return made._replace(**changes)  # type: ignore[arg-type]


def test_a_difference_of_curves_that_are_known() -> None:
    good = objective([[1, 0], [1, 1]], [[0, 0], [1, 0]])
    harm = objective([[0, 0], [1, 0]], [[1, 1], [1, 1]], worst=1.0, higher_is_better=False)
    found = hypervolume_difference([good, harm], together=False)
    # gains: first (0.5, 1), (1, 0.5); second (0, 0), (0.5, 0)
    assert found.estimate == pytest.approx(0.75)
    assert found.lower <= 0.75 <= found.upper
    assert hypervolume_difference([good, harm], together=False) == found, "the same draws"
    one = objective([[1.0]], [[0.0]])
    assert math.isnan(hypervolume_difference([one, one], together=True).lower)


def test_equal_curves_have_no_difference() -> None:
    rows = [[0.0, 1.0, 1.0], [1.0, 1.0, 0.0]]
    found = hypervolume_difference([objective(rows, rows), objective(rows, rows)], together=True)
    assert found[:3] == (0, 0, 0)


def test_clusters_are_drawn_whole() -> None:
    """Documents that are written down twice tell nothing more."""
    generator = np.random.default_rng(3)
    rows = (generator.random((2, 3, 40)) < 0.5).astype(float)
    single = Objective(rows[0], rows[1], 0.0, True)
    codes = np.repeat(np.arange(40), 2)
    twice = Objective(np.repeat(rows[0], 2, 1), np.repeat(rows[1], 2, 1), 0.0, True, codes)
    alone = hypervolume_difference([single, single], together=True)
    assert hypervolume_difference([twice, twice], together=True)[:3] == pytest.approx(alone[:3])


CURVES = {
    "small gains": ([0.1, 0.15, 0.2, 0.22, 0.24], [0.08, 0.12, 0.17, 0.2, 0.2]),
    "large gains": ([0.3, 0.5, 0.6, 0.7, 0.8], [0.25, 0.4, 0.5, 0.6, 0.65]),
}
HARM = ([0.05, 0.1, 0.3, 0.5, 0.9], [0.05, 0.15, 0.3, 0.55, 0.9])


@pytest.mark.slow
@pytest.mark.parametrize("documents", [30, 256])
@pytest.mark.parametrize("name", CURVES)
@pytest.mark.parametrize("together", [False, True])
def test_it_covers_the_difference(
    name: str, documents: int, together: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DRAWS", 500)
    generator = np.random.default_rng([documents, len(name), together])
    good, harm = (tuple(np.array(side) for side in pair) for pair in (CURVES[name], HARM))
    true = hypervolume(good[0], 1 - harm[0]) - hypervolume(good[1], 1 - harm[1])
    studies, hits = 500, 0
    for _ in range(studies):
        shared = generator.random(documents)  # how hard a document is, for all points
        other = shared if together else generator.random(documents)

        def drawn(rates: np.ndarray, hard: np.ndarray) -> np.ndarray:
            own = generator.random((len(rates), documents))
            mixed = np.where(generator.random(own.shape) < 0.5, hard, own)
            return (mixed < rates[:, None]).astype(float)

        found = hypervolume_difference(
            [
                Objective(drawn(good[0], shared), drawn(good[1], shared), 0.0, True),
                Objective(drawn(harm[0], other), drawn(harm[1], other), 1.0, False),
            ],
            together,
        )
        hits += found.lower <= true <= found.upper
    assert 0.93 <= hits / studies <= 0.985  # 0.94 to 0.98, and a simulation's own error
