"""The normalised improvement: the share of the way from the small to the large model's score."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
import statsmodels.api
from hypothesis import given
from hypothesis import strategies as st

from eft_eval.statistics.fieller import normalised_improvement

SIMULATED = 3_000


def three(seed: int, n: int, gap: float = -1.0, share: float = 0.7) -> list[Any]:
    """Return correlated numbers of small tuned, arm and large tuned; the true ratio is share."""
    generator = np.random.default_rng(seed)
    common = generator.normal(0, 0.8, n)
    means = (1.5, 1.5 + share * gap, 1.5 + gap)
    return [mean + common + generator.normal(0, 0.6, n) for mean in means]


@pytest.mark.parametrize("n", [8, 40, 300])
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_the_ends_are_where_scipys_paired_t_test_stops_rejecting(n: int, level: float) -> None:
    small, arm, large = three(n, n)
    found = normalised_improvement(small, arm, large, level=level)

    def excess(ratio: float) -> float:
        test = scipy.stats.ttest_1samp((arm - small) - ratio * (large - small), 0.0)
        return float(test.pvalue) - (1 - level)

    assert found.estimate == pytest.approx((arm - small).mean() / (large - small).mean())
    assert scipy.optimize.brentq(excess, found.estimate - 5, found.estimate) == pytest.approx(
        found.lower, abs=1e-6
    )
    assert scipy.optimize.brentq(excess, found.estimate, found.estimate + 5) == pytest.approx(
        found.upper, abs=1e-6
    )


def test_clustered_ends_are_where_a_clustered_regression_stops_rejecting() -> None:
    small, arm, large = three(3, 120)
    groups = np.repeat(np.arange(24), 5)
    small, arm = small + groups % 3, arm + groups % 5
    found = normalised_improvement(small, arm, large, groups)

    def p_value(ratio: float) -> float:
        fit = statsmodels.api.OLS((arm - small) - ratio * (large - small), np.ones(120)).fit(
            cov_type="cluster", cov_kwds={"groups": groups, "use_correction": False}
        )
        t = fit.params[0] / (fit.bse[0] * math.sqrt(24 / 23))
        return float(2 * scipy.stats.t.sf(abs(t), 23))

    assert p_value(found.lower) == pytest.approx(0.05)
    assert p_value(found.upper) == pytest.approx(0.05)
    assert found.upper - found.lower > 0


@given(st.integers(0, 500), st.floats(-3, 3), st.floats(0.1, 10))
def test_units_and_origin_do_not_matter(seed: int, shift: float, factor: float) -> None:
    numbers = three(seed, 60)
    found = normalised_improvement(*numbers)
    moved = normalised_improvement(*(shift - factor * row for row in numbers))
    assert moved[:3] == pytest.approx(found[:3], rel=1e-6, abs=1e-6)


def test_the_ends_of_the_scale_are_0_and_1() -> None:
    small, _, large = three(1, 50)
    assert normalised_improvement(small, small, large)[:3] == pytest.approx((0, 0, 0))
    assert normalised_improvement(small, large, large)[:3] == pytest.approx((1, 1, 1))


def test_tuned_models_that_are_not_apart_give_no_interval() -> None:
    small, arm, large = three(1, 30, gap=0.05)
    found = normalised_improvement(small, arm, large)
    assert math.isnan(found.lower)
    assert math.isnan(found.upper)
    assert scipy.stats.ttest_rel(small, large).pvalue > 0.05
    same = normalised_improvement(small, arm, small)
    assert math.isnan(same.estimate)
    nobody = normalised_improvement(small[:0], arm[:0], large[:0])
    assert math.isnan(nobody.estimate)
    assert math.isnan(normalised_improvement(small[:1], arm[:1], large[:1]).lower)


@pytest.mark.parametrize(("n", "clustered"), [(30, False), (256, False), (120, True)])
def test_the_interval_covers_the_true_ratio(n: int, clustered: bool) -> None:
    hits = 0
    generator = np.random.default_rng(11)
    groups = np.repeat(np.arange(n // 5), 5) if clustered else None
    for seed in range(SIMULATED):
        numbers = three(seed, n)
        if clustered:
            numbers = [row + np.repeat(generator.normal(0, 0.5, n // 5), 5) for row in numbers]
        found = normalised_improvement(*numbers, groups)
        hits += found.lower <= 0.7 <= found.upper
    assert hits / SIMULATED == pytest.approx(0.95, abs=0.015)


def bootstrap(rows: list[np.ndarray], draws: int = 2000) -> tuple[float, float]:
    """Return the ends of a paired bootstrap over documents: another method, to compare with."""
    picks = np.random.default_rng(1).integers(len(rows[0]), size=(draws, len(rows[0])))
    low, middle, high = np.array(rows)[:, picks].mean(axis=2)
    lower, upper = np.quantile((middle - low) / (high - low), [0.025, 0.975])
    return float(lower), float(upper)


def test_counts_like_the_demos_are_covered_too_and_the_bootstrap_agrees() -> None:
    hits = 0
    for seed in range(SIMULATED):
        generator = np.random.default_rng(seed)
        rows = [generator.poisson(mean, 128).astype(float) for mean in (1.2, 0.34, 0.24)]
        found = normalised_improvement(*rows)
        true = (1.2 - 0.34) / (1.2 - 0.24)
        hits += found.lower <= true <= found.upper
        if seed < 5:
            assert bootstrap(rows) == pytest.approx(found[1:3], abs=0.04)
    assert hits / SIMULATED == pytest.approx(0.95, abs=0.015)
