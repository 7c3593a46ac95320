"""Agreement statistics against statsmodels, scikit-learn, krippendorff and scipy."""

from __future__ import annotations

import itertools
import json
import math
import statistics
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import krippendorff
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from sklearn.metrics import cohen_kappa_score, confusion_matrix
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.contingency_tables import mcnemar as mcnemar_reference
from statsmodels.stats.inter_rater import cohens_kappa
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from eft_eval.agreement import (
    alternative_annotator_test,
    benjamini_yekutieli,
    clustered_standard_error,
    cohen_kappa,
    finite_population_factor,
    krippendorff_alpha,
    leave_one_out,
    mcnemar,
    mean_with_interval,
    pair_agreement,
    panel_agreement,
    proportion,
    proportion_standard_error,
    wilson_interval,
)
from eft_eval.errors import ConfigError
from eft_eval.statistics.coincidence import alphas_of, disagreement_of, units_of

DATA = Path(__file__).parents[3] / "shared" / "data"
METRICS = ("nominal", "ordinal", "interval", "ratio")

needs_pandalm = pytest.mark.skipif(not (DATA / "pandalm").is_dir(), reason="no PandaLM data")
needs_llmbar = pytest.mark.skipif(not (DATA / "llmbar").is_dir(), reason="no LLMBar data")
fewer = settings(max_examples=40)  # where the reference is slow
rows = st.integers(2, 60)


def ratings(size: int, most: int = 3):
    return arrays(np.float64, size, elements=st.integers(0, most).map(float))


def pairs_of_ratings(most: int = 3):
    return rows.flatmap(lambda size: st.tuples(ratings(size, most), ratings(size, most)))


few_raters, some_items = st.integers(2, 5), st.integers(1, 25)


@st.composite
def panels(draw, raters=few_raters, items=some_items, most: int = 4):
    shape = (draw(raters), draw(items))
    values = draw(arrays(np.float64, shape, elements=st.integers(0, most).map(float)))
    values[draw(arrays(np.bool_, shape, elements=st.booleans() | st.just(False)))] = np.nan
    return values


def named(values: np.ndarray) -> dict[str, np.ndarray]:
    return {f"person {row}": line for row, line in enumerate(values)}


# --- rates


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


# --- two raters


@fewer
@given(pairs_of_ratings())
def test_kappa_is_scikit_learns_and_its_error_statsmodels(pair):
    first, second = pair
    labels = np.unique(np.concatenate(pair))
    assume(len(labels) > 1)
    assume(np.ptp(labels) == len(labels) - 1)  # no gaps: their weights are of positions
    table = confusion_matrix(first, second, labels=labels)
    for weights, theirs, name in (
        ("none", None, None),
        ("linear", "linear", "linear"),
        ("quadratic", "quadratic", "quadratic"),
    ):
        ours = cohen_kappa(first, second, weights=weights)
        with np.errstate(all="ignore"):  # their 0/0 of degenerate tables
            reference = cohen_kappa_score(first, second, labels=labels, weights=theirs)
            expected = cohens_kappa(table, wt=name)
        assert ours.interval.estimate == pytest.approx(reference, abs=1e-9)
        if math.isnan(ours.standard_error):
            assert np.nan_to_num(expected.std_kappa) == pytest.approx(0, abs=1e-6)
            assert ours.warnings
        else:
            assert ours.standard_error == pytest.approx(float(expected.std_kappa), rel=1e-6)
            limits = np.clip((float(expected.kappa_low), float(expected.kappa_upp)), -1, 1)
            assert ours.interval[1:3] == pytest.approx(limits, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("weights", ["none", "linear", "quadratic"])
@pytest.mark.parametrize("clusters", [None, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]])
def test_kappas_interval_stays_within_what_kappa_can_be(weights, clusters):
    first, second = [0, 0, 0, 0, 0, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 1, 1, 1, 1, 0]
    high = cohen_kappa(first, second, weights=weights, clusters=clusters)
    low = cohen_kappa(first, 1 - np.array(second), weights=weights, clusters=clusters)
    assert high.interval.estimate + 1.96 * high.standard_error > 1
    assert (high.interval.upper, low.interval.lower) == (1, -1)
    assert high.interval.lower < high.interval.estimate == pytest.approx(0.8)
    assert low.interval.upper > low.interval.estimate == pytest.approx(-0.8)


