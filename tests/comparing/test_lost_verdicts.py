"""A judge that loses verdicts: what is missing is counted, and never lets a worse model pass."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from careful_bounds import bounds, careful_error
from judged_runs import counted, make_verdict, write_judged_run
from lossy_runs import judged_run, lost_of, two_models
from written_runs import write_run

from eft_eval.comparing import (
    Comparison,
    GateSettings,
    Row,
    bless,
    compare_runs,
    read_run,
)
from eft_eval.comparing.gate import Gated, decide, decide_all
from eft_eval.errors import ComparabilityError
from eft_eval.judging import Status
from eft_eval.reports.ci.forms import FORMS
from eft_eval.statistics.document_planning import detectable_effect
from eft_eval.statistics.paired import paired_difference

BASE = [0, 2, 1, 0, 0, 3, 0, 1, 1, 0] * 4
LOST = {
    Status.api_error: "missing",
    Status.refused: "refused",
    Status.malformed: "unreadable",
    Status.truncated: "unreadable",
    Status.ambiguous: "unreadable",
    Status.out_of_range: "unreadable",
}


def verdicts(values: list[int], lost: dict[int, Status]) -> list[Any]:
    return [
        make_verdict(None, lost[i]) if i in lost else make_verdict(value)
        for i, value in enumerate(values)
    ]


def compare(tmp_path: Path, new: list[Any], old: Any = None, demands: Any = None) -> Comparison:
    runs = [
        read_run(write_judged_run(tmp_path / name, found))
        for name, found in (("old", old or counted(BASE)), ("new", new))
    ]
    return compare_runs(runs[0], runs[1:], demands)


def row_of(found: Comparison, metric: str) -> Row:
    (row,) = [row for row in found.candidates[0].rows if row.metric == metric]
    return row


@pytest.mark.parametrize("status", LOST)
def test_a_judge_that_dies_in_mid_run_never_passes(tmp_path: Path, status: Status) -> None:
    """33 of 40 responses without a score, the others as before: exit code 3, in every form."""
    lost = dict.fromkeys(range(7, 40), status)
    for demands in (GateSettings(), GateSettings(accept_inconclusive=True, tolerance=0.5)):
        found = compare(tmp_path, verdicts(BASE, lost), demands=demands)
        assert (found.outcome, found.exit_code) == ("inconclusive", 3)
        share = row_of(found, f"fact_{LOST[status]}").decision
        assert share is not None
        assert (share.outcome, share.incomplete, share.tolerance) == ("inconclusive", True, 0.05)
        assert "82.5 % of 40 responses" in share.reason
        for form, render in FORMS.items():
            assert "82.5 %" in " ".join(render(found).split()), form
        assert '<failure message="inconclusive"' in FORMS["junit"](found)
        assert "::error title=inconclusive%3A eli5_fact/fact_" in FORMS["github"](found)


def test_all_lost_is_no_regression_and_no_pass(tmp_path: Path) -> None:
    found = compare(tmp_path, verdicts(BASE, dict.fromkeys(range(40), Status.api_error)))
    assert (found.outcome, found.exit_code) == ("inconclusive", 3)
    reason = row_of(found, "fact_any_error").decision
    assert reason is not None
    assert "no document with a number in both runs: 40 scores are unknown" in reason.reason


@pytest.mark.parametrize("status", [Status.refused, Status.malformed, Status.abstained])
def test_runs_without_one_score_in_common_are_never_accepted(
    tmp_path: Path, status: Status
) -> None:
    """No share grew, as the baseline has no score either; still nothing was compared."""
    lost = verdicts(BASE, dict.fromkeys(range(40), status))
    for demands in (GateSettings(), GateSettings(accept_inconclusive=True, tolerance=0.5)):
        found = compare(tmp_path, lost, lost, demands)
        assert (found.outcome, found.exit_code) == ("inconclusive", 3)
        decision = row_of(found, "fact_any_error").decision
        assert decision is not None
        assert (decision.outcome, decision.incomplete) == ("inconclusive", True)
        assert "no document with a number in both runs" in decision.reason


@pytest.mark.parametrize("status", LOST)
def test_a_worse_model_whose_bad_answers_have_no_score_does_not_pass(
    tmp_path: Path, status: Status
) -> None:
    worse = [value or 1 for value in BASE]
    lost = {i: status for i, (old, new) in enumerate(zip(BASE, worse, strict=True)) if old != new}
    found = compare(tmp_path, verdicts(worse, lost))
    assert (found.outcome, found.exit_code) == ("inconclusive", 3)


def test_a_few_lost_verdicts_pass_only_at_their_worst(tmp_path: Path) -> None:
    """Within the accepted growth of the share the score's own bounds decide."""
    old, new = counted(BASE * 5), verdicts(BASE * 5, {0: Status.refused, 3: Status.refused})
    strict = compare(tmp_path, new, old)
    assert (strict.outcome, strict.exit_code) == ("inconclusive", 0)
    row = row_of(strict, "fact_any_error")
    assert row.bounds is not None
    assert row.bounds == pytest.approx((0.0, 2 / 200, 0, 2))
    assert row.decision is not None
    assert (
        "did not change on average where both are scored, but 2 scores are unknown, so the gain "
        "lies between -0.01 and +0" in row.decision.reason
    )
    mild = compare(tmp_path, new, old, GateSettings(tolerance=0.2))
    assert mild.outcome == "pass"
    passed = row_of(mild, "fact_any_error").decision
    assert passed is not None
    worst = np.zeros(200)
    worst[[0, 3]] = -1
    assert passed.lower == pytest.approx(bounds(worst, 0.95)[0])
    assert "were all 2 unknown scores the worst" in passed.reason


