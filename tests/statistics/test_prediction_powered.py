"""Prediction-powered means against ppi-python, and by the published formula."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from drawn_ratings import fewer, plain
from drawn_samples import bits, judged, sample
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from eft_eval.agreement import (
    cheapest_mix,
    correct_mean,
    draw_for_gold,
    gold_outcome,
    labels_needed,
    mean_with_interval,
)
from eft_eval.errors import ConfigError


def fixed_sample(name: str):
    """Data made without a generator, so that the pinned values hold in any version of numpy."""
    i = np.arange(40 if name == "rates" else 60)
    j = np.arange(200 if name == "rates" else 300)
    if name == "rates":
        labels = ((i * i + 3 * i) % 7 < 3).astype(float)
        return labels, np.abs(labels - (i % 5 == 0)), ((j * j + 5 * j) % 11 < 5).astype(float)
    labels = (i * 37 % 101) / 10
    return labels, labels + ((i * 17) % 13 - 5) / 4, (j * 53 % 211) / 20


# name, power, estimate, lower, upper: ppi_mean_pointestimate and ppi_mean_ci of ppi-python 0.2.3
PINNED = [
    ("rates", None, 0.34248888888888895, 0.21920735326414997, 0.46577042451362793),
    ("rates", 1.0, 0.405, 0.2509541247469269, 0.5590458752530731),
    ("rates", 0.5, 0.35250000000000004, 0.22882264234685773, 0.47617735765314234),
    ("amounts", None, 4.8137431189130915, 4.450201419933471, 5.177284817892712),
    ("amounts", 1.0, 4.770333333333332, 4.350433415887594, 5.1902332507790705),
    ("amounts", 0.5, 4.860999999999999, 4.438293836064372, 5.2837061639356255),
]


@pytest.mark.parametrize(("name", "power", "estimate", "lower", "upper"), PINNED)
def test_pinned_values_of_ppi_python(name, power, estimate, lower, upper):
    result = correct_mean(*fixed_sample(name), power=power, quantile="normal")
    assert result.prediction_powered[:3] == pytest.approx((estimate, lower, upper), abs=1e-12)
    ours = correct_mean(*fixed_sample(name), power=power).prediction_powered
    assert ours.estimate == pytest.approx(estimate)
    assert ours.lower < lower < upper < ours.upper  # small samples: a little wider


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("power", [None, 1.0, 0.3])
def test_ppi_python_itself(power):
    ppi = pytest.importorskip("ppi_py", reason="ppi-python is not installed")
    generator = np.random.default_rng()
    for _ in range(50):
        n, others = generator.integers(5, 200, 2)
        truth = generator.normal(size=n + others)
        verdicts = truth + generator.normal(size=n + others) + 0.3
        if generator.random() < 0.5:
            truth, verdicts = (truth > 0).astype(float), (verdicts > 0).astype(float)
        given_to_both = truth[:n], verdicts[:n], verdicts[n:]
        expected = ppi.ppi_mean_ci(*given_to_both, alpha=0.05, lam=power)
        ours = correct_mean(*given_to_both, power=power, quantile="normal").prediction_powered
        if not math.isnan(ours.lower):
            assert ours[1:3] == pytest.approx([float(np.squeeze(x)) for x in expected])


@given(sample(), st.sampled_from([None, 0.0, 0.4, 1.0]))
def test_published_formula(drawn, power):
    labels, verdicts, others = drawn
    n, many = len(labels), len(others)
    weight = power
    if power is None:
        covariance = np.cov(labels, verdicts, bias=True)[0, 1]
        every = np.concatenate([verdicts, others])
        weight = 0.0
        if np.ptp(every) > 0:
            tuned = covariance / ((1 + n / many) * np.var(every, ddof=1))
            weight = min(max(tuned, 0), 1)
    estimate = weight * others.mean() + (labels - weight * verdicts).mean()
    variance = weight**2 * others.var() / many + (labels - weight * verdicts).var() / n
    result = correct_mean(labels, verdicts, others, power=power, quantile="normal")
    assert result.power == pytest.approx(weight, abs=1e-9)
    assert result.prediction_powered.estimate == pytest.approx(estimate, abs=1e-9)
    assert result.standard_error == pytest.approx(math.sqrt(variance), abs=1e-9)
    if variance > 1e-12:
        half = stats.norm.ppf(0.975) * math.sqrt(variance)
        expected = estimate - half, estimate + half
        assert result.prediction_powered[1:3] == pytest.approx(expected, abs=1e-9)


@fewer
@given(sample(), st.floats(0, 1))
def test_fixed_power_is_welchs_interval(drawn, power):
    """With λ fixed, θ is a difference of two independent means, whose interval is Welch's."""
    labels, verdicts, others = drawn
    assume(power > 0.01)
    rectifier = labels - power * verdicts
    assume(np.ptp(rectifier) > 1e-6)
    assume(np.ptp(others) > 1e-6)
    expected = stats.ttest_ind(rectifier, -power * others, equal_var=False).confidence_interval(
        0.95
    )
    ours = correct_mean(labels, verdicts, others, power=power).prediction_powered
    assert ours[1:3] == pytest.approx((expected.low, expected.high), rel=1e-6, abs=1e-9)


