"""Two raters of the same items against scikit-learn, statsmodels and scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from drawn_ratings import fewer, is_unknown, plain, ratings, rows
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import cohen_kappa_score, confusion_matrix
from statsmodels.stats.contingency_tables import mcnemar as mcnemar_reference
from statsmodels.stats.inter_rater import cohens_kappa

from eft_eval.agreement import (
    alternative_annotator_test,
    cohen_kappa,
    krippendorff_alpha,
    leave_one_out,
    mcnemar,
    pair_agreement,
    panel_agreement,
    wilson_interval,
)
from eft_eval.errors import ConfigError


def pairs_of_ratings(most: int = 3):
    return rows.flatmap(lambda size: st.tuples(ratings(size, most), ratings(size, most)))


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
