"""Helpfulness and harm, corrected and compared; what is no label of them is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from judged_runs import (
    DATE,
    Run,
    counted,
    fails,
    hashes,
    items_in_order,
    write,
    write_judged_run,
    write_labels,
)

from eft_eval.agreement import correct_mean
from eft_eval.labels import Item, read_items

PERCENT: list[float | None] = [10, 80, None, 0, 100, 35, 5, 60, 20, 90] * 6
SAID = [20, 70, 10, 0, 100, 50, 0, 50, 10, 100] * 4


@pytest.fixture
def harm_run(tmp_path: Path) -> Path:
    """60 responses, judged for harm in percent."""
    return write_judged_run(tmp_path / "run", counted(PERCENT), task="hh_harm", measure="harm")


def table(path: Path, items: list[Item], values: list[Any], field: str = "value") -> Path:
    rows = [f"{item.item_id},bob,{field},{one}" for item, one in zip(items, values, strict=False)]
    return write(path, "item_id,annotator,field,value\n" + "\n".join(rows) + "\n")


def newest(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(sorted(folder.glob("results_*"))[-1].read_text("utf-8"))
    return found


def by_hand(labels: list[float]) -> tuple[float, float]:
    verdicts = np.array([np.nan if one is None else one / 100 for one in PERCENT])
    found = correct_mean(labels, verdicts[: len(labels)], verdicts[len(labels) :])
    return found.prediction_powered.estimate, found.standard_error


@pytest.mark.parametrize("kind", ["percent", "share", "words"])
def test_harm_is_corrected(run: Run, harm_run: Path, tmp_path: Path, kind: str) -> None:
    items = read_items(harm_run, measure="harm")[:40]
    shares = [one / 100 for one in SAID]
    given: list[Any] = {
        "percent": SAID,
        "share": shares,
        "words": ["Yes" if one > 0.4 else "no" for one in shares],
    }[kind]
    if kind == "words":
        shares = [float(one > 0.4) for one in shares]
    labels = table(tmp_path / "l.csv", items, given)
    assert run("correct", harm_run, "--labels", labels).code == 0
    found = newest(harm_run)
    entry = found["results"]["hh_harm"]
    estimate, error = by_hand(shares)
    assert entry["harm_ppi,harm"] == pytest.approx(estimate)
    assert entry["harm_ppi_stderr,harm"] == pytest.approx(error)
    assert found["higher_is_better"]["hh_harm"]["harm_ppi"] is False
    assert "fact_any_error_ppi" not in json.dumps(found)
    out = tmp_path / "a.json"
    compared = run("agree", "--run", harm_run, "--labels", labels, "--json", out)
    assert compared.code == 0, compared.err
    report = json.loads(out.read_text("utf-8"))
    assert report["corrected"][0]["metric"] == "harm"
    corrected = report["corrected"][0]["corrected"]["prediction_powered"]
    assert corrected["estimate"] == pytest.approx(estimate)
    assert (report["rule"], report["scale"]) == ("raw", "numeric")


def test_helpfulness_is_better_when_higher(run: Run, tmp_path: Path) -> None:
    folder = write_judged_run(
        tmp_path / "run", counted(PERCENT), task="hh_help", measure="helpfulness"
    )
    labels = table(tmp_path / "l.csv", read_items(folder, measure="helpfulness"), SAID)
    assert run("correct", folder, "--labels", labels, "--measure", "helpfulness").code == 0
    found = newest(folder)
    assert found["higher_is_better"]["hh_help"]["helpfulness_ppi"] is True
    fails(run("correct", folder, "--labels", labels, "--measure", "harm"), "is not judged for harm")


def test_a_judge_that_answers_in_shares_is_read_as_it_is(run: Run, harm_run: Path) -> None:
    """The demo's exact judge gives the metric itself, not percent."""
    path = harm_run / f"samples_hh_harm_{DATE}.jsonl"
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    for line in lines:
        if line["harm"] is not None:
            line["harm"] *= 100  # as the mean of the verdicts' values
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    values = [item.verdict_value for item in read_items(harm_run, measure="harm")]
    assert values == PERCENT
    labels = write(harm_run / "l.csv", "item_id,annotator,value\nx,a,1\n")
    for other in (77.0, 10**400):
        lines[0]["harm"] = other
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
        fails(run("correct", harm_run, "--labels", labels), "is not the mean of its verdicts")


def test_one_of_several_measures_is_chosen(run: Run, harm_run: Path, tmp_path: Path) -> None:
    """One task, three judges of the same responses."""
    facts = write_judged_run(tmp_path / "f", counted([0, 1, 2] * 20), task="hh_harm")
    for name in (f"results_{DATE}.json", f"samples_hh_harm_{DATE}.jsonl"):
        harm, fact = (harm_run / name).read_text("utf-8"), (facts / name).read_text("utf-8")
        if name.startswith("samples"):
            (harm_run / name).write_text(harm + fact, "utf-8")
        else:
            merged = json.loads(harm)
            merged["results"]["hh_harm"] |= json.loads(fact)["results"]["hh_harm"]
            (harm_run / name).write_text(json.dumps(merged), "utf-8")
    items = read_items(harm_run, measure="harm")
    assert [one.item_id for one in items] == [one.item_id for one in items_in_order(harm_run)]
    labels = table(tmp_path / "l.csv", items, SAID)
    assert run("correct", harm_run, "--labels", labels, "--measure", "harm").code == 0
    assert "harm_ppi,harm" in newest(harm_run)["results"]["hh_harm"]
    counts = write_labels(tmp_path / "c.csv", items[:40], {"a": [1.0, 0.0] * 20})
    assert run("correct", harm_run, "--labels", counts).code == 0
    entry = newest(harm_run)["results"]["hh_harm"]
    assert "fact_any_error_ppi,factuality" in entry
    assert "harm_ppi,harm" not in entry  # of the earlier correction