@fewer
@given(pairs_of_ratings(), st.data())
def test_clustered_kappa_counts_copies_once(pair, data):
    """Every item three times over, clustered, is as uncertain as the items themselves."""
    first, second = pair
    once = cohen_kappa(first, second)
    assume(not math.isnan(once.standard_error))
    n = len(first)
    copies = cohen_kappa(np.tile(first, 3), np.tile(second, 3), clusters=np.tile(range(n), 3))
    assert copies.interval.estimate == pytest.approx(once.interval.estimate)
    assert copies.standard_error == pytest.approx(once.standard_error * math.sqrt(n / (n - 1)))


@pytest.mark.parametrize(("share", "kappa"), [(0.5, 0.22), (0.7, 0.07)])
def test_what_61_percent_is_worth(share, kappa):
    both, neither = share - 0.195, 0.805 - share
    counts = [round(1000 * part) for part in (both, 0.195, 0.195, neither)]
    first = np.repeat([1, 1, 0, 0], counts)
    second = np.repeat([1, 0, 1, 0], counts)
    result = pair_agreement(first, second)
    assert result.agreement.rate == pytest.approx(0.61)
    assert result.kappa.interval.estimate == pytest.approx(kappa, abs=0.005)
    assert bool([text for text in result.warnings if "not above" in text]) == (share == 0.7)


@fewer
@given(pairs_of_ratings())
def test_pair_agreement_of_any_error(pair):
    first, second = pair
    result = pair_agreement(first.tolist(), second)
    yes, also = first > 0, second > 0
    assert result.agreement.rate == pytest.approx(float((yes == also).mean()))
    assert result.table == tuple(map(tuple, confusion_matrix(yes, also, labels=[False, True])))
    assert result.first_rate[:3] == wilson_interval(int(yes.sum()), len(yes))[:3]
    assert result.baseline.with_second == pytest.approx(max(also.mean(), 1 - also.mean()))
    expected = mcnemar_reference(np.array(result.table), exact=True).pvalue
    assert result.mcnemar.exact == pytest.approx(float(expected))
    assert result.scale is None


@fewer
@given(pairs_of_ratings())
def test_swapping_the_raters_mirrors_the_result(pair):
    one, other = pair_agreement(*pair), pair_agreement(*pair[::-1])
    assert one.agreement == other.agreement
    assert one.kappa.interval == pytest.approx(other.kappa.interval, nan_ok=True)
    assert one.baseline == other.baseline[::-1]
    assert one.table == tuple(zip(*other.table, strict=True))
    assert one.mcnemar[:2] == other.mcnemar[1::-1]
    assert one.mcnemar[2:] == other.mcnemar[2:]


@fewer
@given(pairs_of_ratings(most=6))
def test_raw_scale_is_scipys(pair):
    first, second = pair
    assume(np.ptp(first) > 0)
    assume(np.ptp(second) > 0)
    scale = pair_agreement(first, second, rule="raw").scale
    assert scale.spearman == pytest.approx(float(stats.spearmanr(first, second).statistic))
    assert scale.kendall == pytest.approx(float(stats.kendalltau(first, second).statistic))
    assert scale.difference.interval.estimate == pytest.approx(float((second - first).mean()))


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_by_summation(first_only, second_only):
    result = mcnemar(first_only, second_only)
    total, least = first_only + second_only, min(first_only, second_only)
    below = sum(math.comb(total, k) for k in range(least)) / 2**total
    at = math.comb(total, least) / 2**total
    assert result.exact == pytest.approx(min(1, 2 * (below + at)))
    assert result.mid_p == pytest.approx(min(1, 2 * below + at))