def test_a_count_without_limit_is_at_worst_the_largest_seen(tmp_path: Path) -> None:
    found = compare(tmp_path, verdicts(BASE, {0: Status.refused}))
    bounds = row_of(found, "fact_errors").bounds
    assert bounds is not None
    assert bounds == pytest.approx((0.0, 3 / 40, 0, 1))
    assert row_of(found, "fact_errors").difference is not None


def test_partly_scored_prompts_are_bounded_by_their_shares(tmp_path: Path) -> None:
    """Of three responses of a prompt one is refused and one abstained: half of it is unknown."""
    group = [make_verdict(1), make_verdict(None, Status.refused)]
    group.append(make_verdict(None, Status.abstained))
    others = counted([0, 0, 1] * 7)
    runs = [
        read_run(write_judged_run(tmp_path / name, found, repeats=3))
        for name, found in (("old", counted([1, 1, 1]) + others), ("new", group + others))
    ]
    bounds = row_of(compare_runs(runs[0], runs[1:]), "fact_any_error").bounds
    assert bounds is not None
    assert bounds == pytest.approx((-0.5 / 8, 0.0, 0, 1))


def test_shares_of_which_only_the_mean_is_known_bound_whole_documents() -> None:
    lost = [i in (0, 1) for i in range(40)]
    old, new = (
        judged_run(name, [0, 1] * 20, gone) for name, gone in (("old", [False] * 40), ("new", lost))
    )
    whole = row_of(compare_runs(old, [new]), "fact_any_error").bounds
    for key, column in new.tasks["t"].columns.items():
        if key.metric != "fact_any_error":
            new.tasks["t"].columns[key] = replace(column, values=(), is_mean=False)  # type: ignore[index]  # a dict here
    assert whole == (-1 / 40, 1 / 40, 0, 2)
    assert row_of(compare_runs(old, [new]), "fact_any_error").bounds == whole


def test_abstentions_are_answers_but_fewer_documents_do_not_pass(tmp_path: Path) -> None:
    new: list[Any] = [None, *BASE[1:]]
    found = compare(tmp_path, counted(new))
    assert (found.outcome, found.exit_code) == ("inconclusive", 0)
    back = compare(tmp_path, counted(BASE), counted(new))
    assert back.outcome == "pass"
    assert row_of(back, "fact_any_error").documents == 39


