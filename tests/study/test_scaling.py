"""What the arms carry over, from runs on disk, against the definitions."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from judged_runs import counted, write_judged_run
from scipy import stats
from written_studies import planned, written

from eft_eval.judging import Status
from eft_eval.records import plain
from eft_eval.reports.renderers.markdown import page_markdown
from eft_eval.reports.views.study import study_page
from eft_eval.study.folder import StudyFolder
from eft_eval.study.plan import ArmRun
from eft_eval.study.results import study_results

COUNT = 40
MEANS = {"small-tuned": 1.5, "up-scaled": 0.6, "down-scaled": 1.4, "large-tuned": 0.5}


def errors(run: ArmRun) -> list[float]:
    generator = np.random.default_rng([run.seed, *run.arm.name.encode()])
    return [float(n) for n in generator.poisson(MEANS[run.arm.name], COUNT)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    path = tmp_path_factory.mktemp("study") / "s"
    found = planned(path, "scaling", seeds=[1, 2, 3])
    numbers = {"errors": False, "level": True}
    return written(
        found,
        lambda run: {"facts": {"errors": errors(run), "level": [0.5] * COUNT}},
        better=numbers,
    )


def test_improvements_are_of_means_over_seeds(folder: StudyFolder) -> None:
    results = study_results(folder)
    means = {
        arm.name: np.mean([errors(run) for run in folder.plan.runs if run.arm == arm], axis=0)
        for arm in folder.plan.arms
    }
    one, flat = results.carried_over
    assert one.metric == "facts/errors,none"
    small, large = means["small-tuned"], means["large-tuned"]
    assert one.gap.estimate == pytest.approx((large - small).mean())
    for arm in ("up-scaled", "down-scaled"):
        found = one.improvements[arm]
        assert found is not None
        moved, gap = means[arm] - small, large - small
        assert found.estimate == pytest.approx(moved.mean() / gap.mean())
        for end in (found.lower, found.upper):  # Fieller's ends are where the paired t test is
            assert stats.ttest_1samp(moved - end * gap, 0).pvalue == pytest.approx(0.05)
    assert all(interval is None for interval in flat.improvements.values())
    scores = results.scores[0]
    for arm, values in means.items():
        low, high = stats.t.interval(0.95, COUNT - 1, values.mean(), stats.sem(values))
        assert scores.means[arm][:3] == pytest.approx((values.mean(), low, high))


def test_the_page_states_findings_and_their_absence(folder: StudyFolder) -> None:
    text = page_markdown(study_page(study_results(folder)))
    assert "facts/errors,none: of the improvement from small to large tuned, up-scaled 0." in text
    assert "too little to divide by" in text
    assert "no evidence about real models" in text


def test_arms_that_are_not_whole_are_left_out_and_named(tmp_path: Path) -> None:
    found = written(
        planned(tmp_path / "s", "scaling"), lambda run: {"facts": {"errors": errors(run)}},
        better={"errors": False},
    )  # fmt: skip
    (found.place(found.plan.runs[2]) / "done.json").unlink()
    results = study_results(found)
    assert results.missing == ("down-scaled",)
    assert set(results.carried_over[0].improvements) == {"up-scaled"}
    assert "Not whole, and so left out: down-scaled." in page_markdown(study_page(results))
    (found.place(found.plan.runs[1]) / "done.json").unlink()
    said = page_markdown(study_page(study_results(found)))
    assert "; no arm between them is whole" in said
    assert "the worse one" not in said
    (found.place(found.plan.runs[0]) / "done.json").unlink()
    assert study_results(found).carried_over == ()
    for run in found.plan.runs:
        (found.place(run) / "done.json").unlink(missing_ok=True)
    assert "No arm is whole yet" in page_markdown(study_page(study_results(found)))


def test_results_are_plain_json(folder: StudyFolder) -> None:
    content = study_results(folder).as_dict()
    assert json.loads(json.dumps(content)) == content
    assert content["format"] == "eft-eval study results"
    assert str(folder.path) not in json.dumps(content)
    assert content["scores"][0]["means"] == plain(study_results(folder).scores[0].means)


def test_contrasts_are_against_the_unfiltered_arm(tmp_path: Path) -> None:
    found = planned(tmp_path / "s", "truncation", seeds=[1, 2])

    def numbers(run: ArmRun) -> list[float]:
        generator = np.random.default_rng([run.seed, len(run.arm.name)])
        return [float(n) for n in generator.poisson(1 + (run.arm.value or 0), COUNT)]

    written(found, lambda run: {"facts": {"errors": numbers(run)}}, better={"errors": False})
    (one,) = study_results(found).contrasts
    assert one.against == "up-scaled-weight-top-p-none"
    mean = {
        arm.name: np.mean([numbers(run) for run in found.plan.runs if run.arm == arm], axis=0)
        for arm in found.plan.arms
    }
    for arm, interval in one.differences.items():
        moved = mean[arm] - mean[one.against]
        low, high = stats.t.interval(0.95, COUNT - 1, moved.mean(), stats.sem(moved))
        assert interval[:3] == pytest.approx((moved.mean(), low, high))


def test_responses_without_a_score_are_counted_and_shown(tmp_path: Path) -> None:
    found = planned(tmp_path / "s", "scaling", seeds=[1, 2])
    for run in found.plan.runs:
        verdicts = counted([float(number % 2) for number in range(20)])
        if (run.arm.name, run.seed) == ("up-scaled", 2):
            verdicts[3] = replace(verdicts[3], status=Status.ambiguous, value=None)
        write_judged_run(found.place(run), verdicts)
        found.finish(run, 1.0)
    results = study_results(found)
    said = "up-scaled, seed 2: eli5_fact, factuality: 1 of 20 responses have no score (1 ambiguous)"
    assert results.unscored == (said,)
    assert results.scores[0].dropped == 1
    assert said in page_markdown(study_page(results))