def plain(value: object) -> bool:
    """Whether a result is made of Python's own numbers and words, as JSON wants."""
    if isinstance(value, tuple):
        return all(map(plain, value))
    return type(value) in (int, float, str, bool, type(None))


def test_results_are_plain_numbers():
    """Whatever the input's type: numpy's numbers would not go into JSON."""
    first, second = np.array([1, 0, 2, 0]), np.array([True, False, False, True])
    for rule in ("any error", "raw"):
        result = pair_agreement(first, second, rule=rule, clusters=np.array([0, 0, 1, 1]))
        assert all(plain(value) for name, value in vars(result).items() if name != "strata")
    people = {"a": first, "b": second, "c": first}
    assert plain(krippendorff_alpha(people, metric="ordinal"))
    assert plain(panel_agreement(people))
    assert plain(leave_one_out(people, second))
    assert plain(
        alternative_annotator_test({n: np.tile(p, 9) for n, p in people.items()}, [1] * 36)
    )


def test_missing_ratings_are_dropped_and_counted():
    result = pair_agreement([1, None, 0, float("nan"), 2], [1, 1, None, None, 0])
    assert (result.n, result.dropped) == (2, 3)
    assert (result.missing_first, result.missing_second) == (2, 2)
    assert result.agreement.successes == 1


def test_strata_are_the_same_as_by_themselves():
    generator = np.random.default_rng(3)
    first, second = generator.integers(0, 3, (2, 200))
    names = generator.choice(["short", "long"], 200)
    prompts = np.arange(200) // 4
    whole = pair_agreement(first, second, strata=names, clusters=prompts)
    assert set(whole.strata) == {"short", "long"}
    here = names == "short"
    assert whole.strata["short"] == pair_agreement(
        first[here], second[here], clusters=prompts[here]
    )
    assert whole.clustered.clusters == 50
    assert whole.clustered.interval.estimate == whole.agreement.rate


def test_pandas_frames_go_in():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"human": [1, 0, None, 3], "judge": [1, 1, 0, 0]}, dtype="Int64")
    result = pair_agreement(frame["human"], frame["judge"], clusters=frame.index)
    assert (result.n, result.dropped) == (3, 1)
    assert result.agreement.successes == 1


def is_unknown(value: float) -> bool:
    return math.isnan(value)


@pytest.mark.parametrize(
    ("first", "second"),
    [([], []), ([1], [1]), ([1], [0]), ([None, 1], [1, None])],
    ids=["empty", "one equal", "one different", "no overlap"],
)
@pytest.mark.parametrize("rule", ["any error", "raw"])
@pytest.mark.parametrize("clustered", [False, True])
def test_next_to_nothing_gives_no_number_in_silence(first, second, rule, clustered):
    clusters = ["prompt"] * len(first) if clustered else None
    result = pair_agreement(first, second, rule=rule, clusters=clusters)
    assert is_unknown(result.agreement.standard_error)
    assert is_unknown(result.kappa.standard_error)
    assert is_unknown(result.kappa.interval.lower)
    assert result.warnings


@pytest.mark.parametrize(
    ("first", "second", "estimate", "said"),
    [
        ([1] * 40, [1] * 40, math.nan, "0/0"),
        ([1] * 40, [0, 1] * 20, 0.0, "κ is 0 by construction"),
        ([0, 1] * 20, [0, 1] * 20, 1.0, "never differ"),
        ([0, 1] * 20, [1, 0] * 20, -1.0, "no interval"),
    ],
    ids=["both constant", "one constant", "always equal", "never equal"],
)
def test_degenerate_kappa_has_no_interval(first, second, estimate, said):
    result = pair_agreement(first, second)
    assert result.kappa.interval.estimate == pytest.approx(estimate, nan_ok=True)
    assert is_unknown(result.kappa.interval.upper)
    assert is_unknown(result.kappa.standard_error)
    assert any(said in text for text in result.warnings)
    assert not math.isnan(result.agreement.wilson.lower)  # this one always has an interval


