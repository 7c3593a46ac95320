"""Settings of the gate: files, and what they may say."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path

import pytest
from gated_runs import BASE, compare, only_row

from eft_eval.comparing import (
    GateSettings,
    MetricSettings,
    read_settings,
)
from eft_eval.errors import ComparabilityError, ConfigError

SETTINGS = """\
[gate]
alpha = 0.01
gated = ["demo_*/fact_errors", "t/acc"]
fail_on_inconclusive = true

[gate.metrics."t/*"]
tolerance = 0.5
better = "lower"
"""


def test_settings_are_read_and_metrics_have_their_own(tmp_path: Path) -> None:
    file = tmp_path / "eft-eval.toml"
    file.write_text(SETTINGS)
    found = read_settings(None, tmp_path)
    assert found == GateSettings(
        alpha=0.01,
        gated=("demo_*/fact_errors", "t/acc"),
        fail_on_inconclusive=True,
        metrics={"t/*": MetricSettings(tolerance=0.5, better="lower")},
    )
    assert read_settings(None, tmp_path / "elsewhere") == GateSettings()
    own = GateSettings(metrics={"t/*": MetricSettings(tolerance=0.5, better="lower")})
    row = only_row(compare(tmp_path, {"t": {"acc": BASE}}, {"t": {"acc": BASE}}, own))
    assert row.better == "lower"
    assert row.decision is not None
    assert row.decision.tolerance == 0.5


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[gates]", r"unknown key 'gates' \(did you mean 'gate'\?\)"),
        ("[gate]\ntolerence = 1", r"unknown key 'tolerence' \(did you mean 'tolerance'\?\)"),
        ("[gate]\nalpha = 0.7", "alpha is 0.7; expected a number between 0 and 0.5"),
        ("[gate]\nalpha = true", "alpha is True"),
        ("[gate]\ntolerance = -1", "tolerance is -1; expected a number of 0 or more"),
        (f"[gate]\ntolerance = {10**400}", "tolerance is 10{400}; expected a number of 0 or more"),
        ("[gate]\ngated = 'x'", "expected a list such as"),
        ("[gate]\nflips = 10", "flips is 10; expected a whole number of 1,000 or more"),
        ("[gate]\nflips = 1000000000000", "flips is 1,000,000,000,000; at most 10,000,000"),
        ("[gate]\nfail_on_inconclusive = 1", "expected true or false"),
        ("[gate]\nmetrics = 1", "expected tables of metrics"),
        ("[gate.metrics.x]\nbeter = 'lower'", r"unknown key 'beter' \(did you mean 'better'\?\)"),
        ("[gate.metrics.x]\nbetter = 'up'", 'better is \'up\'; expected "higher" or "lower"'),
        ("gate = 3", "expected a table"),
        ("[gate", "is no TOML"),
    ],
)
def test_bad_settings_name_the_place(tmp_path: Path, text: str, complaint: str) -> None:
    file = tmp_path / "eft-eval.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=complaint) as raised:
        read_settings(file)
    assert str(file) in str(raised.value)


def test_a_settings_file_that_is_a_dangling_link_is_not_ignored(tmp_path: Path) -> None:
    (tmp_path / "eft-eval.toml").symlink_to(tmp_path / "gone.toml")
    with pytest.raises(ConfigError, match=r"cannot read .*eft-eval\.toml: No such file"):
        read_settings(None, tmp_path)


def test_settings_that_fit_no_metric_are_errors(tmp_path: Path) -> None:
    before = {"t": {"acc": BASE}}
    with pytest.raises(ConfigError, match=r"no metric of .* matches 't/ac'.*did you mean 't/acc'"):
        compare(tmp_path, before, before, GateSettings(gated=("t/ac",)))
    with pytest.raises(ConfigError, match=r"metrics: no metric of .* matches 'u/acc'"):
        compare(tmp_path, before, before, GateSettings(metrics={"u/acc": MetricSettings()}))
    unknown = {"higher_is_better": {}}
    with pytest.raises(ConfigError, match="does not say whether a higher t/acc,none is better"):
        compare(tmp_path, before, before, GateSettings(gated=("t/acc",)), changes=unknown)
    with pytest.raises(ComparabilityError, match="has no metric that can be gated"):
        compare(tmp_path, before, before, changes=unknown)
    named = {"t/acc": MetricSettings(better="higher")}
    assert compare(tmp_path, before, before, GateSettings(metrics=named), changes=unknown)


def test_the_documented_settings_are_all_there_are(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "comparing.md").read_text("utf-8")
    (block,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    file = tmp_path / "eft-eval.toml"
    file.write_text(block)
    found = read_settings(file)
    keys = set(re.findall(r"^(\w+) =", block, re.MULTILINE))
    assert keys == {one.name for kind in (GateSettings, MetricSettings) for one in fields(kind)} - {
        "metrics"
    }
    defaults = replace(found, gated=(), metrics={})
    assert defaults == GateSettings(), "the values shown are the defaults"


@pytest.mark.parametrize(
    ("tolerance", "fits"), [(0.05, True), (0.99, True), (1, False), (5, False)]
)
def test_a_tolerance_that_no_drop_could_fail_is_refused(
    tmp_path: Path, tolerance: float, fits: bool
) -> None:
    """5 is not 5 points: accuracy lies from 0 to 1. A count of errors has no such end."""
    worst = {"t": {"acc": [0.0] * 100}}
    if fits:
        found = compare(tmp_path, {"t": {"acc": BASE}}, worst, GateSettings(tolerance=tolerance))
        assert found.outcome == ("regression" if tolerance < 0.5 else "pass")
        return
    with pytest.raises(ConfigError, match=r"of t/acc: it lies from 0 to 1, so no drop could fail"):
        compare(tmp_path, {"t": {"acc": BASE}}, worst, GateSettings(tolerance=tolerance))
    counts = {"t": {"fact_errors": [1.0] * 100}}
    demands = GateSettings(metrics={"t/fact_errors": MetricSettings(tolerance, "lower")})
    assert compare(tmp_path, counts, counts, demands).outcome == "pass"
