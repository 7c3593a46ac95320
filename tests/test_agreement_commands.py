"""`eft-eval labels`, `agree`, `gold` and `correct` on a judged run, from files to files."""

from __future__ import annotations

import csv
import hashlib
import itertools
import json
import math
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from judged_runs import DATE, JUDGE, counted, items_in_order, write_judged_run, write_labels

from eft_eval.agreement import correct_mean, gold_outcome_of_counts, pair_agreement
from eft_eval.agreement.labels import read_labels
from eft_eval.cli import main


class Done(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Done]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command of eft-eval in this process."""

    def call(*arguments: str | Path) -> Done:
        monkeypatch.setattr(sys, "argv", ["eft-eval", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        captured = capsys.readouterr()
        return Done(code, captured.out, captured.err)

    return call


def fails(done: Done, *said: str) -> None:
    """Check for exit code 2 and one clear line that has these words."""
    assert done.code == 2, done
    assert done.err.count("\n") == 1
    assert done.err.startswith("eft-eval: error: ")
    for words in said:
        assert words in done.err


def hashes(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


VERDICTS = [0, 2, 1, 0, None, 3, 0, 1, 1, 0, 2, 0] * 5
PEOPLE: dict[str, Sequence[float | None]] = {
    "jane@example.com": [0, 1, 1, 1, 2, 0, 0, 1, 0, 0, 4, 0] * 5,
    "bob": [0, 2, 0, 1, 0, 0, 0, None, 0, 1, 1, 0] * 5,
    "carol": [0, 1, 1, 0, 1, 2, 0, 1, 1, 0, 2, 1] * 5,
}


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """60 responses to 30 prompts, 5 without a score."""
    return write_judged_run(tmp_path / "run", counted(VERDICTS), repeats=2)


@pytest.fixture
def labels(tmp_path: Path, run_dir: Path) -> Path:
    """Three people's labels of the first 40 responses."""
    items = items_in_order(run_dir)[:40]
    return write_labels(
        tmp_path / "labels.csv", items, {name: given[:40] for name, given in PEOPLE.items()}
    )


# --- agree


def majority_of(item: int) -> float | None:
    votes = [given[item] for given in PEOPLE.values()]
    yes = sum(v > 0 for v in votes if v is not None)
    no = sum(v == 0 for v in votes if v is not None)
    return None if yes == no else float(yes > no)