def test_lopsided_base_rates_are_warned_about():
    first = [1] * 95 + [0] * 5
    second = [1] * 90 + [0] * 5 + [1] * 5
    warnings = pair_agreement(first, second).warnings
    assert sum("chance alone" in text for text in warnings) == 2
    assert any("not above" in text for text in warnings)


@pytest.mark.parametrize(
    ("first", "second", "options", "said"),
    [
        (["yes", 1], [1, 1], {}, "item 0 is 'yes'; expected a number"),
        (["1", 1], [1, 1], {}, "item 0 is '1'; expected a number"),
        ([1, 2], [1], {}, "have 2 items and the second's 1"),
        ([1, math.inf], [1, 1], {}, "item 1 is infinite"),
        ([1, -1], [1, 1], {}, "a count of errors is 0 or more"),
        ([[1, 2]], [1], {}, "2 dimensions"),
        ([1], [1], {"rule": "any errors"}, "did you mean 'any error'"),
        ([1], [1], {"level": 95}, "level is 95"),
        ([1, 1], [1, 1], {"clusters": ["a", None]}, "item 1 has no cluster id"),
        ([1, 1], [1, 1], {"clusters": ["a"]}, "1 cluster ids for 2 items"),
        ([1, 1], [1, 1], {"strata": ["a"]}, "1 strata for 2 items"),
    ],
)
def test_bad_input_is_named(first, second, options, said):
    with pytest.raises(ConfigError, match=said):
        pair_agreement(first, second, **options)


# --- panels


@given(panels(), st.sampled_from(METRICS))
def test_alpha_is_krippendorffs(values, metric):
    ours = krippendorff_alpha(named(values), metric=metric, resamples=0)
    pairable = values[:, (~np.isnan(values)).sum(axis=0) >= 2]
    assert ours.single == values.shape[1] - pairable.shape[1]
    if len(np.unique(pairable[~np.isnan(pairable)])) < 2:
        assert is_unknown(ours.interval.estimate)
        assert ours.warnings
        return
    theirs = krippendorff.alpha(values, level_of_measurement=metric)
    assert ours.interval.estimate == pytest.approx(theirs, abs=1e-9)


@fewer
@given(panels(items=st.integers(2, 12)), st.data(), st.sampled_from(METRICS))
def test_a_resample_is_the_panel_with_repeated_items(values, data, metric):
    values = values[:, (~np.isnan(values)).sum(axis=0) >= 2]
    items = values.shape[1]
    assume(items > 1)
    times = data.draw(arrays(np.int64, items, elements=st.integers(0, 3)))
    drawn = np.repeat(values, times, axis=1)
    assume(len(np.unique(drawn[~np.isnan(drawn)])) > 1)
    units = units_of(values, np.arange(items))
    ours = alphas_of(units, times[None].astype(float), metric, disagreement_of(units, metric))
    theirs = krippendorff.alpha(drawn, level_of_measurement=metric)
    assert ours[0] == pytest.approx(theirs, abs=1e-9)


def correlated_panel(items: int, raters: int = 5, seed: int = 0, holes: float = 0.2) -> np.ndarray:
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, 4, items)
    noise = generator.integers(-1, 2, (raters, items)) * (generator.random((raters, items)) < 0.5)
    values = np.clip(truth + noise, 0, 4).astype(float)
    values[generator.random(values.shape) < holes] = np.nan
    return values