def test_a_regression_stands_with_all_unknown_at_their_best(tmp_path: Path) -> None:
    worse = [value + 2 for value in BASE]
    few = compare(tmp_path, verdicts(worse, {0: Status.refused}))
    assert (few.outcome, few.exit_code) == ("regression", 1)
    good_lost = {i: Status.refused for i, value in enumerate(BASE) if value == 0}
    many = compare(tmp_path, verdicts([value + 1 for value in BASE], good_lost))
    assert many.outcome != "pass"
    decision = row_of(many, "fact_any_error").decision
    assert decision is not None
    assert decision.outcome == "inconclusive"


def test_settings_change_what_is_accepted(tmp_path: Path) -> None:
    new = verdicts(BASE, dict.fromkeys(range(4), Status.api_error))
    assert compare(tmp_path, new).exit_code == 3
    wide = GateSettings(unscored_tolerance=0.2, most_missing=0.2)
    found = compare(tmp_path, new, demands=wide)
    assert (found.outcome, found.exit_code) == ("inconclusive", 0)
    only_growth = GateSettings(unscored_tolerance=0.2)
    assert compare(tmp_path, new, demands=only_growth).exit_code == 3
    gated = GateSettings(gated=("eli5_fact/fact_errors",))
    assert compare(tmp_path, new, demands=gated).exit_code == 3, "a list of scores keeps the guard"


def test_missing_in_the_baseline_counts_too(tmp_path: Path) -> None:
    lost = verdicts(BASE, dict.fromkeys(range(30), Status.api_error))
    found = compare(tmp_path, counted(BASE), lost)
    assert (found.outcome, found.exit_code) == ("inconclusive", 3)
    assert "75 % of 40 responses in the baseline have no verdict" in found.candidates[0].sentence


def test_bless_refuses_incomplete_runs_unless_allowed(tmp_path: Path) -> None:
    run = write_judged_run(
        tmp_path / "run", verdicts(BASE, dict.fromkeys(range(7, 40), Status.api_error))
    )
    with pytest.raises(ComparabilityError) as refused:
        bless(run, tmp_path / "b.json")
    for words in ("33 of 40 responses", "eft-eval judge", "--allow-incomplete"):
        assert words in str(refused.value)
    assert not (tmp_path / "b.json").exists()
    bless(run, tmp_path / "b.json", allow_incomplete=True)
    content = json.loads((tmp_path / "b.json").read_text())
    assert content["incomplete"] == {"eli5_fact, factuality": "33 of 40 responses have no verdict"}
    found = compare_runs(read_run(tmp_path / "b.json"), [read_run(run)])
    assert found.exit_code == 3
    assert "was blessed incomplete" in " ".join(found.candidates[0].notes)
    refused_only = write_judged_run(tmp_path / "other", verdicts(BASE, {3: Status.refused}))
    assert "incomplete" not in json.loads(bless_text(refused_only, tmp_path / "c.json"))


def bless_text(run: Path, out: Path) -> str:
    bless(run, out)
    return out.read_text("utf-8")


# --- what is said -------------------------------------------------------------------------------


def gated(values: Any, tolerance: float = 0.0, name: str = "m") -> Gated:
    return Gated(name, paired_difference(np.array(values)), len(values), tolerance, False)


