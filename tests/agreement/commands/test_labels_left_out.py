"""What `correct` must not write, and what it must say of labels that it cannot use."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from judged_runs import JUDGE, Run, items_in_order, write, write_labels

from eft_eval.agreement import LabelReading
from eft_eval.agreement.answers import read_answers
from eft_eval.labels import Label, LabelSet, read_labels


def newest(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(max(folder.glob("results_*")).read_text("utf-8"))
    return found


def sheet(path: Path, run_dir: Path, answers: Sequence[tuple[str, str]]) -> Path:
    """Write both answers of one person: error_count and has_error."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["item_id", "annotator", "field", "value"])
        for item, given in zip(items_in_order(run_dir), answers, strict=False):
            for field, value in zip(("error_count", "has_error"), given, strict=True):
                if value:
                    writer.writerow([item.item_id, "bob", field, value])
    return path


def test_zero_and_one_are_no_numbers_of_errors(run: Run, run_dir: Path, tmp_path: Path) -> None:
    rows = [f"{one.item_id},bob,{i % 2}" for i, one in enumerate(items_in_order(run_dir)[:30])]
    labels = write(tmp_path / "l.csv", "item_id,annotator,value\n" + "\n".join(rows) + "\n")
    assert run("correct", run_dir, "--labels", labels).code == 0
    entry = newest(run_dir)["results"]["eli5_fact"]
    assert "fact_any_error_ppi,factuality" in entry
    assert not [name for name in entry if name.startswith("fact_errors_ppi")]
    # one 2 among them, and they are counts
    rows[0] = rows[0][:-1] + "2"
    write(labels, "item_id,annotator,value\n" + "\n".join(rows) + "\n")
    assert run("correct", run_dir, "--labels", labels).code == 0
    assert "fact_errors_ppi,factuality" in newest(run_dir)["results"]["eli5_fact"]


def test_an_earlier_correction_goes(run: Run, run_dir: Path, tmp_path: Path) -> None:
    items = items_in_order(run_dir)[:30]
    counts = write_labels(tmp_path / "c.csv", items, {"bob": [0.0, 1.0, 3.0] * 10})
    assert run("correct", run_dir, "--labels", counts).code == 0
    assert "fact_errors_ppi" in json.dumps(newest(run_dir)["configs"])
    choices = sheet(tmp_path / "h.csv", run_dir, [("", "yes"), ("", "no")] * 15)
    assert run("correct", run_dir, "--labels", choices).code == 0
    found = newest(run_dir)
    assert "fact_errors_ppi" not in json.dumps(found)
    assert "fact_any_error_ppi" in json.dumps(found["configs"])


def test_no_standard_error_of_zero(run: Run, run_dir: Path, tmp_path: Path) -> None:
    items = items_in_order(run_dir)[:30]
    labels = write_labels(tmp_path / "c.csv", items, {"bob": [0.0] * 30})
    assert run("correct", run_dir, "--labels", labels, "--power", "0").code == 0
    entry = newest(run_dir)["results"]["eli5_fact"]
    errors = [value for name, value in entry.items() if "_ppi_stderr" in name]
    assert errors
    assert all(value == "N/A" or value > 0 for value in errors)
    assert entry["fact_errors_ppi_stderr,factuality"] == "N/A"


ANSWERS = [("1", "yes"), ("0", "no"), ("2", "no"), ("0", "yes"), ("3", "unsure"), ("1", "")]


def test_contradictions_are_no_counts(run_dir: Path, tmp_path: Path) -> None:
    labels = read_labels(sheet(tmp_path / "l.csv", run_dir, ANSWERS))
    found = read_answers(labels, rule="raw")
    answers = dict(zip(found.item_ids, found.panel["A1"].tolist(), strict=True))
    order = [answers[one.item_id] for one in items_in_order(run_dir)[: len(ANSWERS)]]
    assert order == pytest.approx([1, 0, *[float("nan")] * 3, 1], nan_ok=True)
    assert (found.contradictory, found.unsure) == (2, 1)


def test_what_is_not_used_is_said(run: Run, run_dir: Path, tmp_path: Path) -> None:
    given = [ANSWERS[i % 6] for i in range(48)]
    labels = sheet(tmp_path / "l.csv", run_dir, given)
    with labels.open("a", encoding="utf-8") as file:
        file.write("gone,bob,error_count,1\n")
    out = tmp_path / "c.json"
    done = run("correct", run_dir, "--labels", labels, "--json", out)
    assert done.code == 0
    found = json.loads(out.read_text("utf-8"))
    assert found["metrics"][0]["unused"] == {"unsure": 8, "contradictory": 16, "tied": 0}
    assert "not used: 8 unsure, 16 contradictory, 1 dropped rows" in found["warnings"][0]
    assert "labels not used: 8 unsure, 16 contradictory" in done.out
    assert "no random sample" in " ".join(done.out.split())


