"""Corrected means, plans for labels and the disagreement protocol, by independent references."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from statsmodels.stats.proportion import samplesize_confint_proportion

from eft_eval.agreement import (
    cheapest_mix,
    correct_mean,
    draw_for_gold,
    gold_outcome,
    gold_outcome_of_counts,
    labels_needed,
    mean_with_interval,
)
from eft_eval.errors import ConfigError

fewer = settings(max_examples=40)
numbers = st.integers(-40, 40).map(lambda tenths: tenths / 10 + 0.05)  # never a rate


def sample(elements=numbers):
    """Labels and verdicts of some responses, verdicts of others."""
    sizes = st.tuples(st.integers(4, 30), st.integers(2, 40))
    return sizes.flatmap(
        lambda size: st.tuples(
            arrays(np.float64, size[0], elements=elements),
            arrays(np.float64, size[0], elements=elements),
            arrays(np.float64, size[1], elements=elements),
        )
    )


bits = st.integers(0, 1).map(float)

# --- prediction-powered means


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


def judged(size: int, generator: np.random.Generator, rate=0.4, right=0.85):
    truth = (generator.random(size) < rate).astype(float)
    return truth, np.where(generator.random(size) < right, truth, 1 - truth)


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


def plain(value: object) -> bool:
    """Whether a result is made of Python's own numbers and words, as JSON wants."""
    if isinstance(value, tuple):
        return all(map(plain, value))
    return type(value) in (int, float, str, bool, type(None))


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


# --- Rogan–Gladen


@given(sample(bits))
def test_rogan_gladen_by_its_formula(drawn):
    labels, verdicts, others = drawn
    result = correct_mean(labels, verdicts, others).rogan_gladen
    ones, zeros = verdicts[labels == 1], verdicts[labels == 0]
    if not len(ones) or not len(zeros):
        assert math.isnan(result.interval.estimate)
        assert any("is unknown" in text for text in result.warnings)
        return
    sensitivity, specificity, apparent = ones.mean(), 1 - zeros.mean(), others.mean()
    informative = sensitivity + specificity - 1
    if informative <= 0:
        assert math.isnan(result.interval.estimate)
        assert any("no better than chance" in text for text in result.warnings)
        return
    rate = (apparent + specificity - 1) / informative
    variance = (
        apparent * (1 - apparent) / len(others)
        + rate**2 * sensitivity * (1 - sensitivity) / len(ones)
        + (1 - rate) ** 2 * specificity * (1 - specificity) / len(zeros)
    ) / informative**2
    assert result.raw == pytest.approx(rate, abs=1e-9)
    assert result.standard_error == pytest.approx(math.sqrt(variance), abs=1e-9)
    assert 0 <= result.interval.estimate <= 1
    assert result.interval.estimate == pytest.approx(min(max(rate, 0), 1), abs=1e-9)


def test_rogan_gladen_is_for_rates_only_and_clusters():
    assert correct_mean([1, 2], [1, 0], [1]).rogan_gladen is None
    truth, verdicts = judged(1000, np.random.default_rng(2))
    once = correct_mean(truth[:200], verdicts[:200], verdicts[200:]).rogan_gladen
    ids = np.arange(1000)
    twice = correct_mean(
        np.tile(truth[:200], 2),
        np.tile(verdicts[:200], 2),
        np.tile(verdicts[200:], 2),
        clusters=np.tile(ids[:200], 2),
        other_clusters=np.tile(ids[200:], 2),
    ).rogan_gladen
    assert twice.standard_error == pytest.approx(once.standard_error)
    assert once.interval.lower < 0.4 < once.interval.upper


# --- plans


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


# --- the disagreement protocol


def test_the_papers_protocol():
    outcome = gold_outcome_of_counts(agreements=61, disagreements=39, with_judge=23, with_human=7)
    assert outcome.share.standard_error == pytest.approx(0.078540, abs=5e-7)
    assert outcome.finite_factor == pytest.approx(0.480384, abs=5e-7)
    assert outcome.finite_standard_error == pytest.approx(0.078540 * 0.480384, abs=1e-6)
    assert outcome.judge_accuracy.estimate == pytest.approx(0.61 + 0.39 * 23 / 30)
    assert outcome.human_accuracy.estimate == pytest.approx(0.61 + 0.39 * 7 / 30)
    assert outcome.accuracy_gain.estimate == pytest.approx(0.39 * 16 / 30)
    assert outcome.accuracy_gain.lower > 0  # "significantly more accurate"
    assert outcome.sides_p_value == pytest.approx(stats.binomtest(23, 30).pvalue)
    assert "no agreement was checked" in outcome.caveat
    # 9 disagreements are not adjudicated: the share among all 39 cannot leave this range
    assert outcome.finite_interval.lower >= 23 / 39
    assert outcome.finite_interval.upper <= 32 / 39


three = st.lists(st.sampled_from([0.0, 1.0, 2.0, None]), min_size=1, max_size=60)