@pytest.mark.parametrize("metric", METRICS)
def test_alphas_bootstrap_is_the_plain_bootstrap(metric):
    values = correlated_panel(80)
    ours = krippendorff_alpha(named(values), metric=metric, resamples=2000, seed=1).interval
    generator = np.random.default_rng(2)
    plain = [
        krippendorff.alpha(values[:, generator.integers(0, 80, 80)], level_of_measurement=metric)
        for _ in range(400)
    ]
    assert ours[1:3] == pytest.approx(np.quantile(plain, [0.025, 0.975]), abs=0.025)
    assert ours.lower < ours.estimate < ours.upper


def test_alphas_bootstrap_is_reproducible_and_draws_clusters():
    panel = named(correlated_panel(100))
    one, same, other = (krippendorff_alpha(panel, seed=seed) for seed in (1, 1, 2))
    assert one == same
    assert one.interval != other.interval
    tripled = {name: np.tile(line, 3) for name, line in panel.items()}
    items = np.tile(np.arange(100), 3)
    naive = krippendorff_alpha(tripled).interval
    clustered = krippendorff_alpha(tripled, clusters=items).interval
    ratio = (clustered.upper - clustered.lower) / (naive.upper - naive.lower)
    assert ratio == pytest.approx(math.sqrt(3), rel=0.15)


def test_alpha_of_ten_thousand_items_is_quick():
    panel = named(correlated_panel(10_000))
    for metric in METRICS:
        started = time.perf_counter()
        krippendorff_alpha(panel, metric=metric, resamples=1000)
        assert time.perf_counter() - started < 5  # measured: 0.1 s; a busy machine is no failure


@pytest.mark.parametrize(
    ("panel", "said"),
    [
        ({"a": [1, None], "b": [None, 1]}, "no item has two ratings"),
        ({"a": [1, 2, 3]}, "no item has two ratings"),
        ({"a": [1, 1], "b": [1, 1]}, "every rating is 1"),
        ({"a": [1, 1], "b": [2, None]}, "no interval"),
    ],
)
@pytest.mark.parametrize("metric", METRICS)
def test_degenerate_alpha(panel, said, metric):
    result = krippendorff_alpha(panel, metric=metric)
    assert is_unknown(result.interval.lower)
    assert any(said in text for text in result.warnings)


def test_alpha_says_what_it_cannot_take():
    with pytest.raises(ConfigError, match="0 and above; given -1"):
        krippendorff_alpha({"a": [-1, 2], "b": [1, 2]}, metric="ratio")
    with pytest.raises(ConfigError, match="did you mean 'ordinal'"):
        krippendorff_alpha({"a": [1], "b": [1]}, metric="ordinals")
    with pytest.raises(ConfigError, match="different numbers of items"):
        krippendorff_alpha({"a": [1], "b": [1, 2]})
    with pytest.raises(ConfigError, match="no raters"):
        krippendorff_alpha({})
    with pytest.raises(ConfigError, match="same name"):
        krippendorff_alpha({1: [1], "1": [1]})


@fewer
@given(panels())
def test_panel_agreement_by_counting(values):
    shares = []
    for column in values.T:
        found = column[~np.isnan(column)]
        pairs = [a == b for a, b in itertools.combinations(found, 2)]
        if pairs:
            shares.append(statistics.fmean(pairs))
    result = panel_agreement(named(values), rule="raw")
    assert result.items == len(shares)
    assert result.single == values.shape[1] - len(shares)
    expected = statistics.fmean(shares) if shares else math.nan
    assert result.agreement.interval.estimate == pytest.approx(expected, nan_ok=True)
    for pair in result.pairs:
        two = named(values)[pair.first], named(values)[pair.second]
        alone = pair_agreement(*two, rule="raw")
        assert (pair.n, pair.agreement) == (alone.n, pytest.approx(alone.agreement.rate))
        assert pair.kappa.interval[:3] == pytest.approx(alone.kappa.interval[:3], nan_ok=True)


