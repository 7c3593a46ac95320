"""The gate: outcomes of runs with known differences, groups and several candidates."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from careful_bounds import bounds, p_below
from gated_runs import BASE, compare, flipped, only_row, outcome_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stock_runs import run_dummy, write_tasks
from written_runs import STAMP, write_run

from eft_eval.comparing import (
    GateSettings,
    MetricSettings,
    Run,
    bless,
    compare_runs,
    read_run,
)
from eft_eval.errors import ComparabilityError


@pytest.mark.parametrize(
    ("down", "up", "tolerance", "expected"),
    [
        (0, 0, 0.0, "pass"),  # nothing changed
        (20, 0, 0.0, "regression"),
        (20, 0, 0.1, "regression"),
        (20, 0, 0.3, "pass"),  # surely worse, surely within the tolerance
        (3, 2, 0.0, "inconclusive"),
        (3, 2, 0.1, "pass"),
        (3, 2, 0.02, "inconclusive"),
        (12, 0, 0.13, "inconclusive"),  # surely worse, perhaps beyond the tolerance
        (0, 20, 0.0, "pass"),
        (2, 4, 0.0, "inconclusive"),
    ],
)
def test_three_outcomes(
    tmp_path: Path, down: int, up: int, tolerance: float, expected: str
) -> None:
    demands = GateSettings(tolerance=tolerance)
    assert outcome_of(tmp_path, flipped(BASE, down, up), demands)[0] == expected
    # a metric whose lower values are better is the same with the roles of 0 and 1 turned
    mirrored = {"t": {"err": [1.0 - value for value in flipped(BASE, down, up)]}}
    before = {"t": {"err": [1.0 - value for value in BASE]}}
    found = compare(tmp_path, before, mirrored, demands, better={"err": False})
    assert found.outcome == expected


def test_the_bounds_are_those_of_an_independent_reference(tmp_path: Path) -> None:
    after = flipped(BASE, 9, 2)
    row = only_row(compare(tmp_path, {"t": {"acc": BASE}}, {"t": {"acc": after}}))
    gains = np.array(after) - np.array(BASE)
    assert row.decision is not None
    assert row.decision.p_worse == row.decision.p_worse_holm == pytest.approx(p_below(gains))
    found = row.decision.lower, row.decision.upper
    assert found == pytest.approx(bounds(gains, 0.95))
    assert row.difference is not None  # the interval shown is t's
    student = scipy.stats.ttest_rel(after, BASE).confidence_interval(0.95)
    assert row.difference[1:3] == pytest.approx(tuple(student))
    assert row.baseline is not None
    assert row.baseline.interval is not None
    wilson = scipy.stats.binomtest(50, 100).proportion_ci(method="wilson")
    assert row.baseline.interval[1:3] == pytest.approx((wilson.low, wilson.high))


def test_a_count_that_is_0_or_1_everywhere_is_no_rate(tmp_path: Path) -> None:
    runs = [{"t": {"fact_errors": values}} for values in (BASE, flipped(BASE, 9, 2))]
    row = only_row(compare(tmp_path, *runs, better={"fact_errors": False}))
    assert row.baseline is not None
    assert row.baseline.interval is not None
    mean, error = float(np.mean(BASE)), float(scipy.stats.sem(BASE))
    expected = scipy.stats.t.interval(0.95, len(BASE) - 1, mean, error)
    assert row.baseline.interval[1:3] == pytest.approx(expected)


def test_a_counts_interval_never_goes_below_none(tmp_path: Path) -> None:
    few = [5.0] + [0.0] * 23
    row = only_row(
        compare(
            tmp_path,
            {"t": {"fact_errors": few}},
            {"t": {"fact_errors": few}},
            better={"fact_errors": False},
        )
    )
    for side in (row.baseline, row.candidate):
        assert side is not None
        assert side.interval is not None
        assert side.interval.lower == 0.0


def test_the_number_that_would_decide_does(tmp_path: Path) -> None:
    after = flipped(BASE, 7, 3)
    row = only_row(compare(tmp_path, {"t": {"acc": BASE}}, {"t": {"acc": after}}))
    assert row.decision is not None
    needed = row.decision.items_to_decide
    assert needed is not None
    assert f"{needed:,} documents would decide" in row.decision.reason
    more = math.ceil(needed / 100)
    found = compare(tmp_path, {"t": {"acc": BASE * more}}, {"t": {"acc": after * more}})
    assert found.outcome == "regression"


def test_inconclusive_fails_only_where_asked_and_passes_where_allowed(tmp_path: Path) -> None:
    after = flipped(BASE, 3, 2)
    assert outcome_of(tmp_path, after, GateSettings()) == ("inconclusive", 0)
    assert outcome_of(tmp_path, after, GateSettings(fail_on_inconclusive=True)) == (
        "inconclusive",
        3,
    )
    assert outcome_of(tmp_path, after, GateSettings(accept_inconclusive=True)) == ("pass", 0)
    bad = flipped(BASE, 20)
    assert outcome_of(tmp_path, bad, GateSettings(accept_inconclusive=True)) == ("regression", 1)


def test_a_drop_on_every_document_has_no_t_but_is_a_regression(tmp_path: Path) -> None:
    counts = {"t": {"errors": [0.0] * 8}}
    worse = {"t": {"errors": [2.0] * 8}}
    found = compare(tmp_path, counts, worse, better={"errors": False})
    decision = only_row(found).decision
    assert decision is not None
    assert (decision.outcome, decision.p_worse) == ("regression", 0.5**8)
    few = compare(
        tmp_path,
        {"t": {"errors": [0.0] * 3}},
        {"t": {"errors": [2.0] * 3}},
        better={"errors": False},
    )
    assert few.outcome == "inconclusive"


def test_one_document_decides_nothing(tmp_path: Path) -> None:
    found = compare(tmp_path, {"t": {"acc": [1.0]}}, {"t": {"acc": [0.0]}})
    assert found.outcome == "inconclusive"
    assert "worse by 1 on the one document that both runs scored" in found.candidates[0].sentence


def test_holm_counts_the_gated_metrics_alone(tmp_path: Path) -> None:
    after = flipped(BASE, 11, 4)
    alone = scipy.stats.ttest_rel(after, BASE, alternative="less").pvalue
    assert 0.025 < alone < 0.05
    tasks = {"t": {"acc": BASE, "other": BASE}}
    new = {"t": {"acc": after, "other": flipped(BASE, 1, 1)}}
    both = compare(tmp_path, tasks, new)
    assert both.outcome == "inconclusive"
    one = compare(tmp_path, tasks, new, GateSettings(gated=("t/acc",)))
    assert one.outcome == "regression"
    shown = [row for row in one.candidates[0].rows if row.decision is None]
    assert [row.metric for row in shown] == ["other"]


def test_missing_figures_are_regressions(tmp_path: Path) -> None:
    before = {"t": {"acc": BASE, "f1": BASE}, "u": {"acc": BASE}}
    found = compare(tmp_path, before, {"t": {"acc": BASE}})
    decisions = {row.name: row.decision for row in found.candidates[0].rows}
    assert {name: one and one.outcome for name, one in decisions.items()} == {
        "t/acc,none": "pass",
        "t/f1,none": "regression",
        "u/acc,none": "regression",
    }
    assert "it has no task 'u'" in found.candidates[0].sentence
    assert found.exit_code == 1
    with pytest.raises(ComparabilityError, match="they have no task in common"):
        compare(tmp_path, {"v": {"acc": BASE}}, {"w": {"acc": BASE}})
    none = compare(tmp_path, {"t": {"acc": BASE}}, {"t": {"acc": [None] * 100}})
    assert none.outcome == "regression"
    assert "none of 100 documents has a number" in none.candidates[0].sentence


def test_documents_without_a_number_are_left_out_and_counted(tmp_path: Path) -> None:
    before = [None, *BASE[1:]]
    after = [BASE[0], None, None, *BASE[3:]]
    shares = {"t_missing": [0.0] * 100}
    found = compare(tmp_path, {"t": {"acc": before, **shares}}, {"t": {"acc": after, **shares}})
    row = found.candidates[0].rows[0]
    assert (row.documents, row.dropped) == (97, 3)
    assert row.baseline is not None
    assert row.candidate is not None
    assert (row.baseline.missing, row.candidate.missing) == (1, 2)
    assert row.notes == (
        "3 of 100 documents left out: without a number in the baseline 1, in the candidate 2",
    )
    assert found.candidates[0].rows[1].decision is None, "shares are shown, not gated"


def test_several_samples_of_a_prompt_are_averaged_and_unequal_numbers_clustered(
    tmp_path: Path,
) -> None:
    generator = np.random.default_rng(0)
    before = generator.integers(0, 3, 60).astype(float).tolist()
    after = generator.integers(0, 3, 60).astype(float).tolist()
    prompts = [f"prompt {i // 4}" for i in range(60)]
    row = only_row(compare(tmp_path, {"t": {"m": before}}, {"t": {"m": after}}, prompts=prompts))
    assert (row.units, row.samples, row.clusters) == (15, 4, None)
    means = (np.array(after) - np.array(before)).reshape(15, 4).mean(axis=1)
    interval = scipy.stats.ttest_1samp(means, 0).confidence_interval(0.95)
    assert row.difference is not None
    assert row.difference[:3] == pytest.approx((means.mean(), interval.low, interval.high))
    uneven = ["prompt 0", *prompts[:-1]]
    row = only_row(compare(tmp_path, {"t": {"m": before}}, {"t": {"m": after}}, prompts=uneven))
    assert (row.units, row.samples, row.clusters) == (60, 1, 15)
    few = [f"prompt {i // 20}" for i in range(59)] + ["prompt 0"]
    row = only_row(compare(tmp_path, {"t": {"m": before}}, {"t": {"m": after}}, prompts=few))
    assert "3 clusters: an interval from fewer than 10 is rough" in row.notes


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(
    st.lists(st.integers(0, 3), min_size=3, max_size=30),
    st.integers(0, 99),
    st.sampled_from([1, 2, 7]),
    st.booleans(),
)
def test_swapping_baseline_and_candidate_turns_every_row_round(
    tmp_path: Path, before: list[int], seed: int, each: int, higher: bool
) -> None:
    after = np.random.default_rng(seed).permutation(before).tolist()
    prompts = [f"prompt {i // each}" for i in range(len(before))]
    runs = []
    for name, values in (("old", before), ("new", after)):
        folder = write_run(
            tmp_path / name,
            {"t": {"m": [float(value) for value in values]}},
            prompts=prompts,
            better={"m": higher},
        )
        runs.append(read_run(folder))
    there = only_row(compare_runs(runs[0], [runs[1]]))
    back = only_row(compare_runs(runs[1], [runs[0]]))
    assert there.difference is not None
    assert back.difference is not None
    assert there.difference.estimate == -back.difference.estimate
    assert there.difference.lower == pytest.approx(-back.difference.upper, nan_ok=True)
    assert there.test is not None
    assert back.test is not None
    assert there.test.p_value == back.test.p_value
    assert (there.baseline, there.candidate) == (back.candidate, back.baseline)
    assert there.decision is not None
    assert back.decision is not None
    p_values = there.decision.p_worse, back.decision.p_worse
    assert sum(p or 0 for p in p_values) >= 1 - 1e-9  # each is the more careful of two
    assert {there.decision.outcome, back.decision.outcome} != {"regression"}


# --- groups and several candidates ----------------------------------------------------------------


def test_groups_are_pooled_over_their_tasks(tmp_path: Path) -> None:
    tasks = write_tasks(tmp_path / "tasks", documents=40)
    old = read_run(run_dummy(tasks, tmp_path / "old", names=["sums"]))
    new = read_run(run_dummy(tasks, tmp_path / "new", names=["sums"], random_seed=9))
    found = compare_runs(old, [new], GateSettings(gated=("sums/acc",)))
    row = found.candidates[0].rows[0]
    assert (row.name, row.documents) == ("sums/acc,none", 80)
    parts = [r for r in found.candidates[0].rows if r.task != "sums" and r.metric == "acc"]
    assert len(parts) == 2
    assert row.difference is not None
    mean = sum(part.difference.estimate for part in parts if part.difference) / 2
    assert row.difference.estimate == pytest.approx(mean)
    assert row.candidate is not None
    assert row.candidate.mean == pytest.approx(new.groups["sums"].columns[("acc", "none")].reported)  # type: ignore[index]  # a MetricKey is this tuple


def test_groups_that_weigh_tasks_are_shown_as_reported(tmp_path: Path) -> None:
    tasks = {"t": {"acc": [1.0, 0.0]}, "u": {"acc": [1.0] * 8}}

    def run(name: str, value: float) -> Run:
        changes = {
            "groups": {"both": {"acc,none": value, "acc_stderr,none": "N/A"}},
            "group_subtasks": {"both": ["inner", "u"], "inner": ["t"]},
        }
        return read_run(write_run(tmp_path / name, tasks, changes=changes))

    by_task, pooled = run("by_task", 0.75), run("pooled", 0.9)
    assert pooled.groups["both"].tasks == ("t", "u")
    rows = compare_runs(by_task, [by_task]).candidates[0].rows
    (row,) = [row for row in rows if row.task == "both"]
    assert row.difference is None
    assert row.baseline is not None
    assert (row.baseline.reported, row.baseline.mean) == (0.75, None)
    assert "not the mean of one number per document" in row.notes[0]
    rows = compare_runs(pooled, [pooled]).candidates[0].rows
    assert [row.documents for row in rows if row.task == "both"] == [10]


def test_a_group_in_a_baseline_file_is_gated_as_in_its_run(tmp_path: Path) -> None:
    tasks = write_tasks(tmp_path / "tasks", documents=40)
    old = run_dummy(tasks, tmp_path / "old", names=["sums"])
    new = read_run(run_dummy(tasks, tmp_path / "new", names=["sums"], random_seed=9))
    bless(old, tmp_path / "baseline.json")
    demands = GateSettings(gated=("sums/acc",))
    rows = [
        compare_runs(read_run(one), [new], demands).candidates[0].rows[0]
        for one in (old, tmp_path / "baseline.json")
    ]
    assert rows[0].name == "sums/acc,none"
    assert rows[0] == rows[1]


def test_documents_that_the_tasks_of_a_group_share_are_clusters(tmp_path: Path) -> None:
    tasks = write_tasks(tmp_path / "tasks", documents=40)  # two tasks ask the same questions
    old = read_run(run_dummy(tasks, tmp_path / "old", names=["sums"]))
    new = read_run(run_dummy(tasks, tmp_path / "new", names=["sums"], random_seed=9))
    row = compare_runs(old, [new], GateSettings(gated=("sums/acc",))).candidates[0].rows[0]
    assert (row.documents, row.clusters, row.samples) == (80, 40, 1)
    parts = []
    for name in ("sums_choice", "sums_choice_again"):
        by_run = []
        for run in (old, new):
            task = run.tasks[name]
            column = task.columns[("acc", "none")]  # type: ignore[index]  # a MetricKey is this
            items = task.pipelines["none"].items
            by_run.append({i.doc_hash: v for i, v in zip(items, column.values, strict=True)})
        parts.append({doc: (by_run[1][doc] or 0) - (by_run[0][doc] or 0) for doc in by_run[0]})
    both = np.array([[part[doc] for doc in parts[0]] for part in parts])
    expected = scipy.stats.sem(both.mean(axis=0))
    assert row.standard_error == pytest.approx(expected)


def test_what_cannot_be_paired_cannot_be_gated(tmp_path: Path) -> None:
    tasks = {"t": {"acc": [1.0, 0.0]}, "u": {"acc": [1.0] * 8}}
    changes = {
        "groups": {"both": {"acc,none": 0.75, "acc_stderr,none": "N/A"}},
        "group_subtasks": {"both": ["t", "u"]},
    }
    by_task = read_run(write_run(tmp_path / "by_task", tasks, changes=changes))
    better = {"both/acc": MetricSettings(better="higher")}
    with pytest.raises(ComparabilityError, match=r"both/acc,none cannot be gated: the group's"):
        compare_runs(by_task, [by_task], GateSettings(gated=("both/acc",), metrics=better))
    # an aggregation that is no mean, and by chance equals it in one of the runs
    config = {"t": {"metric_list": [{"metric": "m", "aggregation": "def most(xs): ..."}]}}
    old = write_run(tmp_path / "old", {"t": {"m": [0.0] * 4}}, changes={"configs": config})
    results = {"t": {"m,none": 1.0}}
    new = write_run(
        tmp_path / "new",
        {"t": {"m": [0.0] * 3 + [1.0]}},
        changes={"configs": config, "results": results},
    )
    with pytest.raises(ComparabilityError, match=r"t/m,none cannot be gated: it is no mean of one"):
        compare_runs(read_run(old), [read_run(new)])


def test_a_median_is_no_mean_where_they_are_equal(tmp_path: Path) -> None:
    config = {"t": {"metric_list": [{"metric": "m", "aggregation": "median"}]}}
    run = read_run(write_run(tmp_path, {"t": {"m": [0.0] * 4}}, changes={"configs": config}))
    (column,) = run.tasks["t"].columns.values()
    assert not column.is_mean
    assert "m,none cannot be paired: it is no mean" in run.problems[0].text


def test_one_prompt_before_all_scored_texts_is_no_cluster(tmp_path: Path) -> None:
    tasks = write_tasks(tmp_path / "tasks", documents=40)
    file = tasks / "sums_choice.yaml"
    file.write_text(file.read_text().replace('doc_to_text: "{{question}}"', 'doc_to_text: ""'))
    old = read_run(run_dummy(tasks, tmp_path / "old", names=["sums_choice"]))
    new = read_run(run_dummy(tasks, tmp_path / "new", names=["sums_choice"], random_seed=9))
    items = old.tasks["sums_choice"].pipelines["none"].items
    assert len({item.prompt_hash for item in items}) == 1
    for row in compare_runs(old, [new]).candidates[0].rows:
        assert (row.units, row.documents, row.clusters) == (40, 40, None)
    bless(tmp_path / "old", tmp_path / "baseline.json")
    rows = compare_runs(read_run(tmp_path / "baseline.json"), [new]).candidates[0].rows
    assert [row.units for row in rows] == [40, 40]


def test_the_same_prompt_of_generated_texts_is_a_cluster(tmp_path: Path) -> None:
    before = {"t": {"m": [0.0, 1.0, 2.0, 3.0]}}
    row = only_row(compare(tmp_path, before, {"t": {"m": [1.0] * 4}}, prompts=["one"] * 4))
    assert (row.units, row.samples) == (1, 4)


def test_metrics_that_only_the_candidate_has_are_named(tmp_path: Path) -> None:
    found = compare(tmp_path, {"t": {"acc": BASE}}, {"t": {"acc": BASE, "new": BASE}})
    assert found.candidates[0].notes == ("only in the candidate, and not compared: t/new,none",)


@pytest.mark.parametrize("n", [3, 4, 6])
def test_few_documents_never_have_the_number_that_would_decide(tmp_path: Path, n: int) -> None:
    after = [-1.0] * (n - 1) + [-0.3]
    before, strict = {"t": {"s": [0.0] * n}}, GateSettings(alpha=0.0001)
    row = only_row(compare(tmp_path, before, {"t": {"s": after}}, strict))
    assert row.decision is not None
    assert row.decision.outcome == "inconclusive"
    assert row.decision.items_to_decide is not None
    assert row.decision.items_to_decide > n


def test_equal_documents_are_paired_in_their_order_and_lines_may_come_in_any(
    tmp_path: Path,
) -> None:
    documents = ["same"] * 3 + [f"other {i}" for i in range(9)]
    before = [0.0, 1.0, 2.0, *[5.0] * 9]
    after = [1.0, 1.0, 2.0, *[5.0] * 9]
    unhashed = {"task_hashes": {}}  # several ranks write their lines in another order
    runs = []
    for name, values in (("old", before), ("new", after)):
        folder = write_run(
            tmp_path / name, {"t": {"m": values}}, documents=documents, changes=unhashed
        )
        runs.append(folder)
    file = runs[1] / f"samples_t_{STAMP}.jsonl"
    file.write_text("".join(reversed(file.read_text().splitlines(keepends=True))))
    row = only_row(compare_runs(read_run(runs[0]), [read_run(runs[1])]))
    assert row.documents == 12
    assert row.test is not None
    assert (row.test.higher, row.test.lower) == (1, 0)


def test_several_candidates_and_the_worst_outcome(tmp_path: Path) -> None:
    runs = [
        read_run(write_run(tmp_path / name, {"t": {"acc": values}}))
        for name, values in (("a", BASE), ("b", BASE), ("c", flipped(BASE, 20)))
    ]
    found = compare_runs(runs[0], runs[1:])
    assert [one.outcome for one in found.candidates] == ["pass", "regression"]
    assert (found.outcome, found.exit_code) == ("regression", 1)