@given(three, st.data())
def test_outcome_of_labels_is_the_outcome_of_counts(judge, data):
    size = len(judge)
    column = st.lists(st.sampled_from([0.0, 1.0, None]), min_size=size, max_size=size)
    human, gold = data.draw(column), data.draw(column)
    outcome = gold_outcome(judge, human, gold)
    counts = dict.fromkeys(("agree", "differ", "judge", "human", "checked", "right"), 0)
    for one, other, truth in zip(judge, human, gold, strict=True):
        if one is None or other is None:
            continue
        same = (one > 0) == (other > 0)
        counts["agree" if same else "differ"] += 1
        if truth is not None:
            right = (truth > 0) == (one > 0)
            if same:
                counts["checked"] += 1
                counts["right"] += right
            else:
                counts["judge" if right else "human"] += 1
    assert outcome.neither == 0
    assert (outcome.agreements, outcome.disagreements) == (counts["agree"], counts["differ"])
    assert (outcome.with_judge, outcome.with_human) == (counts["judge"], counts["human"])
    assert outcome.agreements_checked == counts["checked"]
    assert outcome.agreements_right == counts["right"]
    if not outcome.adjudicated:
        assert math.isnan(outcome.share.rate)
        assert math.isnan(outcome.judge_accuracy.estimate)
        assert outcome.warnings


def test_gold_for_every_item_gives_the_plain_accuracies():
    generator = np.random.default_rng(5)
    gold = generator.integers(0, 2, 400).astype(float)
    judge = np.where(generator.random(400) < 0.9, gold, 1 - gold)
    human = np.where(generator.random(400) < 0.7, gold, 1 - gold)
    outcome = gold_outcome(judge, human, gold)
    assert outcome.finite_factor == 0
    assert outcome.finite_interval.lower == outcome.finite_interval.upper == outcome.share.rate
    assert outcome.caveat == ""
    for accuracy, answers in ((outcome.judge_accuracy, judge), (outcome.human_accuracy, human)):
        right = (answers == gold).astype(float)
        assert accuracy.estimate == pytest.approx(float(right.mean()))
        plain = mean_with_interval(right).interval
        assert accuracy.upper - accuracy.lower == pytest.approx(plain.upper - plain.lower, rel=0.02)
    gap = mean_with_interval((judge == gold) * 1.0 - (human == gold) * 1.0).interval
    assert outcome.accuracy_gain[:3] == pytest.approx(gap[:3], abs=0.002)


def test_gold_that_sides_with_neither():
    outcome = gold_outcome([1, 2, 3, 3], [2, 1, 1, 3], [1, 1, 5, None], rule="raw")
    assert (outcome.with_judge, outcome.with_human, outcome.neither) == (1, 1, 1)
    assert outcome.share.rate == pytest.approx(1 / 3)


@pytest.mark.parametrize("with_judge", [0, 12])
def test_one_sided_gold_is_no_certainty(with_judge):
    outcome = gold_outcome_of_counts(
        agreements=60, disagreements=40, with_judge=with_judge, with_human=12 - with_judge
    )
    assert math.isnan(outcome.judge_accuracy.lower)
    assert math.isnan(outcome.finite_interval.lower)
    assert outcome.share.wilson.lower < outcome.share.wilson.upper
    assert outcome.warnings


def test_nothing_to_adjudicate():
    outcome = gold_outcome_of_counts(agreements=0, disagreements=0, with_judge=0, with_human=0)
    assert math.isnan(outcome.judge_accuracy.estimate)
    assert math.isnan(outcome.finite_factor)
    assert outcome.warnings


def test_impossible_counts_are_named():
    with pytest.raises(ConfigError, match="3 adjudicated of 2 disagreements"):
        gold_outcome_of_counts(agreements=1, disagreements=2, with_judge=3, with_human=0)
    with pytest.raises(ConfigError, match="below 0"):
        gold_outcome_of_counts(agreements=-1, disagreements=2, with_judge=0, with_human=0)
    with pytest.raises(ConfigError, match="2 gold labels for 1 items"):
        gold_outcome([1], [0], [1, 1])


@given(three, st.data(), st.integers(0, 40), st.integers(0, 10), st.integers(0, 2**32))
def test_draws_for_gold(judge, data, disagreements, agreements, seed):
    size = len(judge)
    human = data.draw(st.lists(st.sampled_from([0.0, 1.0, None]), min_size=size, max_size=size))
    options = {"disagreements": disagreements, "agreements": agreements, "seed": seed}
    draw = draw_for_gold(judge, human, **options)
    assert draw == draw_for_gold(judge, human, **options)
    differ = {
        i
        for i, (one, other) in enumerate(zip(judge, human, strict=True))
        if one is not None and other is not None and (one > 0) != (other > 0)
    }
    same = {i for i in range(size) if None not in (judge[i], human[i])} - differ
    assert set(draw.disagreements) <= differ
    assert set(draw.agreements) <= same
    assert len(draw.disagreements) == min(disagreements, len(differ))
    assert len(draw.agreements) == min(agreements, len(same))
    assert (draw.of_disagreements, draw.of_agreements) == (len(differ), len(same))
    assert sorted(draw.items) == sorted({*draw.disagreements, *draw.agreements})
    expected = (disagreements > len(differ)) + (agreements > len(same))
    assert len(draw.warnings) == expected


def test_draws_are_random_by_seed_and_fair():
    judge, human = [1, 0] * 50, [0] * 100
    draws = [
        draw_for_gold(judge, human, disagreements=10, agreements=5, seed=seed)
        for seed in range(200)
    ]
    assert len({draw.items for draw in draws}) == 200
    counts = np.bincount(np.concatenate([draw.disagreements for draw in draws]), minlength=100)
    assert stats.chisquare(counts[::2]).pvalue > 1e-4  # every disagreement equally often
    assert any(draw.items[0] % 2 for draw in draws)  # an agreement may come first
    with pytest.raises(ConfigError, match="expected 0 or more"):
        draw_for_gold(judge, human, disagreements=-1, seed=0)
