"""Rogan–Gladen's correction by its formula."""

from __future__ import annotations

import math

import numpy as np
import pytest
from drawn_samples import bits, judged, sample
from hypothesis import given

from eft_eval.agreement import correct_mean


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
