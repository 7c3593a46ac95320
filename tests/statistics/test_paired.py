"""Paired statistics against statsmodels and scipy, and by simulation."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import scipy.stats
import statsmodels.api
from careful_bounds import bounds, careful_error, p_below
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.multitest import multipletests

from eft_eval.comparing import holm, paired_difference, paired_test, plan_comparison, sign_flip_test
from eft_eval.comparing.gate import Gated, decide
from eft_eval.errors import ConfigError

SIMULATED = 4_000


def numbers(seed: int, n: int) -> Any:
    return np.random.default_rng(seed).normal(0.2, 1.0, n)


@pytest.mark.parametrize("n", [2, 3, 30, 400])
def test_the_interval_is_that_of_scipys_paired_t_test(n: int) -> None:
    before, after = numbers(0, n), numbers(1, n)
    found = paired_difference(after - before)
    expected = scipy.stats.ttest_rel(after, before)
    low, high = expected.confidence_interval(0.95)
    assert found.interval[:3] == pytest.approx(((after - before).mean(), low, high))


@pytest.mark.parametrize("n", [2, 3, 30, 400])
@pytest.mark.parametrize("kind", ["normal", "skewed", "rates"])
def test_one_sided_bounds_and_p_values_are_those_of_the_reference(n: int, kind: str) -> None:
    values = numbers(n, n)
    if kind == "skewed":
        values = 0.3 - np.exp(values)
    elif kind == "rates":
        values = np.where(np.arange(n) % 7 == 0, -1.0, np.where(np.arange(n) % 5 == 4, 1.0, 0.0))
    found = paired_difference(values)
    assert found.careful_error == pytest.approx(careful_error(values))
    for limit in (found.bound(level).upper for level in (0.6, 0.9, 0.999)):
        assert found.p_below(limit) == pytest.approx(p_below(values, limit))
    assert found.p_below(found.interval.estimate - 0.01) >= 0.5
    for level in (0.9, 0.95, 0.995):
        assert found.bound(level)[1:3] == pytest.approx(bounds(values, level))
        turned = found.negated().bound(level)
        assert (turned.lower, turned.upper) == pytest.approx(
            (-found.bound(level).upper, -found.bound(level).lower)
        )


@pytest.mark.parametrize("n", [20, 100])
def test_bounds_are_never_more_daring_than_students(n: int) -> None:
    for seed in range(20):
        values = np.random.default_rng(seed).gamma(0.5, size=n) * (-1) ** seed
        interval = paired_difference(values, level=0.9).interval  # two-sided 90 %: 5 % either way
        bound = paired_difference(values).bound(0.95)
        assert bound.lower < interval.lower
        assert interval.upper < bound.upper


@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
@pytest.mark.parametrize("events", [1, 2, 3, 5, 10, 20])
def test_a_few_rare_losses_are_bounded_as_a_count_is(events: int, level: float) -> None:
    """Documents that got worse by 1, all others as before: the exact bound of a rate."""
    n = 500
    values = np.repeat([-1.0, 0.0], [events, n - events])
    exact = -scipy.stats.beta.ppf(level, events + 1, n - events)
    found = paired_difference(values).bound(level).lower
    assert found == pytest.approx(exact, rel=0.07)


@given(st.lists(st.integers(-9, 9), min_size=2, max_size=30), st.floats(-12, 12), st.floats(0, 2))
def test_a_p_value_grows_as_its_limit_falls(raw: list[int], limit: float, less: float) -> None:
    found = paired_difference(np.array(raw, dtype=float))
    assert 0 <= found.p_below(limit) <= found.p_below(limit - less) + 1e-12 <= 1 + 1e-9
    if found.standard_error > 0:
        assert (found.p_below(limit) <= 0.05) == (found.bound(0.95).upper <= limit + 1e-12)


@pytest.mark.parametrize("scale", [1e-120, 1e120])
def test_numbers_of_any_size_have_bounds(scale: float) -> None:
    values = np.exp(numbers(3, 30))
    small, found = paired_difference(values), paired_difference(values * scale)
    assert found.bound(0.95)[1:3] == pytest.approx(
        tuple(scale * end for end in small.bound(0.95)[1:3])
    )
    assert found.negated().p_below() == pytest.approx(small.negated().p_below())


def test_bounds_of_clusters_are_those_of_their_sums() -> None:
    differences, groups = numbers(2, 120) ** 3, np.repeat(np.arange(24), 5)
    found = paired_difference(differences, groups)
    sums = differences.reshape(24, 5).mean(axis=1)
    assert found.bound(0.95)[1:3] == pytest.approx(bounds(sums, 0.95))
    limit = found.bound(0.99).upper + 0.01
    assert found.p_below(limit) == pytest.approx(p_below(sums, limit))


def test_the_clustered_error_is_that_of_statsmodels_up_to_its_own_factor() -> None:
    differences, groups = numbers(2, 120), np.repeat(np.arange(24), 5)
    found = paired_difference(differences, groups)
    fit = statsmodels.api.OLS(differences, np.ones(120)).fit(
        cov_type="cluster", cov_kwds={"groups": groups, "use_correction": False}, use_t=True
    )
    # Miller's formula with C/(C-1); statsmodels has none without its correction
    assert found.standard_error == pytest.approx(fit.bse[0] * math.sqrt(24 / 23))
    assert (found.clusters, found.freedom, found.n) == (24, 23, 120)
    half = scipy.stats.t.ppf(0.975, 23) * found.standard_error
    assert found.interval.upper == pytest.approx(differences.mean() + half)


@given(st.integers(2, 12), st.integers(2, 6), st.integers(0, 10_000))
def test_averaging_equal_numbers_of_samples_is_clustering(n: int, each: int, seed: int) -> None:
    differences = numbers(seed, n * each)
    clustered = paired_difference(differences, np.repeat(np.arange(n), each))
    averaged = paired_difference(differences.reshape(n, each).mean(axis=1))
    assert clustered.interval[:3] == pytest.approx(averaged.interval[:3], nan_ok=True)
    assert clustered.freedom == averaged.freedom


@pytest.mark.parametrize(("higher", "lower"), [(0, 0), (3, 0), (5, 5), (2, 11), (40, 22)])
def test_mcnemars_mid_p(higher: int, lower: int) -> None:
    before = np.array([0.0] * higher + [1.0] * lower + [1.0, 0.0])
    after = np.array([1.0] * higher + [0.0] * lower + [1.0, 0.0])
    found = paired_test(before, after)
    assert (found.name, found.higher, found.lower) == ("McNemar mid-p", higher, lower)
    table = [[1, higher], [lower, 1]]
    exact = statsmodels_mcnemar(table, exact=True).pvalue
    at = scipy.stats.binom.pmf(min(higher, lower), higher + lower, 0.5)
    expected = 1.0 if higher == lower else exact - at
    assert found.p_value == pytest.approx(expected)


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=9))
def test_the_exact_sign_flips_are_all_of_them(raw: list[int]) -> None:
    differences = np.array(raw, dtype=float)
    observed = abs(sum(raw))
    signs = list(itertools.product((-1, 1), repeat=len(raw)))
    hits = sum(
        abs(sum(s * d for s, d in zip(sign, raw, strict=True))) >= observed for sign in signs
    )
    assert sign_flip_test(differences).p_value == pytest.approx(hits / len(signs))


def test_random_sign_flips_agree_with_scipy_and_repeat() -> None:
    differences = numbers(3, 60)
    found = sign_flip_test(differences, seed=5)
    expected = scipy.stats.permutation_test(
        (differences, np.zeros(60)),
        lambda x, y: (x - y).mean(),
        permutation_type="samples",
        n_resamples=20_000,
        random_state=np.random.default_rng(0),  # `rng` since scipy 1.15
    ).pvalue
    assert found.p_value == pytest.approx(expected, abs=0.01)
    assert (found.name, found.flips, found.seed) == ("sign flips, random", 10_000, 5)
    assert found == sign_flip_test(differences, seed=5)
    assert found.p_value != sign_flip_test(differences, seed=6).p_value
    assert sign_flip_test(np.ones(200)).p_value == 1 / 10_001


def test_random_and_exact_flips_agree_at_the_border() -> None:
    base = numbers(4, 20)
    exact = sign_flip_test(base)
    padded = sign_flip_test(np.append(base, 1e-9), flips=200_000)
    assert (exact.name, padded.name) == ("sign flips, exact", "sign flips, random")
    assert padded.p_value == pytest.approx(exact.p_value, abs=0.005)


@settings(max_examples=15)  # statsmodels takes 0.2 s for each
@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_is_statsmodels(p_values: list[float]) -> None:
    expected = multipletests(p_values, method="holm")[1] if p_values else []
    assert holm(p_values) == pytest.approx(list(expected))


@given(
    st.lists(st.floats(-3, 3), min_size=2, max_size=40), st.integers(0, 5), st.sampled_from([1, 3])
)
def test_swapping_the_runs_turns_everything_round(raw: list[float], seed: int, size: int) -> None:
    after = np.array(raw)
    before = np.random.default_rng(seed).permutation(after) + 0.1
    clusters = None if size == 1 else np.arange(len(raw)) // size
    there = paired_difference(after - before, clusters)
    back = paired_difference(before - after, clusters)
    assert there.interval.estimate == -back.interval.estimate
    assert there.interval.lower == pytest.approx(-back.interval.upper, nan_ok=True)
    assert there.p_below() == pytest.approx(back.negated().p_below())
    assert there.p_below() + back.p_below() >= 1 - 1e-9
    one, other = (paired_test(*pair, clusters) for pair in ((before, after), (after, before)))
    assert one.p_value == other.p_value
    assert (one.higher, one.lower) == (other.lower, other.higher)


def test_the_published_numbers_of_items() -> None:
    # 0.03: (1.644854 + 0.841621)² · 0.2 / 0.03² = 1373.9
    for resolution, items in ((0.02, 3092), (0.03, 1374), (0.05, 495), (0.08, 194)):
        assert plan_comparison(resolution).certify == items
    assert plan_comparison(0.05, metrics=10).detect > plan_comparison(0.05).detect == 495
    clustered = plan_comparison(0.05, cluster_size=5, correlation=0.3)
    assert clustered.certify == pytest.approx(495 * 2.2, abs=2)
    with pytest.raises(ConfigError, match="resolution is 0; expected a number above 0"):
        plan_comparison(0)
    with pytest.raises(ConfigError, match=r"resolution is 1e-300: more than 1,000,000,000,000"):
        plan_comparison(1e-300)
    for resolution, differ in ((2.0, 0.2), (0.05, 0.01)):  # 1 % that differ lose 5 points nowhere
        with pytest.raises(ConfigError, match="by no more than the share of documents that differ"):
            plan_comparison(resolution, disagreement=differ)
    assert plan_comparison(2.0, deviation=3.0).certify == 14  # (2.4865 · 3 / 2)², rounded up


def test_the_planned_number_has_the_power() -> None:
    plan = plan_comparison(0.1, deviation=0.5, power=0.8)
    draws = np.random.default_rng(0).normal(0.0, 0.5, (SIMULATED, plan.certify))
    half = scipy.stats.t.ppf(0.95, plan.certify - 1) * draws.std(axis=1, ddof=1)
    lower = draws.mean(axis=1) - half / math.sqrt(plan.certify)
    assert (lower > -0.1).mean() == pytest.approx(0.8, abs=0.025)


@settings(max_examples=20)
@given(st.lists(st.floats(-0.6, 0.3), min_size=1, max_size=8), st.integers(0, 1_000))
def test_the_upper_bound_says_what_holm_says(shifts: list[float], seed: int) -> None:
    generator = np.random.default_rng(seed)
    gains = [paired_difference(generator.normal(shift, 1.0, 40)) for shift in shifts]
    gated = [Gated(f"m{i}", gain, 40, 0.0, False) for i, gain in enumerate(gains)]
    decisions = decide(gated, 0.05)
    expected = multipletests([gain.p_below() for gain in gains], 0.05, method="holm")[0]
    for gain, decision, rejected in zip(gains, decisions, expected, strict=True):
        assert decision.upper is not None
        assert decision.upper_level is not None
        assert (decision.outcome == "regression") == bool(rejected)
        assert (decision.upper < 0) == bool(rejected)
        assert decision.upper == pytest.approx(gain.bound(decision.upper_level).upper)


def correlated_bits(generator: Any, n: int, agree: float) -> tuple[Any, Any]:
    """Return two runs with accuracy 0.5 that agree on a share of the items."""
    before = generator.integers(0, 2, n).astype(float)
    changed = generator.random(n) >= agree
    return before, np.where(changed, generator.integers(0, 2, n), before)


@pytest.mark.slow
@pytest.mark.parametrize("n", [30, 100, 1000])
def test_type_one_errors_of_interval_tests_and_gate(n: int) -> None:
    generator = np.random.default_rng(n)
    interval = mid_p = gate = 0
    for _ in range(SIMULATED):
        before, after = correlated_bits(generator, n, 0.6)
        found = paired_difference(after - before)
        interval += not found.interval.lower <= 0 <= found.interval.upper
        mid_p += paired_test(before, after).p_value <= 0.05
        gate += decide([Gated("m", found, n, 0.0, False)], 0.05)[0].outcome == "regression"
    assert 0.035 < interval / SIMULATED < 0.062
    assert 0.025 < mid_p / SIMULATED < 0.06
    assert 0.025 < gate / SIMULATED < 0.062  # one-sided; careful where documents are few


@pytest.mark.slow
def test_type_one_error_of_the_sign_flips_on_counts() -> None:
    generator = np.random.default_rng(1)
    hits = sum(
        sign_flip_test(
            (generator.poisson(0.4, 60) - generator.poisson(0.4, 60)).astype(float), 1_000, seed
        ).p_value
        <= 0.05
        for seed in range(2_000)
    )
    assert 0.035 < hits / 2_000 < 0.065


@pytest.mark.slow
@pytest.mark.parametrize(("size", "correlation"), [(5, 0.3), (10, 0.5)])
def test_coverage_with_clusters(size: int, correlation: float) -> None:
    generator = np.random.default_rng(size)
    clusters = np.repeat(np.arange(40), size)
    clustered = naive = flips = 0
    for seed in range(SIMULATED):
        shared = np.repeat(generator.normal(0, math.sqrt(correlation), 40), size)
        own = generator.normal(0, math.sqrt(1 - correlation), 40 * size)
        found = paired_difference(shared + own, clusters).interval
        clustered += found.lower <= 0 <= found.upper
        plain = paired_difference(shared + own).interval
        naive += plain.lower <= 0 <= plain.upper
        if seed < 500:
            test = paired_test(np.zeros(40 * size), shared + own, clusters, flips=1_000, seed=seed)
            flips += test.p_value <= 0.05
    assert 0.935 < clustered / SIMULATED < 0.965
    assert naive / SIMULATED < 0.85
    assert 0.025 < flips / 500 < 0.08


@pytest.mark.slow
def test_ten_unchanged_metrics_are_seldom_called_a_regression() -> None:
    generator = np.random.default_rng(7)
    alarms = untreated = 0
    for _ in range(2_000):
        gains = []
        for _ in range(10):
            before, after = correlated_bits(generator, 200, 0.6)
            gains.append(paired_difference(after - before))
        gated = [Gated(f"m{i}", gain, 200, 0.0, False) for i, gain in enumerate(gains)]
        alarms += any(one.outcome == "regression" for one in decide(gated, 0.05))
        untreated += any(gain.p_below() <= 0.05 for gain in gains)
    assert 0.03 < alarms / 2_000 < 0.07
    assert untreated / 2_000 > 0.3


@pytest.mark.slow
def test_a_small_drop_is_found_by_pairing() -> None:
    """The detection rates that the gate is described with: 5 points, base 0.5, correlation 0.9."""
    generator = np.random.default_rng(11)
    for n, expected in ((100, 0.25), (300, 0.54), (1000, 0.93)):
        found = 0
        for _ in range(1_000):
            before = generator.random(n) < 0.5
            # moves 0.075 down and 0.025 up: a drop of 0.05 with little disagreement
            down, up = generator.random(n) < 0.15, generator.random(n) < 0.05
            after = np.where(before, ~down, up)
            gain = paired_difference(after.astype(float) - before.astype(float))
            found += gain.p_below() <= 0.05
        assert found / 1_000 > expected
