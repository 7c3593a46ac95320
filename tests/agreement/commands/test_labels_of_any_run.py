"""`labels export` for any judged run, and what its sheets come back as."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from judged_runs import DATE, VERDICTS, Run, counted, fails, write_judged_run

from eft_eval.labels import read_items

PERCENT: list[float | None] = [10, 80, None, 0, 100, 35, 5, 60, 20, 90] * 2


def change(folder: Path, task: str, how: Callable[[dict[str, Any]], None]) -> Path:
    """Change every line of a task's samples file."""
    path = folder / f"samples_{task}_{DATE}.jsonl"
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    for line in lines:
        how(line)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return folder


def instructed(line: dict[str, Any]) -> None:
    """Give a document the field of AlpacaEval in place of a question."""
    line["doc"] = {"instruction": line["doc"]["question"], "generator": "x"}
    line["arguments"] = {"gen_args_0": {"arg_0": f"### {line['doc']['instruction']}"}}


def shown(folder: Path) -> list[str]:
    with (folder / "labels.csv").open(encoding="utf-8-sig", newline="") as file:
        return sorted(row["question"] for row in csv.DictReader(file))


def filled(sheet: Path, out: Path, column: str, value: Callable[[int], str]) -> Path:
    with sheet.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    with out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0]])
        writer.writeheader()
        writer.writerows({**row, "annotator": "jo", column: value(i)} for i, row in enumerate(rows))
    return out


QUESTIONS = sorted(f"Why is number {i} odd?" for i in range(60))


def test_the_question_is_what_the_judge_was_shown(run: Run, tmp_path: Path) -> None:
    folder = change(write_judged_run(tmp_path / "run", counted(VERDICTS)), "eli5_fact", instructed)
    results = folder / f"results_{DATE}.json"
    content = json.loads(results.read_text("utf-8"))
    step = content["configs"]["eli5_fact"]["filter_list"][0]["filter"][0]
    step |= {"prompt": "factuality_with_query", "query": "doc.instruction"}
    results.write_text(json.dumps(content), "utf-8")
    done = run("labels", "export", folder, "--format", "csv", "--out", tmp_path / "a")
    assert done.code == 0, done.err
    assert shown(tmp_path / "a") == QUESTIONS
    sheet = filled(tmp_path / "a" / "labels.csv", tmp_path / "jo.csv", "error_count", str)
    agreed = run("agree", "--labels", sheet, "--run", folder)
    assert "items with labels: 60" in agreed.out
    assert run("correct", folder, "--labels", sheet).code == 0


def test_map_says_where_the_question_is(run: Run, tmp_path: Path) -> None:
    folder = change(write_judged_run(tmp_path / "run", counted(VERDICTS)), "eli5_fact", instructed)
    export = ("labels", "export", folder, "--format", "csv")
    whole = run(*export, "--out", tmp_path / "whole")
    assert "60 responses stand under the whole prompt" in whole.out
    assert shown(tmp_path / "whole") == sorted(f"### {one}" for one in QUESTIONS)
    mapped = ("--map", "query=doc.instruction")
    done = run(*export, "--out", tmp_path / "a", *mapped)
    assert shown(tmp_path / "a") == QUESTIONS
    assert "--map query=doc.instruction" in done.out.splitlines()[-1]
    sheet = filled(tmp_path / "a" / "labels.csv", tmp_path / "jo.csv", "error_count", str)
    agreed = run("agree", "--labels", sheet, "--run", folder, *mapped)
    assert "items with labels: 60" in agreed.out
    assert (
        run("labels", "import", sheet, "--key", folder, "--out", tmp_path / "o.csv", *mapped).code
        == 0
    )
    assert run("correct", folder, "--labels", sheet, *mapped).code == 0
    fails(
        run(*export, "--out", tmp_path / "b", "--map", "query=doc.question"),
        "there is no 'doc.question'",
        "instruction, generator",
    )
    fails(run(*export, "--out", tmp_path / "b", "--map", "response=x"), "query=PATH")


def test_responses_that_never_came_are_counted(run: Run, tmp_path: Path) -> None:
    folder = write_judged_run(tmp_path / "run", counted(VERDICTS), repeats=2)

    def lost(line: dict[str, Any]) -> None:
        if line["doc_id"] < 3:
            line["resps"][0][0] = None
        if line["doc_id"] == 0:
            line["resps"][0][1] = None

    change(folder, "eli5_fact", lost)
    done = run("labels", "export", folder, "--format", "csv", "--out", tmp_path / "a")
    assert "4 responses never came (null) and are left out" in done.out
    assert "56 of 56 responses" in done.out
    assert "None" not in (tmp_path / "a" / "labels.csv").read_text("utf-8")
    items = read_items(folder)
    assert len(items) == 56
    assert [one.verdict_value for one in items][:2] == [VERDICTS[3], VERDICTS[5]]
    change(folder, "eli5_fact", lambda line: line.update(resps=[[None, None]]))
    fails(
        run("labels", "export", folder, "--out", tmp_path / "b"),
        "none of its 60 responses ever came",
    )


@pytest.mark.parametrize(("measure", "task"), [("helpfulness", "hh_help"), ("harm", "hh_harm")])
def test_the_questions_are_those_of_the_measure(
    run: Run, tmp_path: Path, measure: str, task: str
) -> None:
    folder = write_judged_run(tmp_path / "run", counted(PERCENT), task=task, measure=measure)
    for form in ("csv", "potato", "label-studio"):
        done = run("labels", "export", folder, "--format", form, "--out", tmp_path / form)
        assert done.code == 0, done.err
        assert f"for {measure}: " in done.out
        assert done.out.splitlines()[-1].endswith(f" --measure {measure}")
        files = [*(tmp_path / form).iterdir()]
        text = "".join(one.read_text("utf-8") for one in files if one.is_file())
        assert f"{measure}_percent" in text
        assert "error" not in text
    # labels of 0 and 1 are percent here, as the sheet asks for them
    sheet = filled(
        tmp_path / "csv" / "labels.csv",
        tmp_path / "jo.csv",
        f"{measure}_percent",
        lambda i: str(i % 2),
    )
    out = tmp_path / "a.json"
    assert run("agree", "--labels", sheet, "--run", folder, "--json", out).code == 0
    found = json.loads(out.read_text("utf-8"))
    assert found["field"] == f"{measure}_percent"
    assert found["raters"][0]["mean"] == pytest.approx(0.005)
    more = filled(
        tmp_path / "csv" / "labels.csv",
        tmp_path / "al.csv",
        f"{measure}_percent",
        lambda i: "101" if i else "5",
    )
    counts = run("labels", "import", more, "--out", tmp_path / "o.csv")
    assert f"19 × {measure}_percent is not from 0 to 100" in counts.out


def test_another_measure_than_the_runs_can_be_asked_for(run: Run, tmp_path: Path) -> None:
    folder = write_judged_run(tmp_path / "run", counted(VERDICTS))
    wanted = ("--measure", "helpfulness", "--task", "eli5_fact")
    done = run("labels", "export", folder, "--format", "csv", "--out", tmp_path / "a", *wanted)
    assert done.code == 0, done.err
    sheet = filled(tmp_path / "a" / "labels.csv", tmp_path / "jo.csv", "helpfulness_percent", str)
    fails(
        run("agree", "--labels", sheet, "--run", folder),
        "helpfulness_percent is no count of errors",
    )