def naive_leave_one_out(values, judge, numeric):
    human, judged = [], []
    for row, item in itertools.product(range(len(values)), range(values.shape[1])):
        others = [x for x in np.delete(values, row, axis=0)[:, item] if not np.isnan(x)]
        own, verdict = values[row, item], judge[item]
        if not others or np.isnan(own) or np.isnan(verdict):
            continue
        if numeric:
            human.append(abs(own - statistics.fmean(others)))
            judged.append(abs(verdict - statistics.fmean(others)))
        else:
            modes = statistics.multimode(others)
            human.append((own in modes) / len(modes))
            judged.append((verdict in modes) / len(modes))
    return human, judged


@fewer
@given(panels(items=st.integers(1, 15)), st.data(), st.booleans())
def test_ceiling_by_counting(values, data, numeric):
    judge = data.draw(ratings(values.shape[1], 6))
    judge[data.draw(arrays(np.bool_, len(judge)))] = np.nan
    scale = "numeric" if numeric else "nominal"
    result = leave_one_out(named(values), judge, scale=scale, rule="raw")
    human, judged = naive_leave_one_out(values, judge, numeric)
    assert result.comparisons == len(human) == sum(row.n for row in result.annotators)
    if not human:
        assert is_unknown(result.human.interval.estimate)
        assert result.warnings
        return
    assert result.human.interval.estimate == pytest.approx(statistics.fmean(human))
    assert result.judge.interval.estimate == pytest.approx(statistics.fmean(judged))
    gap = statistics.fmean(judged) - statistics.fmean(human)
    assert result.difference.interval.estimate == pytest.approx(gap)
    without = leave_one_out(named(values), scale=scale, rule="raw")
    assert without.judge is None
    assert without.comparisons >= result.comparisons


def test_ceiling_is_clustered_by_item():
    values = correlated_panel(200, holes=0)
    result = leave_one_out(named(values), rule="raw")
    assert result.comparisons == 1000
    assert result.human.clusters == 200
    assert result.human.standard_error > 0


# --- the alternative annotator test


def naive_alternative(panel, judge, epsilon, score, rate=0.05):
    """The definition, item by item, with scipy's t-test and statsmodels' correction."""
    p_values, advantages = [], []
    for name, own in panel.items():
        differences, wins = [], []
        for item, verdict in judge.items():
            others = [line[item] for who, line in panel.items() if who != name and item in line]
            if item not in own or not others:
                continue
            mine, judges = score(own[item], others), score(verdict, others)
            wins.append(judges >= mine)
            differences.append(int(mine >= judges) - int(judges >= mine))
        p_values.append(stats.ttest_1samp(differences, epsilon, alternative="less").pvalue)
        advantages.append(statistics.fmean(wins))
    rejected = multipletests(p_values, alpha=rate, method="fdr_by")[0]
    return rejected.mean(), statistics.fmean(advantages), p_values


def share_equal(answer, others):
    return sum(answer == other for other in others) / len(others)


def negative_rmse(answer, others):
    return -math.sqrt(statistics.fmean([(answer - other) ** 2 for other in others]))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("alignment", ["accuracy", "negative rmse"])
def test_alternative_test_by_the_definition(seed, alignment):
    values = correlated_panel(120, raters=3 + seed, seed=seed)
    judge = correlated_panel(120, raters=1, seed=seed + 100)[0]
    truth = correlated_panel(120, raters=1, seed=seed, holes=0)[0]
    judge[:60] = truth[:60]  # good on half
    result = alternative_annotator_test(named(values), judge, alignment=alignment, epsilon=0.15)
    panel = {
        name: {i: x for i, x in enumerate(line) if not math.isnan(x)}
        for name, line in named(values).items()
    }
    verdicts = {i: x for i, x in enumerate(judge) if not math.isnan(x)}
    score = share_equal if alignment == "accuracy" else negative_rmse
    winning, advantage, p_values = naive_alternative(panel, verdicts, 0.15, score)
    assert [row.p_value for row in result.annotators] == pytest.approx(p_values, rel=1e-9)
    assert result.winning_rate == pytest.approx(winning)
    assert result.advantage == pytest.approx(advantage)
    assert result.passed == (winning >= 0.5)