def test_ties_are_counted_and_clean_labels_warn_of_nothing(
    run: Run, run_dir: Path, tmp_path: Path
) -> None:
    items = items_in_order(run_dir)[:40]
    people = {"a": [0.0, 2.0] * 20, "b": [0.0, 0.0, 1.0, 1.0] * 10}
    labels, out = write_labels(tmp_path / "l.csv", items, people), tmp_path / "c.json"
    assert run("correct", run_dir, "--labels", labels, "--json", out).code == 0
    found = json.loads(out.read_text("utf-8"))
    assert (found["warnings"], found["metrics"][0]["unused"]["tied"]) == ([], 0)
    command = ("correct", run_dir, "--labels", labels, "--people", "majority", "--json", out)
    assert run(*command).code == 0
    found = json.loads(out.read_text("utf-8"))
    assert found["metrics"][0]["unused"]["tied"] == 20
    assert found["metrics"][0]["corrected"]["labels"] <= 20
    assert found["metrics"][1]["unused"]["tied"] == 30  # of the counts
    assert "30 tied" in found["warnings"][0]


def test_the_case_of_words_is_no_difference() -> None:
    words = {"A1": ["Yes", "No", "YES"], "A2": ["yes", "no", "No"]}
    labels = LabelSet(
        tuple(
            Label(str(i), name, "safe", word, None, "")
            for name, given in words.items()
            for i, word in enumerate(given)
        )
    )
    found = read_answers(labels)
    assert found.words == ("no", "yes")
    assert {name: one.tolist() for name, one in found.panel.items()} == {
        "A1": [1, 0, 1],
        "A2": [1, 0, 0],
    }
    positive = read_answers(labels, LabelReading(positive="YES"))
    assert positive.panel["A1"].tolist() == [1, 0, 1]


def test_codes_and_amounts(run: Run, tmp_path: Path) -> None:
    rows = [f"i{i},{who},{(i + k) % 3}" for i in range(9) for k, who in enumerate("ab")]
    labels = write(tmp_path / "l.csv", "item_id,annotator,value\n" + "\n".join(rows) + "\n")
    out = tmp_path / "a.json"

    def metrics(*more: str) -> tuple[list[str], str]:
        done = run("agree", "--labels", labels, "--json", out, *more)
        assert done.code == 0, done.err
        found = json.loads(out.read_text("utf-8"))
        return [one["metric"] for one in found["alpha"]], " ".join(found["warnings"])

    guessed, said = metrics()
    assert "read as amounts" in said
    amounts, said = metrics("--scale", "numeric")
    assert "read as amounts" not in said
    assert guessed == amounts == ["nominal", "ordinal", "interval"]
    codes, said = metrics("--scale", "nominal")
    assert codes == ["nominal"]
    assert "read as amounts" not in said


def test_a_mix_for_a_finite_population_is_refused(run: Run) -> None:
    arguments = ("agree", "plan", "--half-width", "0.1", "--population", "500")
    assert run(*arguments).code == 0
    done = run(*arguments, "--correlation", "0.5")
    assert done.code == 2
    assert "leave out one of the two" in done.err


def test_a_wrong_judge_is_told_the_runs(run: Run, run_dir: Path, labels: Path) -> None:
    done = run("agree", "--run", run_dir, "--labels", labels, "--judge", "judge-2")
    assert done.code == 2
    assert f"the run's judge: {JUDGE}" in done.err
    assert run("agree", "--run", run_dir, "--labels", labels, "--judge", JUDGE).code == 0


def test_few_items_and_independence_are_said(run: Run, run_dir: Path, tmp_path: Path) -> None:
    labels = write_labels(tmp_path / "l.csv", items_in_order(run_dir)[:12], {"bob": [0.0, 1.0] * 6})
    out = " ".join(run("agree", "--run", run_dir, "--labels", labels).out.split())
    assert "figures from fewer than 30 are rough" in out
    assert "take items as independent" in out
    assert "(clustered)" in out
    assert "nan" not in out
    assert "verdicts alone, over responses" in out