@fewer
@given(sample(), st.floats(-5, 5))
def test_a_judges_constant_error_cancels(drawn, shift):
    labels, verdicts, others = drawn
    one = correct_mean(labels, verdicts, others)
    other = correct_mean(labels, verdicts + shift, others + shift)
    expected = pytest.approx(one.prediction_powered[:3], abs=1e-6, nan_ok=True)
    assert other.prediction_powered[:3] == expected


@fewer
@given(sample())
def test_power_zero_is_the_labels_alone(drawn):
    result = correct_mean(*drawn, power=0)
    alone = mean_with_interval(drawn[0])
    assert result.prediction_powered[:3] == pytest.approx(alone.interval[:3], nan_ok=True)
    assert result.labels_only.interval[:3] == pytest.approx(alone.interval[:3], nan_ok=True)
    assert result.gain == pytest.approx(1) or alone.standard_error == 0


@fewer
@given(sample(), st.sampled_from([None, 1.0]))
def test_clusters_of_one_are_no_clusters(drawn, power):
    labels, _, others = drawn
    plain = correct_mean(*drawn, power=power)
    ids = [f"prompt {i}" for i in range(len(labels) + len(others))]
    clustered = correct_mean(
        *drawn, power=power, clusters=ids[: len(labels)], other_clusters=ids[len(labels) :]
    )
    assert clustered.standard_error == pytest.approx(plain.standard_error, nan_ok=True)
    expected = pytest.approx(plain.prediction_powered[:3], nan_ok=True)
    assert clustered.prediction_powered[:3] == expected


@fewer
@given(sample(), st.data())
def test_clustered_error_by_summing_influences(drawn, data):
    labels, verdicts, others = drawn
    n, many = len(labels), len(others)
    ids = data.draw(arrays(np.int64, n + many, elements=st.integers(0, 6)))
    first, second = ids[:n], ids[n:]
    assume(len(set(first)) > 1)
    assume(len(set(second)) > 1)
    result = correct_mean(
        labels, verdicts, others, power=0.7, clusters=first, other_clusters=second
    )
    rectifier = labels - 0.7 * verdicts
    total = 0.0
    few, lots = len(set(first)), len(set(second))
    for cluster in set(ids):
        part = (rectifier - rectifier.mean())[first == cluster].sum() / n
        rest = 0.7 * (others - others.mean())[second == cluster].sum() / many
        total += (part * math.sqrt(few / (few - 1)) + rest * math.sqrt(lots / (lots - 1))) ** 2
    assert result.standard_error == pytest.approx(math.sqrt(total), abs=1e-9)


@given(sample(bits), st.sampled_from([None, 0.5, 1.0]))
def test_rates_have_one_imaginary_response_more(drawn, power):
    """The variance beyond that of the same data off the 0/1 scale, where nothing is added."""
    labels, verdicts, others = drawn
    ours = correct_mean(labels, verdicts, others, power=power)
    shifted = correct_mean(labels, verdicts + 0.5, others + 0.5, power=power)
    assert ours.power == pytest.approx(shifted.power)
    if ours.power == 0 or math.isnan(ours.standard_error):
        return
    mean = (labels - ours.power * verdicts).mean()
    pairs = [y - ours.power * f for y in (0, 1) for f in (0, 1)]
    imaginary = statistics.fmean([(pair - mean) ** 2 for pair in pairs]) / len(labels) ** 2
    expected = math.sqrt(shifted.standard_error**2 + imaginary)
    assert ours.standard_error == pytest.approx(expected)