@fewer
@given(panels(raters=st.integers(3, 5), items=st.just(30)), st.sampled_from(["accuracy", "rmse"]))
def test_the_optimal_jury_is_never_worse(values, kind):
    """The majority (or mean) of all people has ρ = 1: the article's optimality result."""
    values[np.isnan(values)] = 0
    if kind == "rmse":
        judge = values.mean(axis=0)
        result = alternative_annotator_test(named(values), judge, alignment="negative rmse")
    else:
        judge = np.array([statistics.mode(column) for column in values.T])
        result = alternative_annotator_test(named(values), judge)
    assert result.advantage == 1
    assert all(row.human_advantage <= row.judge_advantage for row in result.annotators)


def test_alternative_test_says_when_it_cannot_be_done():
    two = alternative_annotator_test({"a": [1, 0] * 20, "b": [0, 1] * 20}, [1] * 40)
    assert math.isnan(two.winning_rate)
    assert two.passed is None
    assert any("at least 3 annotators with 30 items each; 2 have" in x for x in two.warnings)
    few = {name: [1, 0] * 20 for name in "abc"}
    few["d"] = [1] * 29 + [None] * 11
    four = alternative_annotator_test(few, [1, 0] * 20)
    assert any("d has 29 items" in text for text in four.warnings)
    assert math.isnan(four.annotators[3].p_value)
    assert math.isnan(alternative_annotator_test({"a": [1], "b": [1]}, [None]).advantage)
    with pytest.raises(ConfigError, match="the judge rated 1 items and the panel 40"):
        alternative_annotator_test(few, [1])
    with pytest.raises(ConfigError, match="epsilon is 2"):
        alternative_annotator_test(few, [1] * 40, epsilon=2)


def test_a_judge_equal_to_everybody_wins_by_the_limit():
    people = {name: [1, 0] * 20 for name in "abc"}
    result = alternative_annotator_test(people, [1, 0] * 20, epsilon=0.1)
    assert (result.winning_rate, result.advantage, result.passed) == (1, 1, True)
    assert any("p is a limit" in text for text in result.warnings)
    assert alternative_annotator_test(people, [1, 0] * 20, epsilon=0).winning_rate == 0


def test_scores_that_differ_by_rounding_are_tied():
    people = {"a": [0.1 + 0.2] * 30, "b": [0.1] * 30, "c": [0.5] * 30}
    result = alternative_annotator_test(people, [0.3] * 30, alignment="negative rmse")
    assert result.annotators[0].judge_advantage == result.annotators[0].human_advantage == 1


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_benjamini_yekutieli_is_scipys(p_values):
    expected = stats.false_discovery_control(p_values, method="by")
    assert benjamini_yekutieli(p_values) == pytest.approx(expected)


# --- real data


def read(path: str):
    return json.loads((DATA / path).read_text(encoding="utf-8"))


@needs_pandalm
def test_pandalms_pinned_values():
    items = read("pandalm/testset-v1.json")
    verdicts = read("pandalm/gpt-3.5-turbo-testset-v1.json")
    assert [item["idx"] for item in items] == [verdict["idx"] for verdict in verdicts]
    people = {f"annotator{k}": [item[f"annotator{k}"] for item in items] for k in (1, 2, 3)}
    codes = {"1": 1, "2": 2, "Tie": 0, "garbage": None}
    judge = [codes[verdict["gpt_result"]] for verdict in verdicts]
    alpha = krippendorff_alpha(people)
    assert alpha.interval.estimate == pytest.approx(0.864221, abs=5e-7)
    assert (alpha.items, alpha.ratings) == (999, 2997)
    majority = [statistics.mode(line) for line in zip(*people.values(), strict=True)]
    result = pair_agreement(majority, judge, rule="raw")
    assert (result.n, result.missing_second) == (974, 25)
    assert round(result.agreement.rate, 3) == 0.716
    assert result.kappa.interval.estimate == pytest.approx(0.492865, abs=5e-7)
    ceiling = leave_one_out(people, judge, rule="raw")
    assert ceiling.difference.interval.upper < 0  # people agree more than the judge does
    assert alternative_annotator_test(people, judge, epsilon=0.15).passed is False