def test_what_is_no_label_of_harm(run: Run, harm_run: Path, tmp_path: Path) -> None:
    items = read_items(harm_run, measure="harm")
    before = hashes(harm_run)

    def refused(name: str, values: list[Any], *said: str, field: str = "value") -> None:
        path = table(tmp_path / f"{name}.csv", items, values, field)
        for command in (("correct", harm_run), ("agree", "--run", harm_run)):
            fails(run(*command, "--labels", path), *said)

    refused("big", [1, 200], "holds 200", "from 0 to 1")
    refused("small", [-1, 0], "holds -1")
    refused("mixed", [0.5, 70], "percent, or from 0 to 1?")
    refused("ratings", [1, 2, 3, 4, 5], "whole numbers from 1 to 5: percent, or a rating?")
    refused("few", [0, 2, 5], "and a column harm_percent holds percent")
    refused("words", ["bad", "good"], "--positive")
    refused("counts", [1, 2], "no label is of harm", field="error_count")
    good = table(tmp_path / "good.csv", items, SAID)
    arguments = ("agree", "--run", harm_run, "--labels", good)
    fails(run(*arguments, "--rule", "any-error"), "compared as it is")
    fails(run("agree", "--labels", good, "--measure", "harm"), "--run")
    assert hashes(harm_run) == before


def test_ratings_are_shares_by_the_users_map(run: Run, harm_run: Path, tmp_path: Path) -> None:
    items = read_items(harm_run, measure="harm")[:40]
    ratings = [1 + one // 25 for one in SAID]
    labels = table(tmp_path / "l.csv", items, ratings)
    shares = write(tmp_path / "m.yaml", "1: 0\n2: 0.25\n3: 0.5\n4: 0.75\n5: 1\n")
    assert run("correct", harm_run, "--labels", labels, "--map-labels", shares).code == 0
    estimate, _ = by_hand([(one - 1) / 4 for one in ratings])
    assert newest(harm_run)["results"]["hh_harm"]["harm_ppi,harm"] == pytest.approx(estimate)


def test_ratings_and_what_is_right_are_no_counts_of_errors(run: Run, tmp_path: Path) -> None:
    found = [0.0, 2.0, 1.0, 0.0, 0.0, 3.0, 0.0, 1.0] * 3
    folder = write_judged_run(tmp_path / "run", counted(found))
    items = items_in_order(folder)
    ratings = table(tmp_path / "r.csv", items, [1, 2, 3, 4, 5, 1] * 4)
    right = table(tmp_path / "c.csv", items, [float(one == 0) for one in found], "is_correct")
    turned = write(tmp_path / "m.yaml", "1: 0\n0: 1\n")
    for command in (("correct", folder), ("agree", "--run", folder)):
        fails(run(*command, "--labels", ratings), "none of 24 labels is 0, they are 1 to 5")
        fails(run(*command, "--labels", right), "is_correct seems to say what is right")
    out = tmp_path / "a.json"
    given = ("--labels", right, "--map-labels", turned, "--json", out)
    assert run("agree", "--run", folder, *given).code == 0
    report = json.loads(out.read_text("utf-8"))
    assert report["random_person"]["interval"]["estimate"] == 1.0
    for name, values in (
        ("not_correct", [float(one > 0) for one in found]),
        ("n_corrections", found),
        ("accuracy errors", [one + 1 for one in found]),  # every long answer has one
        ("true_label", found),
    ):
        labels = table(tmp_path / "w.csv", items, values, name)
        assert run("agree", "--run", folder, "--labels", labels).code == 0


def test_a_task_with_another_metric_is_refused(run: Run, harm_run: Path, tmp_path: Path) -> None:
    for path in list(harm_run.iterdir()):
        text = path.read_text("utf-8").replace('"harm', '"niceness').replace(',harm"', ',niceness"')
        path.write_text(text, "utf-8")
    labels = write(tmp_path / "l.csv", "item_id,annotator,value\nx,a,1\n")
    fails(run("correct", harm_run, "--labels", labels), "no task with samples")
    named = run("correct", harm_run, "--labels", labels, "--task", "hh_harm")
    fails(named, "counts no factual errors")


def test_labels_of_a_harm_run_are_checked_against_it(
    run: Run, harm_run: Path, tmp_path: Path
) -> None:
    labels = table(tmp_path / "l.csv", read_items(harm_run, measure="harm"), SAID)
    done = run("labels", "import", labels, "--key", harm_run, "--out", tmp_path / "saved.csv")
    assert done.code == 0
    assert "labels of 40 items" in done.out


def test_gold_is_of_errors_only(run: Run, harm_run: Path, tmp_path: Path) -> None:
    """Percent of harm are no counts of errors, also where the task is named."""
    labels = table(tmp_path / "l.csv", read_items(harm_run, measure="harm"), SAID)
    words = ("gold", "sample", harm_run, "--labels", labels, "--out", tmp_path / "g")
    for more in ((), ("--task", "hh_harm")):
        fails(run(*words, *more), "not judged for factuality; it is judged for harm")
    assert not (tmp_path / "g").exists()
