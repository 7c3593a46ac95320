"""Rates and means against statsmodels and scipy."""

from __future__ import annotations

import itertools
import math
import statistics
import subprocess
import sys

import numpy as np
import pytest
from drawn_ratings import fewer
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.proportion import proportion_confint

from eft_eval.agreement import (
    clustered_standard_error,
    finite_population_factor,
    mean_with_interval,
    pair_agreement,
    panel_agreement,
    proportion,
    proportion_standard_error,
    wilson_interval,
)
from eft_eval.errors import ConfigError


def test_the_papers_numbers():
    agreement, gold = proportion(61, 100), proportion(23, 30)
    assert agreement.population_standard_error == pytest.approx(0.048775, abs=5e-7)
    assert agreement.standard_error == pytest.approx(0.049021, abs=5e-7)
    assert gold.population_standard_error == pytest.approx(0.077220, abs=5e-7)
    assert gold.standard_error == pytest.approx(0.078540, abs=5e-7)
    assert round(proportion_standard_error(0.77, 30), 3) == 0.078  # the paper's 7.8 %


@given(st.integers(1, 2000), st.floats(0, 1), st.sampled_from([0.8, 0.9, 0.95, 0.99]))
def test_wilson_is_statsmodels_and_scipys(n, share, level):
    successes = round(share * n)
    ours = wilson_interval(successes, n, level)
    theirs = proportion_confint(successes, n, alpha=1 - level, method="wilson")
    assert (ours.lower, ours.upper) == pytest.approx(theirs, abs=1e-12)
    scipys = stats.binomtest(successes, n).proportion_ci(level, method="wilson")
    assert (ours.lower, ours.upper) == pytest.approx((scipys.low, scipys.high), abs=1e-12)
    assert 0 <= ours.lower <= ours.estimate <= ours.upper <= 1


@fewer
@given(arrays(np.float64, st.integers(3, 60), elements=st.floats(-9, 9)), st.data())
def test_clustered_mean_is_statsmodels(values, data):
    clusters = data.draw(arrays(np.int64, len(values), elements=st.integers(0, 8)))
    assume(len(np.unique(clusters)) > 1)
    assume(np.ptp(values) > 1e-3)
    fit = OLS(values, np.ones(len(values))).fit(
        cov_type="cluster", cov_kwds={"groups": clusters}, use_t=True
    )
    error = clustered_standard_error(values, clusters)
    assert error == pytest.approx(float(fit.bse[0]), rel=1e-9, abs=1e-12)
    ours = mean_with_interval(values, clusters)
    assert ours.clusters == len(np.unique(clusters))
    if error > 1e-6:
        expected = tuple(fit.conf_int()[0])
        assert ours.interval[1:3] == pytest.approx(expected, rel=1e-9, abs=1e-9)


@fewer
@given(arrays(np.float64, st.integers(2, 40), elements=st.floats(-9, 9)))
def test_plain_mean_is_scipys_t_interval(values):
    assume(np.ptp(values) > 1e-3)
    ours = mean_with_interval(values)
    theirs = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert ours.interval[1:3] == pytest.approx((theirs.low, theirs.high), rel=1e-9, abs=1e-9)
    alone = mean_with_interval(values, range(len(values)))
    assert alone.interval[:3] == pytest.approx(ours.interval[:3], rel=1e-9, abs=1e-12)


def test_finite_population():
    assert finite_population_factor(30, 39) == pytest.approx(math.sqrt(9 / 39))
    assert finite_population_factor(39, 39) == 0
    with pytest.raises(ConfigError, match="40 drawn of 39"):
        finite_population_factor(40, 39)


def test_finite_factor_is_the_design_variance():
    """Over all draws of 3 of 5, the mean of SE² is the variance of the drawn share."""
    population = [0, 1, 1, 0, 1]
    shares, variances = [], []
    for draw in itertools.combinations(population, 3):
        shares.append(statistics.fmean(draw))
        error = proportion_standard_error(shares[-1], 3) * finite_population_factor(3, 5)
        variances.append(error**2)
    assert statistics.fmean(variances) == pytest.approx(statistics.pvariance(shares))


def test_importing_loads_neither_torch_nor_lm_eval():
    code = (
        "import sys, eft_eval.agreement\n"
        "print(*{'torch', 'lm_eval', 'scipy', 'pydantic'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=2, max_size=12), st.data()
)
def test_intervals_of_shares_lie_within_0_and_1(rows, data):
    first, second = (list(column) for column in zip(*rows, strict=True))
    clusters = data.draw(st.lists(st.integers(0, 4), min_size=len(rows), max_size=len(rows)))
    pair = pair_agreement(first, second, clusters=clusters)
    panel = panel_agreement({"a": first, "b": second}, clusters=clusters)
    for interval in (pair.clustered.interval, panel.agreement.interval):
        assert math.isnan(interval.lower) or 0 <= interval.lower <= interval.upper <= 1
