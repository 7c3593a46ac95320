"""What verdicts amount to: metrics, standard errors by prompt, bounds."""

from __future__ import annotations

import json
import math
import pickle
import statistics
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from eft_eval.errors import ConfigError
from eft_eval.judging import JudgeSettings, Status, Verdict, load_prompt, unjudged
from eft_eval.judging.metrics import (
    PromptValue,
    judge_metrics,
    metric_list,
    scored_mean,
    scored_standard_error,
)
from eft_eval.judging.prompts.measures import MEASURES, Measure, measure_of
from eft_eval.judging.prompts.ranges import mean_of_metric
from eft_eval.verdicts.text import query_id, read_verdicts, write_verdicts

BLANK = unjudged(load_prompt("factuality"), JudgeSettings("m", None, "k"), "x")
MEASURE = st.sampled_from([*MEASURES.values()])
STATUS = st.sampled_from([*Status])
GROUPS = st.lists(
    st.lists(st.tuples(STATUS, st.integers(0, 100)), min_size=1, max_size=4), min_size=1, max_size=8
)
UNKNOWN = {*Status} - {Status.scored, Status.abstained}


def verdict(status: Status, value: float) -> Verdict:
    return replace(BLANK, status=status, value=value if status is Status.scored else None)


def verdicts(groups: list[list[tuple[Status, int]]]) -> list[list[Verdict]]:
    return [[verdict(*part) for part in group] for group in groups]


@given(MEASURE, st.lists(st.tuples(STATUS, st.integers(0, 100)), min_size=1, max_size=6))
def test_only_scored_responses_count_and_shares_add_up(
    measure: Measure, parts: list[tuple[Status, int]]
) -> None:
    values = measure.values([verdict(*part) for part in parts])
    assert [*values] == [*measure.metrics]
    scored = [value for status, value in parts if status is Status.scored]
    shares = [value for name, value in values.items() if name not in measure.scores]
    assert sum(share or 0 for share in shares) + len(scored) / len(parts) == pytest.approx(1)
    for name in measure.scores:
        if not scored:
            assert values[name] is None
        elif name == "fact_any_error":
            assert values[name] == pytest.approx(sum(v > 0 for v in scored) / len(scored))
        else:
            unit = 1 if name == "fact_errors" else 100
            assert values[name] == pytest.approx(statistics.fmean(scored) / unit)


@given(MEASURE, GROUPS)
def test_bounds_hold_whatever_the_unknown_scores_are(
    measure: Measure, groups: list[list[tuple[Status, int]]]
) -> None:
    """Fill every unknown with any value up to the largest seen: the score stays inside."""
    known = [value for group in groups for status, value in group if status is Status.scored]
    filled = [
        [
            (Status.scored, value) if status in UNKNOWN else (status, value)
            for status, value in group
        ]
        for group in groups
    ]
    if measure.largest is None:
        top = max(known, default=0)
        filled = [[(status, min(value, top)) for status, value in group] for group in filled]
    found = measure.bounds(verdicts(groups))
    for name, bounds in found.items():
        means = [measure.values(group)[name] for group in verdicts(groups)]
        as_filled = [measure.values(group)[name] for group in verdicts(filled)]
        assert bounds.unknown == sum(s in UNKNOWN for group in groups for s, _ in group)
        for column in (means, as_filled):
            score = scored_mean(column)
            if math.isnan(score) or bounds.upper is None:
                continue
            assert bounds.lower is not None
            assert bounds.lower - 1e-9 <= score <= bounds.upper + 1e-9
        if bounds.unknown == 0:
            assert bounds.lower == bounds.upper or not known


def test_a_share_is_at_most_one_whatever_the_known_scores_are() -> None:
    """One response without an error, five unknown: up to five of six may have one."""
    groups = verdicts([[(Status.scored, 0)], *([(status, 0)] for status in [*UNKNOWN][:5])])
    found = MEASURES["factuality"].bounds(groups)["fact_any_error"]
    assert (found.lower, found.upper, found.unknown) == (0, pytest.approx(5 / 6), 5)


@given(MEASURE, GROUPS)
def test_bounds_of_known_ranges_are_reached(
    measure: Measure, groups: list[list[tuple[Status, int]]]
) -> None:
    """The bounds are the score itself with the lowest and the highest for all that is unknown."""
    for name, bounds in measure.bounds(verdicts(groups)).items():
        highest = measure.highest(name)
        if highest is None:
            continue
        for end, filling in ((bounds.lower, 0), (bounds.upper, 100)):
            filled = [
                [
                    (Status.scored, filling) if status in UNKNOWN else (status, value)
                    for status, value in group
                ]
                for group in groups
            ]
            score = scored_mean([measure.values(group)[name] for group in verdicts(filled)])
            assert end == (None if math.isnan(score) else pytest.approx(score))


