"""What a report computes: normalised improvements, scores, arms, frontiers, flips."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
import statsmodels.api
from hypothesis import given
from hypothesis import strategies as st
from reported_runs import ARMS, composite, study, verdict, write_arm
from statsmodels.stats.proportion import proportion_confint
from written_runs import write_run

from eft_eval.comparing import GateSettings, read_run, read_runs
from eft_eval.errors import ComparabilityError, ConfigError
from eft_eval.reporting.arms import find_arms
from eft_eval.reporting.frontier import AUTO, find_frontiers
from eft_eval.reporting.report import make_report
from eft_eval.reporting.scores import align, scores_of
from eft_eval.reports.document import Figure, Table
from eft_eval.reports.renderers.html.figures import draw
from eft_eval.reports.views.report import page_of
from eft_eval.runs.provenance import facts_of
from eft_eval.statistics.fieller import normalised_improvement

SIMULATED = 3_000


def three(seed: int, n: int, gap: float = -1.0, share: float = 0.7) -> list[Any]:
    """Return correlated numbers of small tuned, arm and large tuned; the true ratio is share."""
    generator = np.random.default_rng(seed)
    common = generator.normal(0, 0.8, n)
    means = (1.5, 1.5 + share * gap, 1.5 + gap)
    return [mean + common + generator.normal(0, 0.6, n) for mean in means]


@pytest.mark.parametrize("n", [8, 40, 300])
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_the_ends_are_where_scipys_paired_t_test_stops_rejecting(n: int, level: float) -> None:
    small, arm, large = three(n, n)
    found = normalised_improvement(small, arm, large, level=level)

    def excess(ratio: float) -> float:
        test = scipy.stats.ttest_1samp((arm - small) - ratio * (large - small), 0.0)
        return float(test.pvalue) - (1 - level)

    assert found.estimate == pytest.approx((arm - small).mean() / (large - small).mean())
    assert scipy.optimize.brentq(excess, found.estimate - 5, found.estimate) == pytest.approx(
        found.lower, abs=1e-6
    )
    assert scipy.optimize.brentq(excess, found.estimate, found.estimate + 5) == pytest.approx(
        found.upper, abs=1e-6
    )


def test_clustered_ends_are_where_a_clustered_regression_stops_rejecting() -> None:
    small, arm, large = three(3, 120)
    groups = np.repeat(np.arange(24), 5)
    small, arm = small + groups % 3, arm + groups % 5
    found = normalised_improvement(small, arm, large, groups)

    def p_value(ratio: float) -> float:
        fit = statsmodels.api.OLS((arm - small) - ratio * (large - small), np.ones(120)).fit(
            cov_type="cluster", cov_kwds={"groups": groups, "use_correction": False}
        )
        t = fit.params[0] / (fit.bse[0] * math.sqrt(24 / 23))
        return float(2 * scipy.stats.t.sf(abs(t), 23))

    assert p_value(found.lower) == pytest.approx(0.05)
    assert p_value(found.upper) == pytest.approx(0.05)
    assert found.upper - found.lower > 0


@given(st.integers(0, 500), st.floats(-3, 3), st.floats(0.1, 10))
def test_units_and_origin_do_not_matter(seed: int, shift: float, factor: float) -> None:
    numbers = three(seed, 60)
    found = normalised_improvement(*numbers)
    moved = normalised_improvement(*(shift - factor * row for row in numbers))
    assert moved[:3] == pytest.approx(found[:3], rel=1e-6, abs=1e-6)


def test_the_ends_of_the_scale_are_0_and_1() -> None:
    small, _, large = three(1, 50)
    assert normalised_improvement(small, small, large)[:3] == pytest.approx((0, 0, 0))
    assert normalised_improvement(small, large, large)[:3] == pytest.approx((1, 1, 1))


def test_tuned_models_that_are_not_apart_give_no_interval() -> None:
    small, arm, large = three(1, 30, gap=0.05)
    found = normalised_improvement(small, arm, large)
    assert math.isnan(found.lower)
    assert math.isnan(found.upper)
    assert scipy.stats.ttest_rel(small, large).pvalue > 0.05
    same = normalised_improvement(small, arm, small)
    assert math.isnan(same.estimate)
    nobody = normalised_improvement(small[:0], arm[:0], large[:0])
    assert math.isnan(nobody.estimate)
    assert math.isnan(normalised_improvement(small[:1], arm[:1], large[:1]).lower)


@pytest.mark.parametrize(("n", "clustered"), [(30, False), (256, False), (120, True)])
def test_the_interval_covers_the_true_ratio(n: int, clustered: bool) -> None:
    hits = 0
    generator = np.random.default_rng(11)
    groups = np.repeat(np.arange(n // 5), 5) if clustered else None
    for seed in range(SIMULATED):
        numbers = three(seed, n)
        if clustered:
            numbers = [row + np.repeat(generator.normal(0, 0.5, n // 5), 5) for row in numbers]
        found = normalised_improvement(*numbers, groups)
        hits += found.lower <= 0.7 <= found.upper
    assert hits / SIMULATED == pytest.approx(0.95, abs=0.015)


def bootstrap(rows: list[np.ndarray], draws: int = 2000) -> tuple[float, float]:
    """Return the ends of a paired bootstrap over documents: another method, to compare with."""
    picks = np.random.default_rng(1).integers(len(rows[0]), size=(draws, len(rows[0])))
    low, middle, high = np.array(rows)[:, picks].mean(axis=2)
    lower, upper = np.quantile((middle - low) / (high - low), [0.025, 0.975])
    return float(lower), float(upper)


def test_counts_like_the_demos_are_covered_too_and_the_bootstrap_agrees() -> None:
    hits = 0
    for seed in range(SIMULATED):
        generator = np.random.default_rng(seed)
        rows = [generator.poisson(mean, 128).astype(float) for mean in (1.2, 0.34, 0.24)]
        found = normalised_improvement(*rows)
        true = (1.2 - 0.34) / (1.2 - 0.24)
        hits += found.lower <= true <= found.upper
        if seed < 5:
            assert bootstrap(rows) == pytest.approx(found[1:3], abs=0.04)
    assert hits / SIMULATED == pytest.approx(0.95, abs=0.015)


# --- scores and aligned columns


def test_scores_are_statsmodels_and_scipys(tmp_path: Path) -> None:
    rates, counts = [1.0, 0.0, 1.0, 1.0] * 15, [float(i % 4) for i in range(60)]
    run = read_run(write_run(tmp_path / "a", {"t": {"acc": rates, "n": counts}}))
    acc, number = scores_of(run, 0.9)
    assert acc.interval is not None
    assert number.interval is not None
    assert acc.interval[1:3] == pytest.approx(
        proportion_confint(45, 60, alpha=0.1, method="wilson")
    )
    expected = scipy.stats.ttest_1samp(counts, 0).confidence_interval(0.9)
    assert number.interval[1:3] == pytest.approx((expected.low, expected.high))
    assert (acc.documents, acc.missing, acc.clusters, acc.better) == (60, 0, None, "higher")


def test_missing_numbers_are_counted_and_clusters_known(tmp_path: Path) -> None:
    values = [None, *[1.0, 0.0] * 10, 1.0]
    prompts = [f"prompt {i // 2}" for i in range(22)]
    run = read_run(write_run(tmp_path / "a", {"t": {"acc": values}}, prompts=prompts))
    (score,) = scores_of(run)
    assert (score.documents, score.missing, score.clusters) == (21, 1, 11)
    assert score.interval is not None
    assert score.interval.method == "clustered t"


def test_align_keeps_the_documents_that_all_have(tmp_path: Path) -> None:
    texts = [f"d{i}" for i in range(6)]
    first = read_run(write_run(tmp_path / "a", {"t": {"m": [0, 1, 2, 3, 4, 5]}}, documents=texts))
    second = read_run(
        write_run(tmp_path / "b", {"t": {"m": [50, 40, None, 20, 10]}}, documents=texts[:0:-1])
    )
    columns = [
        (run.tasks["t"].columns[("m", "none")], run.tasks["t"].pipelines["none"])  # type: ignore[index]  # as a MetricKey
        for run in (first, second)
    ]
    found = align(columns)
    assert found.dropped == 2  # d0 is only in the first, d3 has no number in the second
    assert sorted(map(tuple, found.values.T)) == [(1, 10), (2, 20), (4, 40), (5, 50)]
    assert align(columns[::-1]).values.tolist() == found.values[::-1].tolist()


# --- arms


def hf(name: str, revision: str = "") -> dict[str, Any]:
    extra = f",revision={revision}" if revision else ""
    return {"model": "hf", "model_args": f"pretrained={name},dtype=float32{extra}"}


def write_all(folder: Path, configs: dict[str, dict[str, Any]]) -> list[Any]:
    numbers = [0.0, 1.0, 2.0, 3.0]
    return [read_run(write_arm(folder / name, config, numbers)) for name, config in configs.items()]


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


# --- frontiers


def test_frontiers_are_runs_that_differ_in_one_weight(tmp_path: Path) -> None:
    def two(first: float, second: float) -> dict[str, Any]:
        return composite(
            "large-base", ("small-a", "small-base", first), ("small-b", "small-base", second)
        )

    runs = write_all(
        tmp_path, {"c": two(0.75, 0.25), "a": two(0.0, 1.0), "b": two(0.5, 0.5), "up": ARMS["up"]}
    )
    (found,) = find_frontiers(runs)
    (series,) = found.series
    assert [*series.points] == [(1, 0), (2, 0.5), (0, 0.75)]
    assert (found.axis, series.base) == ("α", "large-base")
    assert found.meaning == "weight of small-a; weight of small-b: 1 - α"
    assert find_frontiers(runs[:1]) == ()
    off = write_all(tmp_path / "off", {"d": two(0.9, 0.9)})
    assert find_frontiers([*runs, *off]) == ()  # not on one line
    half = composite("large-base", ("small-tuned", "small-base", 0.5))
    (single,) = find_frontiers(
        write_all(tmp_path / "one", {"half": half, "up": ARMS["up"], "down": ARMS["down"]})
    )
    assert single.values == (0.5, 1.0)
    assert single.meaning == "weight of small-tuned"
    twice = write_all(tmp_path / "twice", {"x": ARMS["up"], "y": ARMS["up"]})
    assert find_frontiers(twice) == ()


def test_any_value_of_the_recipe_is_an_axis_in_the_order_of_numbers(tmp_path: Path) -> None:
    def one(weight: float = 1.0, top_p: float | None = None, block: Any = "auto") -> dict[str, Any]:
        config = composite("large-base", ("small-tuned", "small-base", weight))
        config["eft_identity"]["weight_top_p"] = top_p
        config["eft_recipe"]["decoding"] = {"block": block, "sampling": "coupled"}
        return config

    for axis, configs, values in (
        ("α", [one(10.0), one(9.0), one(2.0, block=4)], (2.0, 9.0, 10.0)),
        ("weight_top_p", [one(), one(top_p=0.9), one(top_p=0.95)], (0.9, 0.95, 1.0)),
        ("block", [one(block=16), one(block=8), one(block=0), one()], (0.0, 8.0, 16.0, AUTO)),
        ("block", [one(), one(block=0)], (0.0, AUTO)),
        ("block", [one(), one(), one(block=0), one(block=10)], (0.0, 10.0)),
    ):
        named = {f"{axis}-{place}": config for place, config in enumerate(configs)}
        (found,) = find_frontiers(write_all(tmp_path, named))
        assert (found.axis, found.values) == (axis, values)


def test_a_grid_is_a_frontier_per_row_and_column(tmp_path: Path) -> None:
    configs = {}
    for weight in (0.5, 1.0):
        for block in (2, 8):
            config = composite("large-base", ("small-tuned", "small-base", weight))
            config["eft_recipe"]["decoding"] = {"block": block}
            configs[f"{weight}-{block}"] = config
    found = find_frontiers(write_all(tmp_path, configs))
    assert [(one.axis, one.values) for one in found] == [
        ("α", (0.5, 1.0)), ("α", (0.5, 1.0)), ("block", (2.0, 8.0)), ("block", (2.0, 8.0)),
    ]  # fmt: skip


def test_several_bases_are_lines_of_one_frontier(tmp_path: Path) -> None:
    configs = {
        f"{base}-{weight}": composite(base, ("small-tuned", "small-base", weight))
        for base in ("large-base", "small-other")
        for weight in (0.5, 1.0, 1.5)
    }
    del configs["small-other-1.0"]
    alone = {"alone": composite("large-third", ("small-tuned", "small-base", 0.5))}
    runs = write_all(tmp_path, {**configs, **alone})
    (found,) = find_frontiers(runs)
    assert {one.base: [point.value for point in one.points] for one in found.series} == {
        "large-base": [0.5, 1.0, 1.5], "small-other": [0.5, 1.5],
    }  # fmt: skip
    page = page_of(make_report(runs))
    assert [section.name for section in page.sections][:2] == ["frontiers", "scores"]
    (section,) = (one for one in page.sections if one.name == "frontiers")
    table, figure = section.blocks
    assert isinstance(table, Table)
    assert isinstance(figure, Figure)
    assert [column.head for column in table.columns] == [
        "metric", "base", "α = 0.5", "α = 1", "α = 1.5",
    ]  # fmt: skip
    assert table.rows[1][3].text == "–"
    (drawn, *_) = draw(figure)
    assert "large-base, α = 0.5" in drawn.text
    assert "small-other, α = 1.5" in drawn.text
    assert all(f">{name}</text>" in drawn.svg for name in ("large-base", "small-other"))
    assert '"strokeDash"' in drawn.spec
    assert '"shape"' in drawn.spec


def test_a_frontier_over_the_block_shows_the_speed(tmp_path: Path) -> None:
    configs = {}
    for block, speed in ((4, 40.0), ("auto", 200.0), (16, 160.5), (0, 10.0)):
        config = composite(
            "large-base", ("small-tuned", "small-base", 1.0),
            decoding={"requests": 1, "tokens": 10, "tokens_per_second": speed},
        )  # fmt: skip
        config["eft_recipe"]["decoding"] = {"block": block}
        configs[f"block-{block}"] = config
    page = page_of(make_report(write_all(tmp_path, configs)))
    (section,) = (one for one in page.sections if one.name == "frontiers")
    table = section.blocks[0]
    assert isinstance(table, Table)
    rows = {row[0].text: [cell.text for cell in row[1:]] for row in table.rows}
    assert rows["tokens per second"] == ["10.0", "40.0", "160.5", "200.0"]
    heads = [column.head for column in table.columns]
    assert heads[1:] == ["block = 0", "block = 4", "block = 16", "block = auto"]
    assert "16 is model (3), auto is model (2)." in table.note
    (figure,) = (block for block in section.blocks if isinstance(block, Figure))
    assert all("auto" not in panel.text and "inf" not in panel.text for panel in draw(figure))


def test_plain_decoding_against_chosen_blocks_is_a_table(tmp_path: Path) -> None:
    configs = {}
    for block in (0, "auto"):
        configs[f"block-{block}"] = composite("large-base", ("small-tuned", "small-base", 1.0))
        configs[f"block-{block}"]["eft_recipe"]["decoding"] = {"block": block}
    page = page_of(make_report(write_all(tmp_path, configs)))
    (section,) = (one for one in page.sections if one.name == "frontiers")
    (table,) = section.blocks
    assert isinstance(table, Table)
    assert [column.head for column in table.columns][1:] == ["block = 0", "block = auto"]


# --- flips


def test_flips_are_the_documents_that_changed_most(tmp_path: Path) -> None:
    before = [1.0, 1.0, 1.0, 1.0, 5.0, 0.0, 1.0, 1.0]
    after = [1.0, 9.0, 2.0, 1.0, 0.0, 0.0, 4.0, 0.0]
    texts = [f"response {i}" for i in range(8)]
    reasons = [f"reason {i}" for i in range(8)]
    old = read_run(write_arm(tmp_path / "old", ARMS["small"], before, responses=texts))
    new = read_run(write_arm(tmp_path / "new", ARMS["up"], after, responses=texts, reasons=reasons))
    report = make_report([old, new], flips=2)
    (found,) = report.flips
    assert found.worse == {"fact_errors": 3, "any_right": 0}
    assert found.better == {"fact_errors": 2, "any_right": 2}
    assert [flip.doc_id for flip in found.shown] == [1, 6, 4, 7]
    first = found.shown[0]
    assert first.candidate is not None
    (said,) = first.candidate.responses
    assert (said.text, said.characters) == ("response 1", 10)
    assert said.reason == ("scored", 9.0, "reason 1")
    changes = {one.metric: one for one in first.changes}
    assert changes["fact_errors"][1:] == (1.0, 9.0, -8.0, True)
    assert changes["any_right"].listed is False
    samples = new.tasks["facts"].samples_file
    assert samples is not None
    huge = samples.read_text("utf-8").replace('\\"value\\": 9.0', f'\\"value\\": {10**400}')
    samples.write_text(huge, "utf-8")
    beyond = make_report([old, new], flips=2).flips[0].shown[0].candidate
    assert beyond is not None
    assert beyond.responses[0].reason == ("scored", None, "reason 1")
    assert make_report([old, new], flips=0).flips == ()
    with pytest.raises(ConfigError, match="flips is -1"):
        make_report([old, new], flips=-1)


def test_flips_of_a_baseline_file_have_the_candidates_texts_alone(tmp_path: Path) -> None:
    from eft_eval.comparing import bless

    write_arm(tmp_path / "old", ARMS["small"], [0.0, 1.0] * 10)
    bless(tmp_path / "old", tmp_path / "base.json")
    new = read_run(write_arm(tmp_path / "new", ARMS["up"], [1.0, 1.0] * 10))
    report = make_report([read_run(tmp_path / "base.json"), new])
    (found,) = report.flips
    assert all(flip.baseline is None and flip.candidate is not None for flip in found.shown)
    assert "no texts" in report.notes[0]


def test_log_likelihood_responses_are_shown_as_lm_eval_wrote_them(tmp_path: Path) -> None:
    from stock_runs import run_dummy, write_tasks

    tasks = write_tasks(tmp_path / "tasks")
    runs = [
        read_run(run_dummy(tasks, tmp_path / name, random_seed=seed))
        for name, seed in (("a", 1), ("b", 2))
    ]
    report = make_report(runs)
    kinds = {found.task: found for found in report.flips if found.shown}
    for found in kinds.values():
        for flip in found.shown:
            assert flip.candidate is not None
            assert all(one.reason is None and one.text for one in flip.candidate.responses)
    assert report.runs[0].decoding is None
    assert report.runs[0].members == ()


def test_verdicts_that_do_not_fit_the_responses_are_not_put_beside_them(tmp_path: Path) -> None:
    from eft_eval.reporting.flips import _said
    from eft_eval.runs.records import Sample

    both = verdict(1, "one")[:-1] + "," + verdict(None, "", "abstained")[1:]
    sample = Sample(0, "f", {}, "p", "", (["a", "b"],), (both,), {}, ("", "", ""))
    said = _said(sample)
    assert said is not None
    assert [one.reason and one.reason.status for one in said.responses] == ["scored", "abstained"]
    three_verdicts = both[:-1] + "," + verdict(2, "again")[1:]
    repeated = _said(Sample(0, "f", {}, "p", "", (["a"],), (three_verdicts,), {}, ("", "", "")))
    assert repeated is not None
    assert repeated.responses[0].reason == ("scored", 1.0, "one")


# --- the record


def test_runs_that_cannot_be_compared_are_refused(tmp_path: Path) -> None:
    old = read_run(write_arm(tmp_path / "old", ARMS["small"], [0.0, 1.0] * 10))
    short = read_run(write_arm(tmp_path / "new", ARMS["up"], [1.0, 1.0]))
    with pytest.raises(ComparabilityError, match="lacks 18 document"):
        make_report([old, short])


def test_one_run_is_compared_with_nothing(tmp_path: Path) -> None:
    run = read_run(write_arm(tmp_path / "a", ARMS["small"], [0.0, 1.0] * 10))
    report = make_report([run])
    assert report.comparison is None
    assert report.main == ("facts/fact_errors,judge", "facts/any_right,judge")
    assert report.title == "model"


def test_settings_reach_the_gate(tmp_path: Path) -> None:
    old = read_run(write_arm(tmp_path / "old", ARMS["small"], [0.0, 1.0] * 10))
    new = read_run(write_arm(tmp_path / "new", ARMS["up"], [1.0, 1.0] * 10))
    report = make_report([old, new], GateSettings(tolerance=2.0, level=0.9))
    assert report.comparison is not None
    assert report.comparison.outcome == "pass"
    assert report.level == 0.9
    assert report.runs[0].scores[0].interval is not None
    assert report.runs[0].scores[0].interval.level == 0.9


def test_secrets_in_model_arguments_are_not_shown(tmp_path: Path) -> None:
    arguments = "pretrained=x,api_key=sk-123,hf_token=abc,base_url=http://localhost"
    config = {"model": "hf", "model_args": arguments}
    run = read_run(write_arm(tmp_path / "a", config, [0.0, 1.0]))
    shown = dict(facts_of(run))["model arguments"]
    assert "sk-123" not in shown
    assert "abc" not in shown
    assert shown.startswith("pretrained=x,api_key=(not shown),")


def test_making_a_report_loads_neither_torch_nor_lm_eval(tmp_path: Path) -> None:
    paths = study(tmp_path, 20)
    program = (
        "import sys; from eft_eval.cli.app import app; from typer.testing import CliRunner; "
        f"words = ['report', *{paths!r}, '--out', {str(tmp_path / 'r.html')!r}]; "
        "done = CliRunner().invoke(app, words); "
        "assert done.exit_code == 0, done.exception; "
        "bad = {'torch', 'lm_eval', 'transformers', 'datasets', 'pandas'} & set(sys.modules); "
        "print(sorted(bad))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
