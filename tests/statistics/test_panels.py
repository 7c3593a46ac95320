"""Three raters and more against krippendorff, and by counting."""

from __future__ import annotations

import itertools
import math
import statistics
import time

import krippendorff
import numpy as np
import pytest
from drawn_ratings import correlated_panel, fewer, is_unknown, named, panels, ratings
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from eft_eval.agreement import krippendorff_alpha, leave_one_out, pair_agreement, panel_agreement
from eft_eval.errors import ConfigError
from eft_eval.statistics.coincidence import alphas_of, disagreement_of, units_of

METRICS = ("nominal", "ordinal", "interval", "ratio")


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