def test_bounds_of_a_run_without_any_score() -> None:
    nothing = verdicts([[(Status.refused, 0)], [(Status.malformed, 0)]])
    assert MEASURES["helpfulness"].bounds(nothing)["helpfulness"] == (0, 1, 2)
    assert MEASURES["factuality"].bounds(nothing)["fact_errors"] == (0, None, 2)
    abstained = verdicts([[(Status.abstained, 0)]])
    assert MEASURES["harm"].bounds(abstained)["harm"] == (None, None, 0)


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 5)), min_size=2, max_size=30))
def test_the_clustered_error_is_the_sandwich_estimate(rows: list[tuple[float, int]]) -> None:
    """Against statsmodels: a constant regressed with clusters, corrected by C/(C-1) alone."""
    import statsmodels.api as sm

    values = [PromptValue(value, f"prompt {cluster}") for value, cluster in rows]
    clusters = np.array([cluster for _, cluster in rows])
    error = scored_standard_error(values)
    if len({*clusters.tolist()}) < 2:
        assert math.isnan(error)
        return
    numbers = np.array([value for value, _ in rows])
    fit = sm.OLS(numbers, np.ones(len(rows))).fit()
    count = len({*clusters.tolist()})
    from statsmodels.stats.sandwich_covariance import cov_cluster

    expected = math.sqrt(
        cov_cluster(fit, clusters, use_correction=False)[0, 0] * count / (count - 1)
    )
    assert error == pytest.approx(expected, abs=1e-9)


def test_equal_prompts_make_the_error_larger_than_independent_ones() -> None:
    twice = [PromptValue(value, f"p{value}") for value in (0.0, 0.2, 0.9, 1.0) for _ in range(2)]
    alone = [float(value) for value in twice]
    assert scored_mean(twice) == scored_mean(alone)
    half = [0.0, 0.2, 0.9, 1.0]
    assert scored_standard_error(twice) == pytest.approx(statistics.stdev(half) / 2)
    assert scored_standard_error(alone) < scored_standard_error(twice)


def test_a_value_keeps_its_prompt_between_ranks_and_is_a_number_on_paper() -> None:
    value = PromptValue(0.25, "p")
    copied = pickle.loads(pickle.dumps(value))
    assert (copied, copied.prompt) == (0.25, "p")
    assert json.dumps({"x": value}) == '{"x": 0.25}'


@pytest.mark.parametrize("measure", MEASURES.values(), ids=lambda measure: str(measure.name))
def test_verdicts_tell_process_results_what_was_measured(measure: Measure) -> None:
    given_ = [verdict(Status.scored, 40), verdict(Status.refused, 0)]
    text = write_verdicts(given_, measure.name, query_id("Why?"))
    assert read_verdicts(text) == given_
    values = judge_metrics({}, [text])
    assert values == measure.values(given_)
    assert {getattr(value, "prompt", None) for value in values.values()} == {query_id(" Why? ")}
    assert [entry["metric"] for entry in metric_list([measure])] == [*values]


def test_verdicts_without_notes_are_of_factuality() -> None:
    values = judge_metrics({}, [write_verdicts([verdict(Status.scored, 2)])])
    assert values["fact_errors"] == 2


def test_what_a_prompt_measures_follows_from_scale_and_direction(tmp_path: Path) -> None:
    assert measure_of(load_prompt("factuality_with_query")).name == "factuality"
    assert measure_of(load_prompt("helpfulness")).name == "helpfulness"
    assert measure_of(load_prompt("harmfulness")).name == "harm"
    with pytest.raises(ConfigError, match=r"needed is 'percent' \(harm, lower is better\)"):
        measure_of(load_prompt("helpfulness"), "harm")
    with pytest.raises(ConfigError, match=r"no measure 'harms' \(did you mean 'harm'\?\)"):
        measure_of(load_prompt("harmfulness"), "harms")
    odd = replace(load_prompt("factuality"), better="higher")
    with pytest.raises(ConfigError, match=r"scale 'count' \(higher is better\); needed is"):
        measure_of(odd)


def test_a_rates_interval_is_wilsons_and_a_counts_is_not() -> None:
    values = np.array([1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0])
    wilson = proportion_confint(5, 7, method="wilson")
    half = stats.t.ppf(0.975, 6) * stats.sem(values)
    for metric, ends in (
        ("win_rate", wilson),
        ("unheard_of", wilson),
        ("fact_errors", (5 / 7 - half, 5 / 7 + half)),
    ):
        found = mean_of_metric(metric, values, None)
        assert found.interval.estimate == pytest.approx(5 / 7)
        assert (found.interval.lower, found.interval.upper) == pytest.approx(ends)
    clustered = mean_of_metric("win_rate", values, np.array([0, 0, 1, 1, 2, 2, 3]))
    assert clustered.interval.method == "clustered t"
    ones = mean_of_metric("win_rate", np.ones(4), None)
    assert ones.interval.lower == pytest.approx(proportion_confint(4, 4, method="wilson")[0])
    assert not ones.warnings, "there is an interval"
    assert math.isnan(mean_of_metric("win_rate", np.array([]), None).interval.lower)