def test_agree_prints_and_writes_everything(
    run: Run, run_dir: Path, labels: Path, tmp_path: Path
) -> None:
    before = hashes(run_dir)
    done = run("agree", "--labels", labels, "--run", run_dir, "--json", tmp_path / "a.json")
    assert (done.code, done.err) == (0, "")
    assert hashes(run_dir) == before
    found = json.loads((tmp_path / "a.json").read_text("utf-8"))

    # the pair, by the statistics on lists made by hand
    judge = [None if v is None else float(v > 0) for v in VERDICTS[:40]]
    prompts = [item // 2 for item in range(40)]
    wanted = pair_agreement([majority_of(i) for i in range(40)], judge, clusters=prompts)
    assert found["pair"]["table"] == [list(row) for row in wanted.table or ()]
    assert found["pair"]["agreement"]["rate"] == wanted.agreement.rate
    assert wanted.clustered is not None
    clustered = found["pair"]["clustered"]
    assert clustered["standard_error"] == pytest.approx(wanted.clustered.standard_error)
    assert found["clusters"] == 20
    assert found["counted"]["unscored"] == {"abstained": 3}
    assert found["counted"]["items"] == 40
    assert found["counted"]["unlabelled"] == 18
    assert found["counted"]["tied"] == sum(majority_of(i) is None for i in range(40))
    assert found["judge"] == JUDGE
    assert found["annotators"] == ["A1", "A2", "A3"]
    assert found["alternative"]["annotators"][0]["n"] >= 30
    assert [one["metric"] for one in found["corrected"]] == ["fact_any_error", "fact_errors"]
    for word in ("jane", "example", "bob", "carol"):
        assert word not in done.out + json.dumps(found)
    for words in (
        "√(p(1-p)/(n-1))",
        "Cohen's κ",
        "McNemar",
        "Krippendorff's α (nominal), people",
        "base rate: error, by judge-1",
        "baseline: always people's commonest answer",
        "not scored: 3 abstained",
        "61 of 100, printed 61 %",
        "winning rate ω",
        "prediction-powered",
        "Rogan–Gladen",
    ):
        assert words in done.out, words


def test_agree_takes_files_as_a_shell_gives_them(run: Run, run_dir: Path, tmp_path: Path) -> None:
    items = items_in_order(run_dir)
    files = [
        write_labels(tmp_path / f"{name}.csv", items, {name: given})
        for name, given in PEOPLE.items()
    ]
    at_once = run("agree", "--labels", *files, "--run", run_dir)
    one_by_one = run("agree", *(x for f in files for x in ("--labels", f)), "--run", run_dir)
    assert at_once.code == 0
    assert at_once == one_by_one
    fails(run("agree", "--labels", files[0], "plan", "--half-width", "0.1"), "not options of")


def test_agree_with_an_annotator_as_the_judge(run: Run, run_dir: Path, tmp_path: Path) -> None:
    items = items_in_order(run_dir)
    people = {**PEOPLE, "gpt-x": VERDICTS}
    path = write_labels(tmp_path / "l.csv", items, people)
    out = tmp_path / "a.json"
    done = run("agree", "--labels", path, "--judge", "gpt-x", "--json", out)
    assert done.code == 0
    found = json.loads(out.read_text("utf-8"))
    assert found["judge"] == "gpt-x"
    assert found["annotators"] == ["A1", "A2", "A3"]
    assert found["clusters"] is None  # no run and no key: prompts are not known
    judged = run("agree", "--labels", path, "--judge", "gpt-x", "--run", run_dir, "--json", out)
    assert judged.code == 0
    assert json.loads(out.read_text("utf-8"))["clusters"] == 30
    # the run's own judge by its name is the run's verdicts
    own = run("agree", "--labels", path, "--judge", JUDGE, "--run", run_dir)
    assert own == run("agree", "--labels", path, "--run", run_dir)
    assert run("agree", "--labels", path, "--judge", "jane@example.com").out.startswith("A")
    fails(run("agree", "--labels", path, "--judge", "nobody"), "'nobody'", "A1, A2, A3, A4")


def test_agree_on_the_raw_scale(run: Run, run_dir: Path, labels: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.json"
    done = run("agree", "--labels", labels, "--run", run_dir, "--rule", "raw", "--json", out)
    assert done.code == 0
    found = json.loads(out.read_text("utf-8"))
    assert [alpha["metric"] for alpha in found["alpha"]] == ["nominal", "ordinal", "interval"]
    assert found["pair"]["scale"]["quadratic"]["weights"] == "quadratic"
    assert found["ceiling"]["measure"] == "mean absolute error"
    assert found["paper"] is None
    for words in ("κ, quadratic weights", "Spearman", "α (interval)"):
        assert words in done.out


def test_agree_by_task(run: Run, tmp_path: Path) -> None:
    folder = write_judged_run(tmp_path / "run", counted(VERDICTS))
    results = json.loads((folder / f"results_{DATE}.json").read_text("utf-8"))
    for name in ("results", "configs"):
        results[name]["hh_fact"] = results[name]["eli5_fact"]
    (folder / f"results_{DATE}.json").write_text(json.dumps(results), "utf-8")
    samples = (folder / f"samples_eli5_fact_{DATE}.jsonl").read_text("utf-8")
    (folder / f"samples_hh_fact_{DATE}.jsonl").write_text(samples, "utf-8")
    items = items_in_order(folder)
    assert len(items) == 120
    path = write_labels(tmp_path / "l.csv", items, {"a": [*PEOPLE["carol"], *PEOPLE["carol"]]})
    out = tmp_path / "a.json"
    done = run("agree", "--labels", path, "--run", folder, "--json", out)
    found = json.loads(out.read_text("utf-8"))
    assert sorted(found["pair"]["strata"]) == ["eli5_fact", "hh_fact"]
    assert found["pair"]["strata"]["hh_fact"]["n"] == 55
    assert [one["task"] for one in found["corrected"]] == ["eli5_fact"] * 2 + ["hh_fact"] * 2
    assert found["clusters"] == 60  # the same question in both tasks
    assert "by stratum" in done.out
    alone = run("agree", "--labels", path, "--run", folder, "--task", "hh_fact", "--json", out)
    assert alone.code == 0
    found = json.loads(out.read_text("utf-8"))
    assert found["counted"]["items"] == 60
    assert found["counted"]["dropped"] == {"no item has this id": 60}
    assert found["pair"]["strata"] == {}


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


def test_agree_and_bad_files(run: Run, run_dir: Path, labels: Path, tmp_path: Path) -> None:
    items = items_in_order(run_dir)
    head = "item_id,annotator,value\n"
    fails(run("agree", "--run", run_dir), "--labels FILE")
    fails(run("agree", "--labels", tmp_path / "none.csv"), "none.csv")
    fails(run("agree", "--labels", write(tmp_path / "u.csv", "a,b\n1,2\n")), "unknown columns", "a")
    fails(run("agree", "--labels", write(tmp_path / "e.csv", "")), "no usable labels", "empty file")
    fails(run("agree", "--labels", write(tmp_path / "h.csv", head)), "no rows under the header")
    foreign = write(tmp_path / "f.csv", f"{head}x,a,1\ny,a,0\n")
    fails(run("agree", "--labels", foreign, "--run", run_dir), "2 × no item has this id")
    twice = f"{head}{items[0].item_id},a,1\n{items[0].item_id},a,0\n"
    fails(run("agree", "--labels", write(tmp_path / "t.csv", twice)), "2 × one annotator gave diff")
    fails(run("agree", "--labels", labels, "--run", labels), "is no folder")
    write_judged_run(tmp_path / "other", counted([1]))
    fails(run("agree", "--labels", labels, "--run", tmp_path), "the runs of several models")
    fails(run("agree", "--labels", labels, "--level", "95"), "level is 95")
    fails(run("agree", "--labels", labels, "--task", "eli5_fact"), "give the run with --run")
    fails(run("agree", "--labels", labels, "--json", labels), "choose another name")
    fails(run("agree", "--labels", labels, "--field", "error_counts"), "'error_count'")
    fails(run("agree", labels), "is no command of agree (plan)", "--labels FILE")
    nowhere = tmp_path / "nowhere" / "a.json"
    fails(run("agree", "--labels", labels, "--json", nowhere), "there is no folder")
    words = write(tmp_path / "w.csv", f"{head}{items[0].item_id},a,good\n")
    fails(run("agree", "--labels", words, "--run", run_dir), "--positive")

    # a BOM, mixed scales, e-mail addresses: counted and shown, nothing guessed
    rows = [f"{item.item_id},x@y.org,{i % 2}" for i, item in enumerate(items[:10])]
    rows += [f"{items[10].item_id},x@y.org,many", "gone,x@y.org,1"]
    marked = write(tmp_path / "b.csv", "\ufeff" + head + "\r\n".join(rows))
    done = run("agree", "--labels", marked, "--run", run_dir)
    assert done.code == 0
    assert "items with labels: 10" in done.out
    assert "rows not used: 1 × no item has this id" in done.out
    assert "1 × value: not on the scale of the field's other labels, which are numbers" in done.out
    assert "x@y" not in done.out
    assert "A1" in done.out


def test_agree_needs_verdicts(run: Run, tmp_path: Path) -> None:
    folder = write_judged_run(tmp_path / "run", counted([1, 0]))
    path = folder / f"samples_eli5_fact_{DATE}.jsonl"
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    for line in lines:
        line["metrics"], line["filtered_resps"] = ["bypass"], line["resps"][0]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    labels = write_labels(tmp_path / "l.csv", items_in_order(folder), {"a": [1, 0]})
    fails(run("agree", "--labels", labels, "--run", folder), "judge it first")
    fails(run("correct", folder, "--labels", labels), "judge it first")
    fails(run("gold", "sample", folder, "--labels", labels, "--out", tmp_path / "g"), "judge it")


def test_plans(run: Run) -> None:
    assert "92 labels" in run("agree", "plan", "--half-width", "0.1", "--rate", "0.61").out
    assert "366 labels" in run("agree", "plan", "--half-width", "0.05", "--rate", "0.61").out
    mixed = run(
        *("agree", "plan", "--half-width", "0.05", "--correlation", "0.8", "--label-cost", "1"),
        *("--verdict-cost", "0.01"),
    )
    assert "cheapest: " in mixed.out
    assert "saved" in mixed.out
    fails(run("agree", "plan", "--half-width", "0"), "half-width is 0")


# --- labels


def test_labels_out_and_in(run: Run, run_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "the project"
    arguments = ("labels", "export", run_dir, "--format", "csv", "--sample", "20", "--seed", "3")
    done = run(*arguments, "--out", out)
    assert done.code == 0
    assert f"20 of 60 responses of results_{DATE}.json (seed 3)" in done.out
    assert "eft-eval agree --run" in done.out
    everything = "".join(path.read_text("utf-8") for path in out.iterdir())
    assert JUDGE not in everything
    assert "fact_" not in everything.replace("eli5_fact", "")
    run(*arguments, "--out", tmp_path / "again")
    assert hashes(out) == hashes(tmp_path / "again")
    fails(run(*arguments, "--out", out), "not empty")
    fails(run(*arguments, "--out", tmp_path / "x", "--task", "eli_fact"), "'eli5_fact'")

    verdicts = dict(zip([i.item_id for i in items_in_order(run_dir)], VERDICTS, strict=True))
    for name in ("ann", "ben"):  # copies of the sheet, filled in, in its folder
        fill(out / "labels.csv", out / f"{name}.csv", lambda row: verdicts[row["item_id"]])
    for kind in ("csv", "json"):
        saved = tmp_path / f"all.{kind}"
        done = run("labels", "import", out, "--key", run_dir, "--out", saved)
        assert done.code == 0
        assert "labels of 20 items" in done.out
        found = run("agree", "--labels", saved, "--json", tmp_path / f"{kind}.json")
        assert found.code == 0
    first, second = (
        json.loads((tmp_path / f"{kind}.json").read_text("utf-8")) for kind in ("csv", "json")
    )
    assert first["clusters"] == second["clusters"]
    assert {**first, "sources": 0, "counted": 0} == {**second, "sources": 0, "counted": 0}
    direct = run("agree", "--labels", out, "--run", run_dir, "--json", tmp_path / "d.json")
    assert direct.code == 0
    same = json.loads((tmp_path / "d.json").read_text("utf-8"))
    assert same["alpha"] == first["alpha"]


def fill(sheet: Path, out: Path, answer: Callable[[dict[str, str]], float | None]) -> Path:
    """Fill in a copy of an exported sheet."""
    with sheet.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        if (value := answer(row)) is None:
            row["has_error"] = "unsure"
        else:
            row["error_count"] = f"{value:g}"
            row["has_error"] = "yes" if value else "no"
    with out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return out


def test_import_reports_every_row_it_cannot_use(run: Run, run_dir: Path, tmp_path: Path) -> None:
    items = items_in_order(run_dir)
    rows = [f"{items[0].item_id},a,1", f"{items[1].item_id},a,-3", "who?,a,1", ",a,1"]
    path = write(tmp_path / "l.csv", "item_id,annotator,error_count\n" + "\n".join(rows))
    done = run("labels", "import", path, "--key", run_dir, "--out", tmp_path / "o.csv")
    assert done.code == 0
    for row, reason in (
        (3, "error_count is not a count"),
        (4, "no item has this id"),
        (5, "no item id"),
    ):
        assert f"row {row}: {reason}" in done.out
        assert f"1 × {reason}" in done.out
    assert "o.dropped.csv" in done.out
    dropped = (tmp_path / "o.dropped.csv").read_text("utf-8")
    assert dropped.count("\n") == 4
    assert read_labels(tmp_path / "o.csv").labels[0].value == 1
    fails(run("labels", "import", path, "--out", path), "choose another name")
    only_bad = write(tmp_path / "bad.csv", "item_id,annotator,error_count\nx,a,-1\n")
    bad = run("labels", "import", only_bad, "--out", tmp_path / "n.csv")
    assert bad.code == 2
    assert "row 2: error_count is not a count" in bad.out
    assert "1 rows were dropped" in bad.err
    assert not (tmp_path / "n.csv").exists()
    fails(run("labels", "import", path, "--key", path, "--out", tmp_path / "n.csv"), "is no key")


def test_saved_labels_keep_what_is_known(run: Run, run_dir: Path, tmp_path: Path) -> None:
    """Texts, prompts and the way they were drawn go with the labels, so later checks still work."""
    out = tmp_path / "out"
    run("labels", "export", run_dir, "--format", "csv", "--sample", "10", "--out", out)
    fill(out / "labels.csv", out / "a.csv", lambda row: 1.0)
    run("labels", "import", out, "--out", tmp_path / "l.csv")
    rows = list(csv.DictReader((tmp_path / "l.csv").read_text("utf-8").splitlines()))
    assert {row["random_sample"] for row in rows} == {"yes"}
    assert {row["stratum"] for row in rows} == {"eli5_fact"}
    by_id = {item.item_id: item for item in items_in_order(run_dir)}
    for row in rows:
        assert row["text_sha256"] == by_id[row["item_id"]].text_sha256
        assert row["cluster"] == by_id[row["item_id"]].cluster
    text = (tmp_path / "l.csv").read_text("utf-8").replace(rows[0]["text_sha256"], "0" * 64)
    changed = write(tmp_path / "changed.csv", text)
    done = run("agree", "--labels", changed, "--run", run_dir)
    assert "2 × the labelled text is not the item's" in done.out


def test_pseudonyms_and_names_together_are_remarked(
    run: Run, run_dir: Path, labels: Path, tmp_path: Path
) -> None:
    run("labels", "import", labels, "--out", tmp_path / "l.csv")
    done = run("agree", "--labels", labels, tmp_path / "l.csv")
    assert "pseudonyms (A1, …) and names of annotators are mixed" in done.out
    assert "are mixed" not in run("agree", "--labels", tmp_path / "l.csv").out


# --- gold


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
        "two authors, [e-mail] (A1), blind",
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


# --- correct


def test_correct_writes_beside_the_old(
    run: Run, run_dir: Path, labels: Path, tmp_path: Path
) -> None:
    before = hashes(run_dir)
    done = run("correct", run_dir, "--labels", labels, "--json", tmp_path / "c.json")
    assert (done.code, done.err) == (0, "")
    after = hashes(run_dir)
    assert {name: after[name] for name in before} == before
    results, samples = sorted(after.keys() - before.keys())
    date = results.removeprefix("results_").removesuffix(".json")
    assert samples == f"samples_eli5_fact_{date}.jsonl"
    assert date > DATE
    assert after[samples] == before[f"samples_eli5_fact_{DATE}.jsonl"]

    new = json.loads((run_dir / results).read_text("utf-8"))
    old = json.loads((run_dir / f"results_{DATE}.json").read_text("utf-8"))
    entry = new["results"]["eli5_fact"]
    assert {k: v for k, v in entry.items() if "_ppi" not in k} == old["results"]["eli5_fact"]
    wanted = by_hand()
    assert entry["fact_any_error_ppi,factuality"] == pytest.approx(wanted.estimate)
    error = entry["fact_any_error_ppi_stderr,factuality"]
    assert error == pytest.approx(wanted.error)
    first = new["eft_corrected"]["metrics"][0]
    assert (first["task"], first["metric"]) == ("eli5_fact", "fact_any_error")
    interval = first["corrected"]["prediction_powered"]
    assert (interval["lower"], interval["upper"]) == pytest.approx(wanted.ends)
    assert first["by_majority"] is True  # three people: Rogan–Gladen takes the commonest answer
    assert first["corrected"]["rogan_gladen"] is not None
    assert new["eft_corrected"]["corrected_from"] == f"results_{DATE}.json"
    assert new["eft_corrected"] == json.loads((tmp_path / "c.json").read_text("utf-8"))
    assert new["higher_is_better"]["eli5_fact"]["fact_any_error_ppi"] is False
    assert "jane" not in (run_dir / results).read_text("utf-8")
    # the corrected run is a run: it can be read, compared and corrected again
    corrected = items_in_order(run_dir)
    assert {item.source.partition(",")[0] for item in corrected} == {samples}
    assert [one.verdict_value for one in corrected] == VERDICTS
    again = run("correct", run_dir, "--labels", labels)
    assert again.code == 0
    newest = json.loads(sorted(run_dir.glob("results_*"))[-1].read_text("utf-8"))
    assert newest["results"] == new["results"]
    assert newest["configs"] == new["configs"]


class ByHand(NamedTuple):
    estimate: float
    error: float
    ends: tuple[float, float]


def by_hand() -> ByHand:
    """Correct the any-error rate by the mean of people's labels, from the lists above."""
    shares = []
    for item in range(40):
        votes = [float(g[item] > 0) for g in PEOPLE.values() if g[item] is not None]  # type: ignore[operator]  # None is left out
        shares.append(float(np.mean(votes)))
    verdicts = [math.nan if v is None else float(v > 0) for v in VERDICTS]
    prompts = [i // 2 for i in range(60)]
    found = correct_mean(
        shares,
        verdicts[:40],
        verdicts[40:],
        clusters=prompts[:40],
        other_clusters=prompts[40:],
    )
    ends = found.prediction_powered[1:3]
    return ByHand(found.prediction_powered.estimate, found.standard_error, (ends[0], ends[1]))


def test_the_harness_prints_corrected_results(run: Run, run_dir: Path, labels: Path) -> None:
    from lm_eval.utils import make_table

    assert run("correct", run_dir, "--labels", labels, "--people", "majority").code == 0
    newest = json.loads(sorted(run_dir.glob("results_*"))[-1].read_text("utf-8"))
    table = make_table({**newest, "n-shot": {}})
    (line,) = [line for line in table.splitlines() if "fact_any_error_ppi" in line]
    value = newest["results"]["eli5_fact"]["fact_any_error_ppi,factuality"]
    assert f"{value:.4f}" in line
    assert newest["eft_corrected"]["metrics"][0]["by_majority"] is False


def test_a_judge_among_the_annotators_corrects_nothing(
    run: Run, run_dir: Path, tmp_path: Path
) -> None:
    items = items_in_order(run_dir)[:40]
    people = {name: given[:40] for name, given in PEOPLE.items()}
    alone = write_labels(tmp_path / "p.csv", items, people)
    mixed = write_labels(tmp_path / "m.csv", items, {**people, "gpt-x": VERDICTS[:40]})
    found = []
    for labels, more in ((alone, ()), (mixed, ("--judge", "gpt-x")), (mixed, ())):
        out = tmp_path / "c.json"
        assert run("correct", run_dir, "--labels", labels, *more, "--json", out).code == 0
        found.append(json.loads(out.read_text("utf-8")))
    assert found[0]["metrics"] == found[1]["metrics"] != found[2]["metrics"]
    assert found[1]["annotators"] == ["A1", "A2", "A3"]


def test_judging_again_drops_the_correction(
    run: Run,
    run_dir: Path,
    labels: Path,
    openai_server: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Labels corrected the old judge's verdicts; they say nothing of another's."""
    assert run("correct", run_dir, "--labels", labels).code == 0
    server = openai_server(lambda prompt, _=None: "Reason: checked.\n\nScore: 1")
    monkeypatch.setenv("EFT_JUDGE_BASE_URL", server.url)
    assert run("judge", run_dir).code == 0
    newest = json.loads(sorted(run_dir.glob("results_*"))[-1].read_text("utf-8"))
    assert newest["results"]["eli5_fact"]["fact_any_error,factuality"] == 1
    assert "ppi" not in json.dumps(newest)
    assert "eft_corrected" not in newest
    # the same labels correct the new verdicts
    assert run("correct", run_dir, "--labels", labels).code == 0


def test_a_persons_folder_is_not_named(run: Run, tmp_path: Path) -> None:
    store = {"instance_id_to_label_to_value": {"i": [[{"schema": "x", "name": "number"}, "1"]]}}
    path = tmp_path / "annotation_output" / "jane doe" / "user_state.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"user_id": "jane doe", **store}), "utf-8")
    done = run("agree", "--labels", path, "--json", tmp_path / "a.json")
    assert done.code == 0
    assert "jane" not in done.out + (tmp_path / "a.json").read_text("utf-8")


def test_correct_and_labels_that_cannot_correct(run: Run, run_dir: Path, tmp_path: Path) -> None:
    before = hashes(run_dir)
    items = items_in_order(run_dir)
    unscored = [item for item in items if item.verdict_value is None]
    path = write_labels(tmp_path / "l.csv", unscored, {"a": [1.0] * len(unscored)})
    fails(run("correct", run_dir, "--labels", path), "no labelled response has a score")
    head = "item_id,annotator,value\n"
    words = write(tmp_path / "w.csv", f"{head}{items[0].item_id},a,bad\n{items[1].item_id},a,ok\n")
    fails(run("correct", run_dir, "--labels", words), "--positive")
    good = write_labels(tmp_path / "g.csv", items[:20], {"a": [1.0, 0.0] * 10})
    fails(run("correct", run_dir, "--labels", good, "--power", "2"), "power is 2")
    fails(run("correct", run_dir), "--labels FILE")
    fails(run("correct", run_dir, "--labels", good, "--json", good), "choose another name")
    assert hashes(run_dir) == before
    done = run("correct", run_dir, "--labels", words, "--positive", "bad")
    assert done.code == 0
    assert "fact_any_error" in done.out
    assert "fact_errors" not in done.out


def test_a_failed_write_leaves_the_run_as_it_was(
    run: Run, run_dir: Path, labels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The results file comes last: without it there is no new run."""
    before = hashes(run_dir)
    real = Path.open

    def full(path: Path, mode: str = "r", *more: Any, **options: Any) -> Any:
        if "w" in mode and path.name.startswith(".results_"):
            raise OSError(28, "No space left on device")
        return real(path, mode, *more, **options)

    monkeypatch.setattr(Path, "open", full)
    fails(run("correct", run_dir, "--labels", labels), "No space left")
    monkeypatch.undo()
    after = hashes(run_dir)
    assert {name: after[name] for name in before} == before
    assert not [name for name in after if name.startswith("results_") and name not in before]


def test_the_commands_load_neither_torch_nor_lm_eval(run_dir: Path, labels: Path) -> None:
    code = (
        "import sys\n"
        f"sys.argv = ['eft-eval', 'agree', '--run', {str(run_dir)!r}]\n"
        f"sys.argv += ['--labels', {str(labels)!r}]\n"
        "from eft_eval.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "heavy = ('torch', 'lm_eval', 'openai', 'transformers', 'pandas', 'datasets')\n"
        "print('HEAVY', [m for m in heavy if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "HEAVY []"


# --- documentation, and size

PAGE = Path(__file__).parents[1] / "docs" / "agreement.md"


def test_the_pages_commands_and_options_exist(run: Run) -> None:
    text = PAGE.read_text("utf-8")
    lines = re.findall(r"^    eft-eval (.*)$", text, re.M)
    assert len(lines) >= 6
    for line in lines:
        words = shlex.split(line)
        options = {word for word in words if word.startswith("--")}
        command = list(itertools.takewhile(str.isalpha, words))
        printed = run(*command, "--help")
        assert printed.code == 0, line
        assert options <= set(re.findall(r"--[a-z-]+", printed.out)), line
    named = set(re.findall(r"`(--[a-z-]+)", text)) - {"--help"}
    commands = ("agree", "agree plan", "labels import", "labels export", "gold sample")
    helps = [run(*name.split(), "--help").out for name in (*commands, "gold import", "correct")]
    every = "".join(helps)
    assert named <= set(re.findall(r"--[a-z-]+", every))


def test_the_pages_notebook_runs() -> None:
    pandas = pytest.importorskip("pandas")
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.S)
    frame = pandas.DataFrame(
        {
            "jane": [1, 0, 2, 0],
            "bob": [0, 0, 1, 1],
            "judge": [1, 0, 1, None],
            "prompt": [1, 1, 2, 3],
        }
    )
    wide = frame.rename_axis("id").reset_index().drop(columns="prompt")
    long = wide.rename(columns={"judge": "gpt-4.1"}).melt("id", var_name="who", value_name="errors")
    names: dict[str, Any] = {"frame": frame, "long": long}
    exec(block, names)
    assert names["found"].judge == "gpt-4.1"
    assert names["found"].pair.n == 2  # one tie, one without a verdict


@pytest.mark.slow
def test_ten_thousand_items_and_five_annotators(tmp_path: Path) -> None:
    """The target is 10 s and 1 GiB; the time allowed here is for a machine with other work."""
    run_dir = write_judged_run(tmp_path / "run", counted([0, 1, 2, 0] * 2500))
    draw = np.random.default_rng(0)
    people = {f"p{i}": draw.integers(0, 3, 10_000).tolist() for i in range(5)}
    labels = write_labels(tmp_path / "l.csv", items_in_order(run_dir), people)
    command = ["agree", "--labels", str(labels), "--run", str(run_dir), "--rule", "raw"]
    start = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "eft_eval", *command], stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    assert usage.ru_utime + usage.ru_stime < 15
    assert time.monotonic() - start < 60
    assert usage.ru_maxrss < 2**20  # KiB