@pytest.mark.parametrize(
    ("values", "tolerance", "said"),
    [
        ([-1.0] * 3 + [1.0] * 2 + [0.0] * 95, 0.0, "got worse by 0.01, which chance may explain"),
        ([1.0] * 3 + [-1.0] * 2 + [0.0] * 95, 0.0, "better by 0.01, but a drop is not ruled out"),
        ([1.0] * 2 + [-1.0] * 2 + [0.0] * 96, 0.0, "on average, but a drop is not ruled out"),
        (
            [-1.0] * 12 + [0.0] * 88,
            0.13,
            "more than chance explains, but a drop beyond the tolerance of 0.13 is neither shown",
        ),
        (
            [-1.0] * 3 + [1.0] * 2 + [0.0] * 95,
            0.02,
            "within the tolerance of 0.02, but a drop beyond it is not ruled out",
        ),
        (
            [-1.0] * 5 + [1.0] * 2 + [0.0] * 93,
            0.02,
            "which chance may explain: the tolerance is 0.02",
        ),
    ],
)
def test_what_is_open_is_said_as_it_is(values: Any, tolerance: float, said: str) -> None:
    (decision,) = decide([gated(values, tolerance)], 0.05)
    assert decision.outcome == "inconclusive"
    assert said in decision.reason
    error = careful_error(values)
    quantiles = scipy.stats.t.ppf(0.95, 99) + scipy.stats.t.ppf(0.8, 99)
    assert decision.detectable == pytest.approx(quantiles * error)
    assert f"100 documents find a drop of {decision.detectable:.2g} (power 80 %)" in decision.reason


@pytest.mark.parametrize("sign", [1, -1])
def test_a_change_by_rounding_alone_is_no_change(sign: int) -> None:
    values = sign * np.array([0.1, 0.2, -0.3] * 17)
    assert 0 < abs(values.mean()) < 1e-15
    (decision,) = decide([gated(values)], 0.05)
    assert decision.reason.startswith("m did not change on average, but a drop is not ruled out")


def test_a_regression_says_whether_it_is_surely_beyond_the_tolerance() -> None:
    (sure,) = decide([gated([-1.0] * 30 + [0.0] * 70, 0.1)], 0.05)
    assert "surely beyond the tolerance of 0.1" in sure.reason
    (seen,) = decide([gated([-1.0] * 12 + [0.0] * 88, 0.1)], 0.05)
    assert "beyond the tolerance of 0.1 and more than chance explains" in seen.reason


@pytest.mark.slow
def test_the_detectable_drop_is_found_with_its_power() -> None:
    drop = detectable_effect(79, 1 / math.sqrt(80), 0.05)
    draws = np.random.default_rng(3).normal(-drop, 1.0, (20_000, 80))
    t = draws.mean(axis=1) / (draws.std(axis=1, ddof=1) / math.sqrt(80))
    assert (t < scipy.stats.t.ppf(0.05, 79)).mean() == pytest.approx(0.8, abs=0.02)


def test_several_candidates_are_corrected_across_each_other(tmp_path: Path) -> None:
    """Twenty equal candidates: without correction one of them is nearly always called worse."""
    from statsmodels.stats.multitest import multipletests

    generator = np.random.default_rng(5)
    some = [[gated(generator.normal(-0.15, 1.0, 60), name=f"c{i}")] for i in range(20)]
    raw = [one.gain.p_below() for (one,) in some if one.gain]
    together = [one.p_worse_holm for (one,) in decide_all(some, 0.05)]
    rejected, adjusted, *_ = multipletests(raw, 0.05, method="holm")
    assert together == pytest.approx(adjusted.tolist())
    outcomes = [one.outcome == "regression" for (one,) in decide_all(some, 0.05)]
    assert outcomes == rejected.tolist()
    assert sum(p <= 0.05 for p in raw) > sum(outcomes)


def test_passes_of_several_candidates_are_corrected_too() -> None:
    gains = [gated([0.0] * 50 + [0.3] * m + [-0.1] * 2, 0.02) for m in (4, 5, 6)]
    alone = [decide([one], 0.05)[0] for one in gains]
    together = [one for (one,) in decide_all([[one] for one in gains], 0.05)]
    for one, many in zip(alone, together, strict=True):
        assert many.lower is not None
        assert one.lower is not None
        assert many.lower <= one.lower
    assert min(one.lower_level or 0 for one in together) >= 0.95


# --- simulated ------------------------------------------------------------------------------------