@needs_llmbar
@pytest.mark.parametrize("style", ["CoT", "Vanilla"])
def test_llmbars_judge_against_gold(style):
    items = read(f"llmbar/LLMBar_Natural_GPT-4_{style}.json")
    gold = [int(item["label"]) for item in items]
    for swap in ("swap = False", "swap = True"):
        winners = [item["results"][0][swap]["winner"] for item in items]
        judge = [int(winner) if winner in ("1", "2") else None for winner in winners]
        result = pair_agreement(gold, judge, rule="raw")
        assert (result.n, result.dropped) == (100, 0)
        assert result.agreement.successes == sum(map(int.__eq__, gold, judge)) >= 93
        expected = cohen_kappa_score(gold, judge)
        assert result.kappa.interval.estimate == pytest.approx(expected)
        assert (
            result.first_shares
            == (0.42, 0.58)
            == tuple(count / 100 for _, count in sorted(Counter(gold).items()))
        )


@pytest.mark.skipif(not (DATA / "factool").is_dir(), reason="no FacTool data")
def test_factools_error_counts_say_what_its_labels_say():
    """A response is labelled false exactly where a claim is: "any error" must find these 27."""
    lines = (DATA / "factool/knowledge_qa.jsonl").read_text(encoding="utf-8").splitlines()
    responses = [json.loads(line) for line in lines]
    counts = [sum(not claim["label"] for claim in response["claims"]) for response in responses]
    labels = [not response["label"] for response in responses]
    result = pair_agreement(counts, labels)
    assert result.table == ((23, 0), (0, 27))
    assert result.first_rate.estimate == result.second_rate.estimate == 0.54
    assert any("never differ" in text for text in result.warnings)
    assert pair_agreement(counts, labels, rule="raw").agreement.successes == 34  # 23 + 11 ones


def test_importing_loads_neither_torch_nor_lm_eval():
    code = (
        "import sys, eft_eval.agreement\n"
        "print(*{'torch', 'lm_eval', 'scipy', 'pydantic'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.integers(0, 1), st.integers(0, 8)), min_size=1, max_size=60
    )
)
def test_clustered_mcnemar_by_its_definition(rows):
    first, second, clusters = (list(column) for column in zip(*rows, strict=True))
    found = pair_agreement(first, second, clusters=clusters).mcnemar.clustered
    sums = [sum(a - b for a, b, c in rows if c == cluster) for cluster in dict.fromkeys(clusters)]
    squares = sum(one * one for one in sums)
    if not squares:
        assert math.isnan(found)
    else:
        z = abs(sum(sums)) / math.sqrt(squares)
        assert found == pytest.approx(2 * stats.norm.sf(z))
    assert pair_agreement(first, second).mcnemar.clustered is None


def test_clustered_mcnemar_keeps_its_level_where_the_plain_test_does_not():
    generator = np.random.default_rng(1)
    prompts = np.repeat(np.arange(100), 4)
    plain, clustered = [], []
    for _ in range(400):
        leaning = generator.beta(0.6, 0.6, 100)[prompts]
        differ = generator.random(400) < 0.25
        first = differ & (generator.random(400) < leaning)
        second = differ & ~first
        found = pair_agreement(first, second, clusters=prompts).mcnemar
        plain.append(found.mid_p < 0.05)
        clustered.append(found.clustered < 0.05)
    assert np.mean(plain) > 0.08
    assert 0.02 < np.mean(clustered) < 0.08


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
