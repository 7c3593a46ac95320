"""Do nominal 95 % intervals hold the truth in 93–97 % of simulated samples?"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from eft_eval.agreement import (
    cohen_kappa,
    correct_mean,
    krippendorff_alpha,
    mean_with_interval,
    pair_agreement,
    wilson_interval,
)
from eft_eval.statistics.interval import Interval

pytestmark = pytest.mark.slow
SAMPLES = 2000  # the share of 95 % is known to ±1 point (two standard errors)
sizes = pytest.mark.parametrize("n", [30, 100, 1000])


def holds(interval: Interval, truth: float) -> bool:
    return interval.lower <= truth <= interval.upper


def covered(found: list[bool]) -> float:
    assert len(found) >= 400
    return 100 * float(np.mean(found))


def judged(size: int, rate: float, right: float, generator: np.random.Generator):
    """Labels of rate ``rate``, and a judge who is right that often."""
    truth = (generator.random(size) < rate).astype(float)
    return truth, np.where(generator.random(size) < right, truth, 1 - truth)


def in_clusters(clusters: int, size: int, generator: np.random.Generator):
    """Labels of rate 1/2 with an intra-cluster correlation of 0.3, and a judge likewise."""
    rates = generator.beta(7 / 6, 7 / 6, clusters)  # a + b = 1/ICC - 1
    truth = (generator.random((clusters, size)) < rates[:, None]).astype(float)
    wrong = generator.beta(0.45, 2.55, clusters)
    flipped = generator.random((clusters, size)) < wrong[:, None]
    return truth, np.where(flipped, 1 - truth, truth)


@sizes
def test_wilsons_exact_coverage(n):
    """By the binomial distribution itself, over rates from 0.1 to 0.9."""
    counts = np.arange(n + 1)
    intervals = [wilson_interval(int(k), n) for k in counts]
    lower, upper = np.array([interval[1:3] for interval in intervals]).T
    rates = np.linspace(0.1, 0.9, 161)
    inside = (lower <= rates[:, None]) & (rates[:, None] <= upper)
    found = (inside * stats.binom.pmf(counts, n, rates[:, None])).sum(axis=1)
    assert 0.945 < found.mean() < 0.96
    assert found.min() > 0.92  # it swings about 95 % for single rates
    at = float(found[np.abs(rates - 0.61).argmin()])
    assert 0.93 < at < 0.97


@sizes
def test_agreement_and_kappa(n):
    generator = np.random.default_rng(n)
    agreement, kappa = [], []
    for _ in range(SAMPLES):
        right = generator.uniform(0.55, 0.9)  # with one rate, 30 items make the coverage jump
        marked = 0.45 * right + 0.55 * (1 - right)
        chance = 0.45 * marked + 0.55 * (1 - marked)
        result = pair_agreement(*judged(n, 0.45, right, generator))
        agreement.append(holds(result.agreement.wilson, right))
        kappa.append(holds(result.kappa.interval, (right - chance) / (1 - chance)))
    assert 93 < covered(agreement) < 97
    assert (90.5 if n == 30 else 92.5) < covered(kappa) < 97  # the published, large-sample formula


@pytest.mark.parametrize(("clusters", "size"), [(10, 3), (20, 5), (60, 5), (200, 5)])
def test_clustered_mean(clusters, size):
    generator = np.random.default_rng(clusters)
    ids = np.repeat(np.arange(clusters), size)
    clustered, naive = [], []
    for _ in range(SAMPLES):
        values = in_clusters(clusters, size, generator)[0].ravel()
        clustered.append(holds(mean_with_interval(values, ids).interval, 0.5))
        naive.append(holds(mean_with_interval(values).interval, 0.5))
    assert 93 < covered(clustered) < 97
    assert covered(naive) < 91


def test_clustered_kappa():
    generator = np.random.default_rng(7)
    ids = np.repeat(np.arange(60), 5)
    clustered, naive = [], []
    for _ in range(SAMPLES):
        truth, verdicts = in_clusters(60, 5, generator)
        first, second = truth.ravel(), verdicts.ravel()
        # both say yes half of the time and agree on 85 %: κ = 0.7
        clustered.append(holds(cohen_kappa(first, second, clusters=ids).interval, 0.7))
        naive.append(holds(cohen_kappa(first, second).interval, 0.7))
    assert 92.5 < covered(clustered) < 97
    assert covered(naive) < covered(clustered)


@sizes
@pytest.mark.parametrize(("rate", "right"), [(0.6, 0.85), (0.6, 0.7), (0.3, 0.9)])
def test_prediction_powered(n, rate, right):
    generator = np.random.default_rng(n + 1)
    tuned, gains = [], []
    for _ in range(SAMPLES):
        truth, verdicts = judged(n + 2000, rate, right, generator)
        result = correct_mean(truth[:n], verdicts[:n], verdicts[n:])
        tuned.append(holds(result.prediction_powered, rate))
        gains.append(result.gain)
    assert 93 < covered(tuned) < 97
    assert np.nanmedian(gains) > 1.02  # labels that the judge saves


@pytest.mark.parametrize("n", [30, 100])
def test_prediction_powered_amounts(n):
    """Counts of errors, with a judge who counts too many, tuned and not."""
    generator = np.random.default_rng(n)
    tuned, plain = [], []
    for _ in range(SAMPLES):
        truth = generator.poisson(1.5, n + 500).astype(float)
        verdicts = truth + generator.poisson(0.7, n + 500)
        data = truth[:n], verdicts[:n], verdicts[n:]
        tuned.append(holds(correct_mean(*data).prediction_powered, 1.5))
        plain.append(holds(correct_mean(*data, power=1).prediction_powered, 1.5))
    assert 93 < covered(tuned) < 97
    assert 93 < covered(plain) < 97


@pytest.mark.parametrize(("rate", "right"), [(0.15, 0.9), (0.1, 0.95), (0.5, 0.95)])
def test_rare_errors_of_a_good_judge_are_not_taken_for_none(rate, right):
    """About two errors in 30 labels: the published interval misses far too often, ours does not."""
    generator = np.random.default_rng(9)
    ours, published = [], []
    for _ in range(SAMPLES // 2):
        truth, verdicts = judged(1030, rate, right, generator)
        data = truth[:30], verdicts[:30], verdicts[30:]
        ours.append(holds(correct_mean(*data).prediction_powered, rate))
        published.append(holds(correct_mean(*data, quantile="normal").prediction_powered, rate))
    assert 92 < covered(ours) < 99.5
    assert covered(published) < covered(ours)


@pytest.mark.parametrize("shared", [False, True], ids=["separate prompts", "shared prompts"])
@pytest.mark.parametrize("clusters", [15, 60])
def test_prediction_powered_in_clusters(clusters, shared):
    generator = np.random.default_rng(clusters)
    found, naive = [], []
    for _ in range(SAMPLES // 2):
        if shared:  # two labelled and four other responses to each prompt
            truth, verdicts = in_clusters(clusters, 6, generator)
            data = truth[:, :2].ravel(), verdicts[:, :2].ravel(), verdicts[:, 2:].ravel()
            ids = np.repeat(np.arange(clusters), 2), np.repeat(np.arange(clusters), 4)
        else:
            truth, verdicts = in_clusters(4 * clusters, 3, generator)
            data = (
                truth[:clusters].ravel(),
                verdicts[:clusters].ravel(),
                verdicts[clusters:].ravel(),
            )
            every = np.repeat(np.arange(4 * clusters), 3)
            ids = every[: 3 * clusters], every[3 * clusters :]
        result = correct_mean(*data, clusters=ids[0], other_clusters=ids[1])
        found.append(holds(result.prediction_powered, 0.5))
        naive.append(holds(correct_mean(*data).prediction_powered, 0.5))
    assert 93 < covered(found) < 97
    assert covered(naive) < covered(found)


@sizes
def test_rogan_gladen(n):
    generator = np.random.default_rng(n)
    found = []
    for _ in range(SAMPLES):
        truth, verdicts = judged(n + 2000, 0.5, 0.8, generator)
        corrected = correct_mean(truth[:n], verdicts[:n], verdicts[n:]).rogan_gladen
        found.append(bool(holds(corrected.interval, 0.5)))
    assert 93 < covered(found) < (100 if n == 30 else 98)  # the delta method: wide for few labels


def test_alphas_bootstrap():
    """Two people right 85 % of the time about rate 1/2: α = κ = (0.745 - 0.5)/0.5."""
    generator = np.random.default_rng(8)
    found = []
    for _ in range(500):
        truth = (generator.random(100) < 0.5).astype(float)
        wrong = generator.random((2, 100)) < 0.15
        first, second = np.where(wrong, 1 - truth, truth)
        alpha = krippendorff_alpha({"a": first, "b": second}, resamples=400, seed=1)
        found.append(holds(alpha.interval, 0.49))
    assert 92 < covered(found) < 98
