"""`eft-eval gold`: the disagreement protocol of section 4.5, from files to files."""

from __future__ import annotations

import json
import math
import shlex
from pathlib import Path
from typing import Any

import pytest
from judged_runs import (
    Run,
    counted,
    fails,
    fill,
    items_in_order,
    write_judged_run,
    write_labels,
)

from eft_eval.agreement import gold_outcome_of_counts, mean_with_interval


def gold_project(run: Run, run_dir: Path, labels: Path, out: Path, *more: str) -> dict[str, Any]:
    done = run(
        *("gold", "sample", run_dir, "--labels", labels, "--out", out, "--format", "csv"), *more
    )
    assert done.code == 0, done.err
    assert f"{out}.gold-key.json" in done.out
    key: dict[str, Any] = json.loads(Path(f"{out}.gold-key.json").read_text("utf-8"))
    return key


def test_the_papers_protocol_through_the_commands(run: Run, tmp_path: Path) -> None:
    """100 responses, 61 agreements, 30 of 39 disagreements adjudicated, 23 side with the judge."""
    verdicts = [1.0] * 30 + [0.0] * 31 + [1.0] * 20 + [0.0] * 19
    people = [2.0] * 30 + [0.0] * 31 + [0.0] * 20 + [1.0] * 19
    run_dir = write_judged_run(tmp_path / "run", counted(verdicts))
    labels = write_labels(tmp_path / "l.csv", items_in_order(run_dir), {"crowd": people})
    agreed = run("agree", "--labels", labels, "--run", run_dir)
    assert "61.0 %" in agreed.out
    assert "± 4.90" in agreed.out
    assert "61 of 100, printed 61 %; by our formulas 61.0 % ± 4.90 (n-1)" in agreed.out

    out = tmp_path / "gold"
    key = gold_project(run, run_dir, labels, out)
    assert (key["disagreements"], key["agreements"], len(key["items"])) == (39, 61, 30)
    order = iter(range(30))

    def adjudicate(row: dict[str, str]) -> float:
        sides = key["items"][row["item_id"]]
        return float(sides["judge" if next(order) < 23 else "people"])

    fill(out / "labels.csv", out / "author.csv", adjudicate)
    path = tmp_path / "g.json"
    arguments = ("gold", "import", out, "--key", f"{out}.gold-key.json")
    done = run(*arguments, "--by", "two authors, a@b.org", "--json", path)
    assert done.code == 0
    found = json.loads(path.read_text("utf-8"))
    wanted = gold_outcome_of_counts(agreements=61, disagreements=39, with_judge=23, with_human=7)
    assert found["outcome"]["share"]["rate"] == 23 / 30
    assert round(found["outcome"]["share"]["standard_error"], 6) == 0.078540
    assert round(found["outcome"]["share"]["population_standard_error"], 6) == 0.077220
    assert found["outcome"]["finite_standard_error"] == wanted.finite_standard_error
    assert found["outcome"]["judge_accuracy"]["estimate"] == wanted.judge_accuracy.estimate
    assert found["paper"]["printed"] == "77 % ± 7.8 %"
    assert round(math.sqrt(0.77 * 0.23 / 29), 3) == 0.078
    assert (found["blind"], found["agreements_checked"]) == (True, False)
    assert found["adjudicated_by"] == "two authors, [e-mail]"
    for words in (
        "76.7 %",
        "± 7.85",
        "23 of 30, printed 77 % ± 7.8 % = √(0.77 · 0.23 / 29), n-1 of the rounded share",
        "finite-population factor 0.480",
        "implied accuracy of the judge",
        "no agreement was checked",
        "two authors, [e-mail] (G1), blind",
    ):
        assert words in done.out, words
    seen = run(*arguments, "--by", "one", "--no-blind")
    assert "NOT blind" in seen.out
    fails(run(*arguments, "--by", " "), "who adjudicated is blank")


def test_a_gold_project_tells_no_side(
    run: Run, run_dir: Path, labels: Path, tmp_path: Path
) -> None:
    out = tmp_path / "gold"
    key = gold_project(run, run_dir, labels, out, "--disagreements", "8", "--agreements", "4")
    drawn = list(key["items"].values())
    differ = [(one["judge"] > 0) != (one["people"] > 0) for one in drawn]
    assert (len(drawn), sum(differ)) == (12, 8)
    assert differ not in (sorted(differ), sorted(differ, reverse=True))  # shuffled
    project = json.loads((out / "key.json").read_text("utf-8"))
    assert project["about"] == {"random_sample": False}
    assert {"judge", "people"}.isdisjoint(next(iter(project["items"].values())))
    again = gold_project(
        run, run_dir, labels, tmp_path / "two", "--disagreements", "8", "--agreements", "4"
    )
    assert again == key
    arguments = ("gold", "sample", run_dir, "--labels", labels, "--out", tmp_path / "three")
    fails(run(*arguments, "--key", tmp_path / "three" / "k.json"), "where the adjudicator sees it")
    fails(run(*arguments, "--key", f"{out}.gold-key.json"), "belongs to another draw")
    assert not (tmp_path / "three").exists()
    # a folder in the way leaves no key behind
    fails(run(*arguments[:-1], out, "--key", tmp_path / "other.json"), "not empty")
    assert not (tmp_path / "other.json").exists()