def test_a_good_judge_is_worth_labels():
    truth, verdicts = judged(4200, np.random.default_rng(1))
    result = correct_mean(truth[:200], verdicts[:200], verdicts[200:])
    assert result.prediction_powered.lower < 0.4 < result.prediction_powered.upper
    width = result.prediction_powered.upper - result.prediction_powered.lower
    alone = result.labels_only.interval
    assert width < alone.upper - alone.lower
    assert 1.6 < result.gain < 2.4
    assert result.effective_labels == pytest.approx(200 * result.gain)
    # the judge's own mean is precise and wrong
    assert result.verdicts_only.interval.lower > 0.4
    assert result.bias.interval.estimate == pytest.approx(
        result.verdicts_only.interval.estimate - 0.4, abs=0.06
    )


@pytest.mark.parametrize(
    ("labels", "verdicts", "others", "said"),
    [
        ([], [], [], "nothing can be corrected"),
        ([1], [0], [0, 1, 1], "no interval"),
        ([1, 1, 1], [1, 1, 1], [1, 1, 1], "all verdicts are equal"),
        ([0, 0, 0], [0, 1, 0], [1, 0, 1], "all 3 labels are 0"),
        ([None, 1], [1, None], [0, 1], "nothing can be corrected"),
        ([1, 1], [1, 0], [], "no interval"),
    ],
    ids=["empty", "one label", "one verdict", "one class", "no overlap", "no others"],
)
@pytest.mark.parametrize("clustered", [False, True])
@pytest.mark.parametrize("power", [None, 1.0])
def test_too_little_to_correct(labels, verdicts, others, said, clustered, power):
    clusters, rest = (["a"] * len(labels), ["a"] * len(others)) if clustered else (None, None)
    result = correct_mean(
        labels, verdicts, others, clusters=clusters, other_clusters=rest, power=power
    )
    assert result.warnings
    if power is None:
        assert math.isnan(result.prediction_powered.lower)
        assert any(said in text for text in result.warnings)


def test_missing_labels_and_verdicts_are_counted():
    result = correct_mean([1, None, 0, 1], [1, 1, None, 0], [None, 1, 0, None, 1])
    assert (result.labels, result.dropped_labels) == (2, 2)
    assert (result.verdicts, result.dropped_verdicts) == (3, 2)


@pytest.mark.parametrize(
    ("labels", "verdicts", "others", "said"),
    [
        ([0, 1] * 20, [1, 0] * 20, [0, 1] * 50, "negatively correlated"),
        ([0, 100] * 20, [0, 1] * 20, [0, 1] * 50, "held at 1"),
        ([0, 1] * 20, [0, 1] * 20, [0, 1] * 50, "equal all 40 labels"),
        ([0, 1] * 20, [0, 1] * 20, [], "no verdict without a label"),
        ([0, 1, 1] * 3, [0, 1, 0] * 3, [0, 1] * 50, "9 labels"),
    ],
)
def test_what_a_reader_must_know_is_said(labels, verdicts, others, said):
    result = correct_mean(labels, verdicts, others)
    assert any(said in text for text in result.warnings)
    assert not math.isnan(result.prediction_powered.lower)


def test_results_are_plain_numbers():
    truth, verdicts = judged(60, np.random.default_rng(6))
    assert plain(correct_mean(truth[:30], verdicts[:30], verdicts[30:]))
    assert plain(labels_needed(np.float64(0.1)))
    assert plain(cheapest_mix(0.05, label_cost=1, verdict_cost=0.01, correlation=0.8))
    assert plain(draw_for_gold(truth, verdicts, disagreements=3, agreements=2, seed=1))
    assert all(map(plain, vars(gold_outcome(truth, verdicts, truth)).values()))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"power": 2}, "power is 2"),
        ({"quantile": "z"}, "known: t, normal"),
        ({"clusters": ["a", "b"]}, "both or neither"),
        ({"level": 0}, "level is 0"),
    ],
)
def test_bad_options_are_named(options, said):
    with pytest.raises(ConfigError, match=said):
        correct_mean([1, 0], [1, 0], [1], **options)
