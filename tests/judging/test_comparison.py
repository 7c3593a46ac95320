"""Two judges on the same responses, and one judge several times, against independent arithmetic."""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.inter_rater import cohens_kappa

from eft_eval.judging import JudgeSettings, Status, Verdict, load_prompt, unjudged
from eft_eval.judging.comparison import compare
from eft_eval.judging.prompts.measures import MEASURES
from eft_eval.judging.self_consistency import self_agreement

BLANK = unjudged(load_prompt("factuality"), JudgeSettings("m", None, "k"), "x")
COUNTS = MEASURES["factuality"]
PERCENT = MEASURES["helpfulness"]
VALUES = st.none() | st.integers(0, 3)
PAIRS = st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=25)


def verdict(value: float | None, model: str = "m") -> Verdict:
    status = Status.malformed if value is None else Status.scored
    return replace(BLANK, status=status, value=value, judge_model=model)


def ids(count: int) -> list[str]:
    return [f"prompt {number}" for number in range(count)]


@given(PAIRS)
def test_the_figures_are_those_of_the_pairs_that_both_scored(
    pairs: list[tuple[int | None, int | None]],
) -> None:
    old = [[verdict(a, "old")] for a, _ in pairs]
    new = [[verdict(b, "new")] for _, b in pairs]
    found = compare(old, new, COUNTS, ids(len(pairs)))
    both = [(a, b) for a, b in pairs if a is not None and b is not None]
    assert found.n == len(both)
    assert found.n + found.only_old + found.only_new + found.neither == len(pairs)
    assert found.only_old == sum(a is not None and b is None for a, b in pairs)
    json.dumps(found.as_dict(), allow_nan=False)
    if not both:
        assert math.isnan(found.offset.estimate)
        return
    assert found.offset.estimate == pytest.approx(statistics.fmean(b - a for a, b in both))
    assert found.offset.estimate == pytest.approx(found.new_mean - found.old_mean)
    assert found.equal == pytest.approx(sum(a == b for a, b in both) / len(both))
    same = sum((a > 0) == (b > 0) for a, b in both) / len(both)
    assert found.agreement.estimate == pytest.approx(same)
    table = [[sum(((a > 0), (b > 0)) == (i, j) for a, b in both) for j in (0, 1)] for i in (0, 1)]
    shares = [sum(row) for row in table], [sum(column) for column in zip(*table, strict=True)]
    if all(0 not in margins for margins in shares):
        assert found.kappa.estimate == pytest.approx(cohens_kappa(table).kappa)


@given(PAIRS)
def test_exchanging_the_judges_exchanges_the_figures(
    pairs: list[tuple[int | None, int | None]],
) -> None:
    old, new = ([[verdict(pair[side])] for pair in pairs] for side in (0, 1))
    there = compare(old, new, PERCENT, ids(len(pairs)))
    back = compare(new, old, PERCENT, ids(len(pairs)))
    assert there.offset.estimate == pytest.approx(-back.offset.estimate, nan_ok=True)
    assert there.agreement == pytest.approx(back.agreement, nan_ok=True) or there.n == 0
    assert (there.only_old, there.only_new) == (back.only_new, back.only_old)


@given(st.lists(st.integers(0, 100), min_size=2, max_size=20))
def test_a_judge_agrees_with_its_own_verdicts(values: list[int]) -> None:
    groups = [[verdict(value)] for value in values]
    found = compare(groups, groups, PERCENT, ids(len(values)))
    assert (found.agreement.estimate, found.equal, found.offset.estimate) == (1, 1, 0)
    assert found.rule == "above 50 %"
    assert found.agreement.method == "Wilson"
    assert 0 < found.agreement.lower < found.agreement.upper == 1, "no certainty from few"
    assert found.old == found.new


def test_percentages_are_compared_as_shares() -> None:
    old = [[verdict(value)] for value in (10, 40, 80)]
    new = [[verdict(value)] for value in (20, 60, 90)]
    found = compare(old, new, PERCENT, ids(3))
    assert found.metric == "helpfulness"
    assert found.offset.estimate == pytest.approx((0.1 + 0.2 + 0.1) / 3)
    half = 4.302652729911275 * statistics.stdev([0.1, 0.2, 0.1]) / math.sqrt(3)  # t, 2 degrees
    assert found.offset.upper == pytest.approx(found.offset.estimate + half)
    assert (found.old_rate, found.new_rate) == pytest.approx((1 / 3, 2 / 3))


def test_responses_to_one_prompt_are_one_cluster() -> None:
    old = [[verdict(value), verdict(value)] for value in (0, 1, 2)]
    new = [[verdict(value + 1), verdict(value)] for value in (0, 1, 2)]
    found = compare(old, new, COUNTS, ids(3))
    assert found.n == 6
    assert found.offset.method == "clustered t"


@given(st.lists(st.lists(VALUES, min_size=3, max_size=3), min_size=1, max_size=15))
def test_self_agreement_is_over_pairs_of_askings(rows: list[list[int | None]]) -> None:
    askings = [[verdict(row[asking]) for row in rows] for asking in range(3)]
    found = self_agreement(askings, COUNTS, ids(len(rows)))
    whole = [[v for v in row if v is not None] for row in rows if None not in row]
    assert found.n == len(whole)
    assert found.incomplete == sum(None in row and any(v is not None for v in row) for row in rows)
    json.dumps(found.as_dict(), allow_nan=False)
    if not whole:
        assert math.isnan(found.exact)
        return
    pairs = [(row[i], row[j]) for row in whole for i, j in ((0, 1), (0, 2), (1, 2))]
    assert found.exact == pytest.approx(sum(a == b for a, b in pairs) / len(pairs))
    assert found.agreement.estimate == pytest.approx(
        sum((a > 0) == (b > 0) for a, b in pairs) / len(pairs)
    )
    pooled = statistics.fmean(statistics.variance(row) for row in whole)
    assert found.sd == pytest.approx(math.sqrt(pooled))
    if found.exact == 1 and found.kappa is not None:
        assert found.kappa == pytest.approx(1)


def test_repeats_of_one_prompt_cluster_in_self_agreement() -> None:
    askings = [[verdict(v) for v in (0, 1, 2, 0)], [verdict(v) for v in (0, 1, 0, 1)]]
    assert self_agreement(askings, COUNTS, ids(4)).agreement.method == "t"
    assert self_agreement(askings, COUNTS, ["a", "a", "b", "b"]).agreement.method == "clustered t"
