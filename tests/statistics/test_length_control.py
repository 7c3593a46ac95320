"""The length-controlled win rate against statsmodels' GLM, and where there is none."""

from __future__ import annotations

import math

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import t

from eft_eval.errors import ConfigError
from eft_eval.statistics.length_control import FEWEST_DOCUMENTS, length_controlled_rate

Numbers = NDArray[np.float64]
STEPS = np.array([0, 0.25, 0.5, 0.75, 1])


def drawn(
    seed: int, n: int, effect: float, base: float = 0.3, shift: float = 20
) -> tuple[Numbers, Numbers]:
    """Fractional outcomes of two orders, and length differences."""
    rng = np.random.default_rng(seed)
    d = np.round(rng.normal(shift, 80, n))
    p = 1 / (1 + np.exp(-(base + effect * np.tanh(d / 80))))
    return rng.binomial(4, p) / 4, d


def reference(y: Numbers, d: Numbers, groups: Numbers | None = None) -> tuple[float, float, float]:
    """Return intercept, its robust standard error and slope by statsmodels."""
    design = sm.add_constant(np.tanh(d / d.std(ddof=1)))
    model = sm.GLM(y, design, family=sm.families.Binomial())
    if groups is None:
        fit = model.fit(cov_type="HC0", tol=1e-14, maxiter=200)
        factor = math.sqrt(len(y) / (len(y) - 2))  # which GLM leaves out of its HC1, too
    else:
        fit = model.fit(cov_type="cluster", cov_kwds={"groups": groups}, tol=1e-14, maxiter=200)
        factor = 1.0
    return float(fit.params[0]), factor * float(fit.bse[0]), float(fit.params[1])


@given(st.integers(0, 10_000), st.integers(30, 200), st.floats(-3, 3), st.booleans())
@settings(max_examples=40)
def test_it_is_statsmodels_glm(seed: int, n: int, effect: float, clustered: bool) -> None:
    y, d = drawn(seed, n, effect)
    groups = np.arange(n) // 3 if clustered else None
    found = length_controlled_rate(y, d, groups)
    if found.reason:
        return
    intercept, error, slope = reference(y, d, groups)
    rate = 1 / (1 + math.exp(-intercept))
    freedom = n - 2 if groups is None else len(np.unique(groups)) - 1
    half = float(t.ppf(0.975, freedom)) * error
    assert found.interval.estimate == pytest.approx(rate, rel=1e-7)
    assert found.slope == pytest.approx(slope, rel=1e-6, abs=1e-8)
    assert found.standard_error == pytest.approx(rate * (1 - rate) * error, rel=1e-6)
    ends = [1 / (1 + math.exp(-(intercept + sign * half))) for sign in (-1, 1)]
    assert list(found.interval[1:3]) == pytest.approx(ends, rel=1e-6)


@given(st.integers(0, 10_000), st.floats(-3, 3))
@settings(max_examples=25)
def test_it_turns_round_with_the_runs_and_ignores_the_unit(seed: int, effect: float) -> None:
    y, d = drawn(seed, 80, effect)
    found, turned = length_controlled_rate(y, d), length_controlled_rate(1 - y, -d)
    if not found.reason:
        assert turned.interval.estimate == pytest.approx(1 - found.interval.estimate)
        assert turned.standard_error == pytest.approx(found.standard_error, rel=1e-6)
        scaled = length_controlled_rate(y, 7.5 * d)
        assert scaled.interval.estimate == pytest.approx(found.interval.estimate)


def test_a_judge_of_length_alone_gives_a_half() -> None:
    y, d = drawn(3, 4000, 2.5, base=0.0, shift=60)
    assert y.mean() > 0.6
    found = length_controlled_rate(y, d)
    assert found.interval.lower < 0.5 < found.interval.upper
    assert abs(found.interval.estimate - 0.5) < 0.03
    assert found.slope > 1


def test_intervals_hold_the_truth() -> None:
    truth = 1 / (1 + math.exp(-0.3))
    inside = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        d = rng.normal(20, 80, 60)
        x = np.tanh(d / d.std(ddof=1))
        y = rng.binomial(4, 1 / (1 + np.exp(-(0.3 + x)))) / 4
        _, lower, upper, *_ = length_controlled_rate(y, d).interval
        inside += lower <= truth <= upper
    assert 0.91 <= inside / 300 <= 0.985


def lengths(n: int = 40) -> Numbers:
    return np.arange(n, dtype=float) - n / 2


@pytest.mark.parametrize(
    ("scores", "differences", "said"),
    [
        (np.tile(STEPS, 5), np.arange(25.0), "25 documents with a score, and 30 are needed"),
        (np.tile(STEPS, 8), np.full(40, 3.0), "the lengths differ by 3 in every document"),
        (np.ones(40), lengths(), "the same model wins in every document"),
        (np.zeros(40), lengths(), "the same model wins in every document"),
        ((lengths() > 0).astype(float), lengths(), "length alone tells who wins"),
        (np.sign(lengths()) / 2 + 0.5, lengths(), "length alone tells who wins"),
        (np.where(lengths() < 0, 1.0, 0.0), lengths(), "length alone tells who wins"),
    ],
    ids=["few", "equal lengths", "all won", "all lost", "separated", "ties between", "shorter"],
)
def test_there_is_no_number_where_there_is_none(
    scores: Numbers, differences: Numbers, said: str
) -> None:
    found = length_controlled_rate(scores, differences)
    assert said in found.reason
    numbers = [*found.interval[:3], found.standard_error, found.slope]
    assert all(math.isnan(one) for one in numbers)


def test_what_is_missing_is_left_out() -> None:
    y, d = drawn(1, 60, 1.0)
    holed = np.concatenate([y, [np.nan] * 5])
    found = length_controlled_rate(holed, np.concatenate([d, np.ones(5)]))
    assert found == length_controlled_rate(y, d)
    assert found.n == 60
    short = length_controlled_rate(np.concatenate([y[:29], [np.nan]]), d[:30])
    assert short.reason.startswith(f"29 documents with a score, and {FEWEST_DOCUMENTS}")


def test_one_run_always_longer_is_said() -> None:
    y, d = drawn(2, 60, 1.0)
    (said,) = length_controlled_rate(y, np.abs(d) + 1).warnings
    assert said.startswith("the first response is the longer one in every document")
    assert length_controlled_rate(y, -np.abs(d) - 1).warnings[0].startswith("the second")
    assert length_controlled_rate(y, d).warnings == ()


def test_all_ties_are_a_half_without_an_interval() -> None:
    found = length_controlled_rate(np.full(40, 0.5), lengths())
    assert found.interval.estimate == 0.5
    assert math.isnan(found.interval.lower)


def test_wrong_numbers_are_refused() -> None:
    with pytest.raises(ConfigError, match="not from 0 to 1"):
        length_controlled_rate(np.full(40, 2.0), lengths())
    with pytest.raises(ConfigError, match="2 scores and 3 length differences"):
        length_controlled_rate([0, 1], [1, 2, 3])
