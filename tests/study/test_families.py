"""Ladders of more than two sizes, and averages over several families."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from typer.testing import CliRunner
from written_studies import planned, written

from eft_eval.cli.app import app
from eft_eval.errors import ConfigError
from eft_eval.reports.renderers.markdown import page_markdown
from eft_eval.reports.views.study_families import families_page
from eft_eval.statistics.fieller import mean_improvement, normalised_improvement
from eft_eval.study.averages import averages_of, check_families
from eft_eval.study.family import Family, parse_family
from eft_eval.study.folder import StudyFolder
from eft_eval.study.plan import ArmRun
from eft_eval.study.results import study_results

FOUR = {"small-base": "a/sb", "small-tuned": "a/st", "large-base": "a/lb", "large-tuned": "a/lt"}
LADDER = {
    **FOUR,
    "between": {"7b": {"base": "a/7b", "tuned": "a/7t"}, "13b": {"base": "a/13b"}},
}
COUNT = 40


def ladder(**changes: object) -> Family:
    return parse_family({**LADDER, **changes}, "a test", "ladder")


def test_a_ladder_has_an_arm_for_every_size_between(tmp_path: Path) -> None:
    plan = planned(tmp_path / "s", "scaling", family=ladder()).plan
    models = {arm.name: [spec.model for _, spec in arm.recipe.members] for arm in plan.arms}
    assert list(models) == [
        "small-tuned", "tuned-7b", "up-scaled-to-7b", "up-scaled-to-13b", "up-scaled",
        "down-scaled", "large-tuned",
    ]  # fmt: skip
    assert models["tuned-7b"][0] == "a/7t"
    assert models["up-scaled-to-7b"] == ["a/7b", "a/st", "a/sb"]
    assert models["up-scaled-to-13b"] == ["a/13b", "a/st", "a/sb"]
    own = {"small-tuned": {"base": "small-tuned"}, "large-tuned": {"base": "large-tuned"},
           "x": {"base": "13b-base", "tuned": "between-tuned", "reference": "between-base",
                 "weight": [0.5, 1]}}  # fmt: skip
    named = planned(tmp_path / "s", "scaling", family=ladder(), arms=own).plan
    assert [arm.name for arm in named.arms][2:] == ["x-7b-weight-0.5", "x-7b-weight-1"]
    only = {"x": {"base": "between-base"}}
    with pytest.raises(ConfigError, match="no size between small and large"):
        planned(tmp_path / "s", "weights", arms=only)


def test_a_size_needs_a_name_of_its_own() -> None:
    with pytest.raises(ConfigError, match="a name already"):
        ladder(between={"small": {"base": "a/x"}})
    with pytest.raises(ConfigError, match="unknown key"):
        ladder(between={"7b": {"base": "a/x", "tund": "a/y"}})


def test_every_rung_has_its_improvement(tmp_path: Path) -> None:
    folder = planned(tmp_path / "s", "scaling", family=ladder(), tasks="facts")
    mean = {"small-tuned": 2.0, "tuned-7b": 1.4, "up-scaled-to-7b": 1.2, "up-scaled-to-13b": 0.9,
            "up-scaled": 0.7, "down-scaled": 1.9, "large-tuned": 0.4}  # fmt: skip
    rows = {name: drawn(value, name) for name, value in mean.items()}
    written(folder, lambda run: {"facts": {"errors": rows[run.arm.name]}}, better={"errors": False})
    (one,) = study_results(folder).carried_over
    assert list(one.improvements) == [name for name in mean if not name.endswith("-tuned")]
    small, large = (np.mean(rows[name]) for name in ("small-tuned", "large-tuned"))
    for name, found in one.improvements.items():
        assert found is not None
        assert found.estimate == pytest.approx((np.mean(rows[name]) - small) / (large - small))


def drawn(mean: float, *salt: str) -> list[float]:
    generator = np.random.default_rng([*"".join(salt).encode()])
    return [float(n) for n in generator.poisson(mean, COUNT)]


MEANS = {
    "one": {"small-tuned": 2.0, "up-scaled": 1.0, "down-scaled": 1.9, "large-tuned": 0.5},
    "two": {"small-tuned": 3.0, "up-scaled": 2.0, "down-scaled": 2.0, "large-tuned": 1.0},
    "flat": {"small-tuned": 1.0, "up-scaled": 1.0, "down-scaled": 1.0, "large-tuned": 1.0},
}


def errors(run: ArmRun, family: str) -> list[float]:
    return drawn(MEANS[family][run.arm.name], family, run.arm.name, str(run.seed))


def studies(path: Path, *names: str) -> list[StudyFolder]:
    folders = []
    for name in names:
        family = parse_family(FOUR, "a test", name)
        folder = planned(path / name, "scaling", family=family, tasks="facts", seeds=[1, 2])
        numbers = {run.name: {"facts": {"errors": errors(run, name)}} for run in folder.plan.runs}
        written(folder, lambda run, numbers=numbers: numbers[run.name], better={"errors": False})
        folders.append(folder)
    return folders


def test_families_are_averaged_over_the_documents_that_they_share(tmp_path: Path) -> None:
    found = averages_of(studies(tmp_path, "one", "two", "flat"))
    (one,) = found.averages
    assert (one.families, one.left_out) == (("one", "two"), ("flat",))
    means = {
        (family, arm): np.mean([drawn(MEANS[family][arm], family, arm, seed) for seed in "12"], 0)
        for family in ("one", "two")
        for arm in MEANS["one"]
    }
    for arm in ("up-scaled", "down-scaled"):
        ratios, influence = [], np.zeros(COUNT)
        for family in ("one", "two"):
            small, large = means[family, "small-tuned"], means[family, "large-tuned"]
            moved, gap = means[family, arm] - small, large - small
            ratios.append(moved.mean() / gap.mean())
            influence += (moved - ratios[-1] * gap) / gap.mean() / 2
        low, high = stats.t.interval(0.95, COUNT - 1, np.mean(ratios), stats.sem(influence))
        assert one.improvements[arm][:3] == pytest.approx((np.mean(ratios), low, high))
    text = page_markdown(families_page(found))
    assert "on average over one, two (without flat: too little to divide by), up-scaled 0." in text
    content = found.as_dict()
    assert json.loads(json.dumps(content)) == content
    (nothing,) = averages_of(studies(tmp_path / "flat", "flat")).averages
    assert (nothing.families, nothing.improvements) == ((), {})


def test_a_family_that_is_not_whole_is_named(tmp_path: Path) -> None:
    folders = studies(tmp_path, "one", "two")
    for run in folders[1].plan.runs:
        (folders[1].place(run) / "done.json").unlink()
    found = averages_of(folders)
    assert (found.families, found.missing) == (("one",), ("two",))
    assert "left out: two" in page_markdown(families_page(found))
    assert found.left_out == ()
    for run in folders[0].plan.runs:
        (folders[0].place(run) / "done.json").unlink()
    assert "No family is whole yet" in page_markdown(families_page(averages_of(folders)))


def test_what_one_family_lacks_is_named(tmp_path: Path) -> None:
    folders = studies(tmp_path, "one", "two")
    (up,) = [run for run in folders[1].plan.runs if run.name == "up-scaled/seed-2"]
    (folders[1].place(up) / "done.json").unlink()
    found = averages_of(folders)
    assert [*found.averages[0].improvements] == ["down-scaled"]
    assert found.left_out == ("up-scaled is not averaged: two has no whole one",)
    assert f"{found.left_out[0]}." in page_markdown(families_page(found))
    for run in folders[1].plan.runs:
        for file in folders[1].place(run).glob("*/samples_*.jsonl"):
            text = file.read_text().replace('"doc_hash": "', '"doc_hash": "0')
            file.write_text(text)
        for file in folders[1].place(run).glob("*/results_*.json"):
            content = json.loads(file.read_text())
            del content["task_hashes"]
            file.write_text(json.dumps(content))
    apart = averages_of(folders)
    assert apart.averages == ()
    assert "facts/errors,none is not averaged: no document" in apart.left_out[-1]
    assert "no metric with documents in common" in page_markdown(families_page(apart))


def test_one_family_has_the_estimate_and_nearly_the_interval_of_its_ratio() -> None:
    generator = np.random.default_rng(2)
    three = generator.normal([[0], [0.6], [1]], 0.5, (3, 400))
    mean, ratio = mean_improvement([three]), normalised_improvement(*three)
    assert mean.estimate == pytest.approx(ratio.estimate)
    assert mean.lower == pytest.approx(ratio.lower, abs=0.01)
    assert mean.upper == pytest.approx(ratio.upper, abs=0.01)
    twice = np.repeat(three, 2, axis=1)
    assert mean_improvement([twice], np.repeat(np.arange(400), 2))[:3] == pytest.approx(mean[:3])


def test_the_average_is_covered() -> None:
    generator = np.random.default_rng(5)
    rates = np.array([[[2.0], [1.0], [0.5]], [[1.5], [1.2], [0.6]]])
    true = np.mean([(2 - 1) / 1.5, (1.5 - 1.2) / 0.9])
    for documents in (60, 256):
        hits = 0
        for _ in range(500):
            hard = generator.gamma(4, 0.25, documents)  # shared by all models
            found = mean_improvement([*generator.poisson(rates * hard).astype(float)])
            hits += found.lower <= true <= found.upper
        assert 0.925 <= hits / 500 <= 0.975


def test_families_that_cannot_be_averaged_are_one_line(tmp_path: Path) -> None:
    def plans(name: str, *families: Family):  # type: ignore[no-untyped-def]
        return [planned(tmp_path, name, family=family).plan for family in families]

    one, two = (parse_family(FOUR, "a test", name) for name in ("one", "two"))
    check_families(plans("scaling", one, two))
    with pytest.raises(ConfigError, match="two families are called 'one'"):
        check_families(plans("scaling", one, one))
    with pytest.raises(ConfigError, match="weights takes one family"):
        check_families(plans("weights", one, two))
    with pytest.raises(ConfigError, match="give --tasks"):
        check_families(plans("scaling", one, two.model_copy(update={"tasks": ("x",)})))
    check_families(plans("scaling", one, parse_family(FOUR, "a test", "a b")))
    done = CliRunner().invoke(app, ["study", "tokens", "--family", "demo,smollm2"])
    assert "tokens takes one family" in str(done.exception)


def test_averages_go_into_no_folder_with_other_things(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text("mine")
    words = ["study", "scaling", "--family", "demo,smollm2", "--tasks", "demo_fact", "--dry-run"]
    done = CliRunner().invoke(app, [*words, "--out", str(tmp_path)])
    assert "is not empty and holds no study" in str(done.exception)
    with planned(tmp_path / "demo", "scaling", tasks="demo_fact").held(lambda: None):
        pass
    done = CliRunner().invoke(app, [*words, "--seeds", "7", "--out", str(tmp_path)])
    assert "its seeds differ" in str(done.exception), "it goes on with the folder of these families"