def test_gold_labels_are_about_nothing_else(
    run: Run, run_dir: Path, labels: Path, tmp_path: Path
) -> None:
    """Labels on picked items must not pass for a random sample, wherever their file lies."""
    out = tmp_path / "gold"
    gold_project(run, run_dir, labels, out, "--disagreements", "9", "--agreements", "2")
    elsewhere = fill(out / "labels.csv", tmp_path / "filled.csv", lambda row: 1.0)
    for command in (("correct", run_dir, "--labels"), ("agree", "--run", run_dir, "--labels")):
        done = run(*command, elsewhere)
        fails(done, "a gold label on an item that was picked, not drawn at random")
    fill(out / "labels.csv", out / "mine.csv", lambda row: None)
    arguments = ("--key", f"{out}.gold-key.json", "--by", "me")
    fails(run("gold", "import", labels, *arguments), "no item has this id")
    fails(run("gold", "import", elsewhere, "--key", labels, "--by", "me"), "gold key")
    fails(run("gold", "import", elsewhere, "--key", out / "key.json", "--by", "me"), "is no gold")
    done = run("gold", "import", elsewhere, *arguments)
    assert done.code == 0
    assert "agreements checked: 2" in done.out
    unsure = run("gold", "import", out / "mine.csv", *arguments)
    assert "11 drawn, 11 of these without a gold label (0 tied, 11 unsure" in unsure.out
    two = run("gold", "import", elsewhere, out / "mine.csv", *arguments)
    assert two.code == 0


def test_gold_on_the_raw_scale_may_side_with_neither(run: Run, tmp_path: Path) -> None:
    verdicts, people = [2.0, 1, 3, 0, 4], [1.0, 2, 3, 1, 0]
    run_dir = write_judged_run(tmp_path / "run", counted(verdicts))
    labels = write_labels(tmp_path / "l.csv", items_in_order(run_dir), {"crowd": people})
    out = tmp_path / "gold"
    key = gold_project(run, run_dir, labels, out, "--rule", "raw", "--agreements", "1")
    assert (key["disagreements"], key["agreements"], key["rule"]) == (4, 1, "raw")
    sides = {name: (one["judge"], one["people"]) for name, one in key["items"].items()}
    gold = {(2, 1): 2.0, (1, 2): 2.0, (0, 1): 5.0, (4, 0): None, (3, 3): 3.0}
    fill(out / "labels.csv", out / "g.csv", lambda row: gold[sides[row["item_id"]]])
    path = tmp_path / "g.json"
    arguments = ("gold", "import", out, "--key", f"{out}.gold-key.json", "--by", "me")
    assert run(*arguments, "--json", path).code == 0
    outcome = json.loads(path.read_text("utf-8"))["outcome"]
    counts = [outcome[name] for name in ("with_judge", "with_human", "neither", "adjudicated")]
    assert counts == [1, 1, 1, 3]
    assert (outcome["agreements_checked"], outcome["agreements_right"]) == (1, 1)


def test_nothing_to_adjudicate(run: Run, tmp_path: Path) -> None:
    run_dir = write_judged_run(tmp_path / "run", counted([1, 0, 2]))
    labels = write_labels(tmp_path / "l.csv", items_in_order(run_dir), {"a": [3, 0, 1]})
    fails(
        run("gold", "sample", run_dir, "--labels", labels, "--out", tmp_path / "g"),
        "nothing to adjudicate: 0 disagreements in 3 items",
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["l.csv", "run"]


def test_gold_on_prompts_that_repeat_is_clustered_and_ties_are_counted(
    run: Run, tmp_path: Path
) -> None:
    verdicts = [1.0, 1.0, 0.0, 0.0] * 8
    run_dir = write_judged_run(tmp_path / "run", counted(verdicts), repeats=2)
    people = {"a": [0.0, 0.0, 1.0, 1.0] * 8, "b": [0.0, 0.0, 1.0, 0.0] * 8}
    labels = write_labels(tmp_path / "l.csv", items_in_order(run_dir), people)
    out = tmp_path / "gold"
    key = gold_project(run, run_dir, labels, out, "--disagreements", "24")
    assert (key["disagreements"], key["tied"]) == (24, 8)
    # gold says one thing of all responses to a prompt
    prompts = {name: one["cluster"] for name, one in key["items"].items()}
    with_judge = set(sorted(set(prompts.values()))[:9])

    def side(row: dict[str, str]) -> float:
        name = row["item_id"]
        return float(key["items"][name]["judge" if prompts[name] in with_judge else "people"])

    fill(out / "labels.csv", out / "carol.csv", side)
    report = tmp_path / "g.json"
    done = run(
        *("gold", "import", out, "--key", f"{out}.gold-key.json", "--by", "me", "--json", report)
    )
    assert done.code == 0, done.err
    found = json.loads(report.read_text("utf-8"))
    clustered = found["clustered"]
    sides = [float(prompts[name] in with_judge) for name in prompts]
    wanted = mean_with_interval(sides, list(prompts.values()))
    assert clustered["standard_error"] == pytest.approx(wanted.standard_error)
    assert clustered["clusters"] == len(set(prompts.values())) < 24
    assert clustered["standard_error"] > found["outcome"]["share"]["standard_error"]
    assert (found["people_tied"], found["adjudicators"]) == (8, ["G1"])
    assert "carol" not in report.read_text("utf-8") + done.out
    assert "clustered by prompt" in done.out
    assert "8 items on which people are tied" in done.out


def test_commands_that_are_printed_stay_in_one_line(run: Run, tmp_path: Path) -> None:
    run_dir = write_judged_run(tmp_path / "run", counted([0.0, 1.0] * 6))
    labels = write_labels(tmp_path / "l.csv", items_in_order(run_dir), {"ann": [1.0] * 12})
    out = tmp_path / ("a folder with " + "a long name " * 12).strip()
    done = run(
        *("gold", "sample", run_dir, "--labels", labels, "--out", out, "--format", "potato"),
    )
    assert done.code == 0
    following = [line for line in done.out.splitlines() if line.startswith(("next: ", "then: "))]
    assert len(following) == 2
    for line in following:
        words = shlex.split(line)
        assert str(out) in " ".join(words)
    assert following[1].endswith("--by WHO")
