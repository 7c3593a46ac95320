"""Shares, means and standard errors of verdicts."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from judged_tasks import SHARES

from eft_eval.judging import JudgeSettings, Status, load_prompt, unjudged
from eft_eval.judging.metrics import fact_values, scored_mean, scored_standard_error


@given(st.lists(st.tuples(st.sampled_from(list(Status)), st.integers(0, 5)), min_size=1))
def test_shares_add_up_and_only_scored_responses_count(parts: list[tuple[Status, int]]) -> None:
    from dataclasses import replace

    blank = unjudged(load_prompt("factuality"), JudgeSettings("m", None, "k"), "x")
    verdicts = [
        replace(blank, status=status, value=value if status is Status.scored else None)
        for status, value in parts
    ]
    values = fact_values(verdicts)
    scored = [value for status, value in parts if status is Status.scored]
    shares = sum(values[f"fact_{name}"] or 0 for name in SHARES)
    assert shares + len(scored) / len(parts) == pytest.approx(1)
    if scored:
        assert values["fact_errors"] == pytest.approx(sum(scored) / len(scored))
        assert values["fact_any_error"] == pytest.approx(sum(v > 0 for v in scored) / len(scored))
    else:
        assert values["fact_errors"] is None
        assert values["fact_any_error"] is None


@given(st.lists(st.one_of(st.none(), st.floats(-1e3, 1e3)), max_size=30))
def test_mean_and_standard_error_against_statsmodels(values: list[float | None]) -> None:
    from statsmodels.stats.weightstats import DescrStatsW

    scored = [value for value in values if value is not None]
    if len(scored) < 2:
        assert math.isnan(scored_standard_error(values))
        assert math.isnan(scored_mean(values)) == (not scored)
        return
    described = DescrStatsW(scored)
    assert scored_mean(values) == pytest.approx(described.mean, abs=1e-9)
    assert scored_standard_error(values) == pytest.approx(described.std_mean, abs=1e-9)
