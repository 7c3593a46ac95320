"""How many labels a correction needs, by statsmodels and by trying every mix."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from drawn_ratings import fewer
from drawn_samples import judged
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.proportion import samplesize_confint_proportion

from eft_eval.agreement import cheapest_mix, correct_mean, labels_needed
from eft_eval.errors import ConfigError


def test_labels_for_ten_and_five_points():
    assert labels_needed(0.10, rate=0.61).labels == 92
    assert labels_needed(0.05, rate=0.61).labels == 366


@given(st.floats(0.01, 0.3), st.floats(0.05, 0.95))
def test_labels_needed_is_statsmodels(half_width, rate):
    plan = labels_needed(half_width, rate=rate)
    expected = samplesize_confint_proportion(rate, half_width)
    assert plan.labels == max(1, math.ceil(expected - 1e-9))
    assert plan.half_width <= half_width * (1 + 1e-9)
    assert labels_needed(half_width, deviation=math.sqrt(rate * (1 - rate))).labels == plan.labels


@given(st.floats(0.02, 0.2), st.integers(50, 5000))
def test_a_finite_population_needs_fewer(half_width, population):
    plan = labels_needed(half_width, population=population)
    assert plan.labels <= min(population, labels_needed(half_width).labels)
    assert plan.half_width <= half_width * (1 + 1e-9)


@fewer
@given(
    st.floats(0.05, 0.2),
    st.floats(0, 0.99),
    st.floats(0.5, 5),
    st.floats(0, 1),
    st.none() | st.integers(50, 2000),
)
def test_cheapest_mix_by_trying_every_mix(half_width, correlation, label, verdict, most):
    plan = cheapest_mix(
        half_width,
        label_cost=label,
        verdict_cost=verdict,
        correlation=correlation,
        most_verdicts=most,
    )
    z, share = stats.norm.ppf(0.975), correlation**2
    alone = math.ceil(0.25 * (z / half_width) ** 2)
    cheapest = alone * label
    for n in range(30, alone):
        low, high = n, most or 20_000  # least T that suffices, by halving
        if z * 0.5 * math.sqrt((1 - share) / n + share / high) > half_width:
            continue
        while low < high:
            middle = (low + high) // 2
            enough = z * 0.5 * math.sqrt((1 - share) / n + share / middle) <= half_width
            low, high = (low, middle) if enough else (middle + 1, high)
        cheapest = min(cheapest, n * label + low * verdict)
    assert plan.labels_only == alone
    if most is not None:
        assert plan.verdicts <= most
    assert plan.cost <= cheapest * (1 + 1e-9) + 1e-9
    assert plan.half_width <= half_width * (1 + 1e-6)
    assert plan.cost == pytest.approx(plan.labels * label + plan.verdicts * verdict)
    assert 0 <= plan.saving < 1


def test_the_plan_is_kept_by_the_correction():
    """Labels and verdicts as planned give about the planned half-width."""
    truth, verdicts = judged(200_000, np.random.default_rng(4))
    pilot = float(np.corrcoef(truth, verdicts)[0, 1])
    plan = cheapest_mix(0.03, label_cost=1, verdict_cost=0.01, correlation=pilot, rate=0.4)
    assert plan.verdicts > plan.labels
    assert plan.saving > 0.3
    widths = []
    for start in range(0, 5 * plan.verdicts, plan.verdicts):
        y, f = truth[start : start + plan.verdicts], verdicts[start : start + plan.verdicts]
        interval = correct_mean(
            y[: plan.labels], f[: plan.labels], f[plan.labels :]
        ).prediction_powered
        widths.append((interval.upper - interval.lower) / 2)
    assert statistics.fmean(widths) == pytest.approx(0.03, rel=0.04)


def test_plans_without_a_use_for_the_judge():
    useless = cheapest_mix(0.05, label_cost=1, verdict_cost=0.01, correlation=0)
    assert (useless.verdicts, useless.saving) == (0, 0)
    assert useless.labels == labels_needed(0.05).labels
    dear = cheapest_mix(0.05, label_cost=1, verdict_cost=10, variance_reduction=0.5)
    assert dear.verdicts == 0
    few = cheapest_mix(0.05, label_cost=1, verdict_cost=0, correlation=0.9, most_verdicts=100)
    assert any("more than the 100 responses" in text for text in few.warnings)
    certain = cheapest_mix(0.05, label_cost=1, verdict_cost=0, correlation=0.9, rate=0)
    assert certain.labels == 1
    assert certain.warnings


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"correlation": 0.5, "variance_reduction": 0.5}, "either the correlation or"),
        ({}, "either the correlation or"),
        ({"correlation": 2}, "correlation is 2"),
        ({"variance_reduction": -1}, "variance reduction is -1"),
        ({"correlation": 0.5, "rate": 61}, "rate is 61"),
        ({"correlation": 0.5, "half_width": 0}, "half-width is 0"),
        ({"correlation": 0.5, "half_width": 1e-5}, "expected a half-width that takes at most"),
        ({"correlation": 0.5, "label_cost": 0}, "a label costs 0"),
        ({"correlation": 0.5, "deviation": -1}, "deviation is -1"),
    ],
)
def test_bad_plans_are_named(options, said):
    defaults = {"half_width": 0.05, "label_cost": 1, "verdict_cost": 0.1}
    with pytest.raises(ConfigError, match=said):
        cheapest_mix(**{**defaults, **options})
    with pytest.raises(ConfigError, match="population is 0"):
        labels_needed(0.05, population=0)
