"""Which run is which arm of a study, and how much of the improvement is carried over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reported_runs import ARMS, composite, hf, study, write_all, write_arm

from eft_eval.comparing import read_run, read_runs
from eft_eval.errors import ConfigError
from eft_eval.reporting.arms import find_arms
from eft_eval.reporting.report import make_report


def names_of(folder: Path, configs: dict[str, dict[str, Any]]) -> dict[str, str | None]:
    found = find_arms(write_all(folder, configs))
    assert found.notes == ()
    return dict(zip(configs, found.names, strict=True))


def test_arms_are_told_by_their_recipes_in_any_order(tmp_path: Path) -> None:
    expected = {
        "down": "down-scaled", "large": "large tuned", "small": "small tuned", "up": "up-scaled"
    }  # fmt: skip
    assert names_of(tmp_path, {name: ARMS[name] for name in expected}) == expected


def test_two_tuned_models_alone_are_told_by_their_size(tmp_path: Path) -> None:
    configs = {"b": ARMS["large"], "a": ARMS["small"]}
    assert names_of(tmp_path, configs) == {"b": "large tuned", "a": "small tuned"}


def test_stock_runs_are_told_by_the_composites_that_name_them(tmp_path: Path) -> None:
    configs = {
        "x": hf("small-tuned"), "up": ARMS["up"], "down": ARMS["down"], "y": hf("large-tuned"),
        "z": hf("other"), "v": hf("small-tuned", "step100"),
    }  # fmt: skip
    assert names_of(tmp_path, configs) == {
        "x": "small tuned", "up": "up-scaled", "down": "down-scaled", "y": "large tuned",
        "z": None, "v": None,
    }  # fmt: skip


def test_other_weights_are_no_arms(tmp_path: Path) -> None:
    half = composite("large-base", ("small-tuned", "small-base", 0.5))
    two = composite("large-base", ("small-a", "small-base", 1.0), ("small-b", "small-base", 1.0))
    assert names_of(tmp_path, {"half": half, "two": two}) == {"half": None, "two": None}


def test_bases_alone_are_told_by_the_composites_that_name_them(tmp_path: Path) -> None:
    def alone(name: str) -> dict[str, Any]:
        return composite(name, (name, name, 0.0))

    configs = {
        "x": alone("small-tuned"), "up": ARMS["up"], "down": ARMS["down"],
        "y": alone("large-tuned"), "z": alone("small-other"),
    }  # fmt: skip
    assert names_of(tmp_path, configs) == {
        "x": "small tuned", "up": "up-scaled", "down": "down-scaled", "y": "large tuned", "z": None
    }  # fmt: skip


def test_arms_can_be_named_and_ambiguous_ones_are_said(tmp_path: Path) -> None:
    runs = write_all(tmp_path, {"a": hf("t"), "b": hf("u"), "up": ARMS["up"]})
    assert find_arms(runs, {0: "small", 1: "large"}).names == (
        "small tuned",
        "large tuned",
        "up-scaled",
    )
    again = [*runs, *write_all(tmp_path / "again", {"up": ARMS["up"]})]
    found = find_arms(again)
    assert found.names == (None,) * 4
    assert "several runs are up-scaled" in found.notes[0]
    assert "--arm up=RUN" in found.notes[0]
    assert find_arms(again, {3: "up"}).names[3] == "up-scaled"
    with pytest.raises(ConfigError, match=r"unknown arm 'smal' \(did you mean 'small'\?\)"):
        find_arms(runs, {0: "smal"})
    with pytest.raises(ConfigError, match="given twice"):
        find_arms(runs, {0: "small", 1: "small"})


def test_improvements_of_a_study(tmp_path: Path) -> None:
    report = make_report(read_runs(study(tmp_path, 200)))
    assert [run.short for run in report.runs] == [
        "small tuned", "up-scaled", "down-scaled", "large tuned"
    ]  # fmt: skip
    found = {(one.run, one.metric): one for one in report.improvements}
    assert set(found) == {(r, m) for r in (1, 2) for m in ("fact_errors", "any_right")}
    up, down = found[1, "fact_errors"].interval, found[2, "fact_errors"].interval
    assert up is not None
    assert down is not None
    assert up.lower < 0.9 < up.upper
    assert down.lower < 0.1 < down.upper
    small, arm, large = (
        np.array(read_run(tmp_path / name).tasks["facts"].columns[("fact_errors", "judge")].values)  # type: ignore[index]  # as a MetricKey
        for name in ("small", "up", "large")
    )
    assert up.estimate == pytest.approx((arm - small).mean() / (large - small).mean())


def test_a_large_model_that_is_worse_carries_nothing_over(tmp_path: Path) -> None:
    numbers = {"small": [0.0, 1.0] * 20, "up": [1.0, 2.0] * 20, "large": [3.0, 2.0] * 20}
    runs = [read_run(write_arm(tmp_path / n, ARMS[n], v)) for n, v in numbers.items()]
    report = make_report(runs)
    assert [one.interval for one in report.improvements if one.metric == "fact_errors"] == [None]