_SHARES = (0.0, 0.02, 0.04, 0.1, 0.3, 0.6)
_KINDS = ("random", "bad", "good")
_HOW = ("missing", "refused", "unreadable")
_TRUTHS = {  # drop, tolerance
    "equal": (0.0, 0.0),
    "equal, tolerance": (0.0, 0.05),
    "worse": (0.1, 0.0),
    "worse, tolerance": (0.15, 0.1),
}


def outcomes(
    truth: str, kind: str, share: float, replicates: int, *, both: bool = False, n: int = 100
) -> Counter[tuple[str, int]]:
    """Return how often the gate says what, on runs whose judge loses verdicts."""
    drop, tolerance = _TRUTHS[truth]
    generator = np.random.default_rng([_SHARES.index(share), _KINDS.index(kind)])
    found: Counter[tuple[str, int]] = Counter()
    demands = GateSettings(tolerance=tolerance)
    for number in range(replicates):
        old, new = two_models(generator, n, 0.3, drop)
        how = _HOW[number % 3]
        runs = [
            judged_run("old", old, lost_of(generator, old, share if both else 0.0, kind), how),
            judged_run("new", new, lost_of(generator, new, share, kind), how),
        ]
        one = compare_runs(runs[0], runs[1:], demands)
        found[one.outcome, one.exit_code] += 1
    return found


def rate(found: Counter[tuple[str, int]], outcome: str) -> float:
    return sum(count for (one, _), count in found.items() if one == outcome) / found.total()


def green(found: Counter[tuple[str, int]]) -> float:
    return sum(count for (_, code), count in found.items() if code == 0) / found.total()


@pytest.mark.parametrize("kind", _KINDS)
def test_a_lossy_judge_few_times(kind: str) -> None:
    for share in (0.04, 0.6):
        worse = outcomes("worse", kind, share, 20)
        equal = outcomes("equal", kind, share, 20)
        assert rate(worse, "pass") <= 0.15
        assert rate(equal, "regression") <= 0.15
        if share == 0.6:
            assert green(worse) == green(equal) == 0.0


@pytest.mark.slow
@pytest.mark.parametrize("kind", _KINDS)
@pytest.mark.parametrize("share", _SHARES)
def test_a_lossy_judge_makes_no_false_pass_and_no_false_alarm(share: float, kind: str) -> None:
    """2,000 times each; 5 % with three standard errors of a simulated rate is 6.5 %."""
    for truth in _TRUTHS:
        replicates = 500 if "tolerance" in truth else 2_000
        found = outcomes(truth, kind, share, replicates)
        wrong = "regression" if truth.startswith("equal") else "pass"
        assert rate(found, wrong) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / replicates), (truth, found)
        if share > 0.05:
            assert green(found) == 0.0, (truth, found)


@pytest.mark.slow
@pytest.mark.parametrize("kind", _KINDS)
def test_a_judge_that_loses_verdicts_of_both_runs(kind: str) -> None:
    for share in (0.04, 0.3):
        assert rate(outcomes("worse", kind, share, 500, both=True), "pass") <= 0.08
        assert rate(outcomes("equal", kind, share, 500, both=True), "regression") <= 0.08


@pytest.mark.parametrize(("before", "after", "code"), [(0, 3, 0), (0, 12, 3), (20, 21, 0)])
def test_responses_whose_reasoning_did_not_end_are_gated(
    tmp_path: Path, before: int, after: int, code: int
) -> None:
    files = []
    for name, count in (("old", before), ("new", after)):
        decoding = {"requests": 100, "unfinished": count, "unfinished_share": count / 100}
        changes = {"config": {"model": "eft", "eft_decoding": decoding}}
        files.append(write_run(tmp_path / name, {"t": {"acc": [1.0, 0.0] * 20}}, changes=changes))
    bless(files[0], tmp_path / "b.json")
    for old in (files[0], tmp_path / "b.json"):
        found = compare_runs(read_run(old), [read_run(files[1])])
        assert found.exit_code == code
        if code:
            assert "generation/unfinished: 12 % of 100 responses" in found.candidates[0].sentence
