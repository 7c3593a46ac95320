"""The disagreement protocol: what is drawn for gold, and what gold says of judge and people."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from eft_eval.agreement import (
    draw_for_gold,
    gold_outcome,
    gold_outcome_of_counts,
    mean_with_interval,
)
from eft_eval.errors import ConfigError


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
