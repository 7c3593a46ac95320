"""The alternative annotator test by its definition."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from drawn_ratings import correlated_panel, fewer, named, panels
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from eft_eval.agreement import alternative_annotator_test, benjamini_yekutieli
from eft_eval.errors import ConfigError


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
