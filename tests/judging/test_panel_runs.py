"""A run judged by a panel: judged again, read by every command, compared with people, corrected."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import pytest
from judged_panels import COUNT, REFUSED, SCORES, judges, newest
from judged_runs import Run, fails, items_in_order, write_labels
from sklearn.metrics import cohen_kappa_score

from eft_eval.errors import ConfigError
from eft_eval.judging.panel import judge_names


def test_judging_again_by_one_judge_leaves_no_panel_behind(folder: Path, run: Run) -> None:
    assert run("judge", "out", *judges("a", "b", "c")).code == 0
    alone = run("judge", "out", *judges("b"))
    assert alone.code == 0
    results, lines = newest(folder / "out")
    assert list(lines) == ["factuality"]
    names = {key.partition(",")[2] for key in results["results"]["eli5_fact"] if "," in key}
    assert names == {"factuality"}
    config = results["configs"]["eli5_fact"]
    assert [one["name"] for one in config["filter_list"]] == ["factuality"]
    assert "panel" not in json.dumps(config["filter_list"])
    assert "kept" not in config["metadata"]["eft_judge"]
    assert run("judge", "out", *judges("c", "a")).code == 0
    assert sorted(newest(folder / "out")[1]) == [
        "factuality", "factuality@scripted:a.json", "factuality@scripted:c.json",
    ]  # fmt: skip


def test_a_panel_of_other_names_is_another_judge(folder: Path, run: Run, tmp_path: Path) -> None:
    assert run("judge", "out", *judges("a", "b")).code == 0
    first = newest(folder / "out")[0]
    assert run("judge", "out", *judges("b", "a")).code == 0
    again = newest(folder / "out")[0]
    judge = [one["configs"]["eli5_fact"]["metadata"]["eft_judge"] for one in (first, again)]
    assert judge[0]["model"] == judge[1]["model"] == "panel of scripted:a.json, scripted:b.json"
    assert judge[0]["parameters"] == judge[1]["parameters"]


@pytest.mark.parametrize("names", [("m", "org/m"), ("hf:/home/jane/m", "hf:/home/joe/m")])
def test_names_tell_judges_apart_and_tell_no_folder(names: tuple[str, str]) -> None:
    found = judge_names(names)
    assert len({*found}) == 2
    assert judge_names(names[::-1]) == found[::-1]
    assert not {*"/, "} & {*"".join(found)}
    assert judge_names(["gpt-4.1-2025-04-14", "llama3:8b"]) == ("gpt-4.1-2025-04-14", "llama3:8b")
    with pytest.raises(ConfigError, match="twice"):
        judge_names(["m", "n", "m"])


def test_the_run_is_readable_everywhere(folder: Path, run: Run) -> None:
    assert run("judge", "out", *judges("a", "b", "c")).code == 0
    compared = run("compare", "out", "out", "--out", "json=compare.json")
    assert compared.code == 0, compared
    report = json.loads(Path("compare.json").read_text())
    (candidate,) = report["candidates"]
    gated = [row["filter"] for row in candidate["rows"] if row["decision"] is not None]
    assert {*gated} == {"factuality"}, "the panel's scores decide, its judges' are shown"
    assert run("report", "out", "--out", "r.html").code == 0
    assert run("export", "out", "--format", "csv", "--out", "e.csv").code == 0
    text = Path("e.csv").read_text()
    assert '"panel of scripted:a.json, scripted:b.json, scripted:c.json","panel"' in text
    fails(
        run("export", "out", "--format", "eee", "--out", "eee", "--organization", "O"),
        "scripted judge",
    )


def people(count: int) -> dict[str, list[float | None]]:
    return {
        "jane": [float(i % 3) for i in range(count)],
        "bob": [float((i // 2) % 3) for i in range(count)],
        "carol": [float(i % 2) for i in range(count)],
    }


def test_agree_compares_each_judge_and_the_panel_with_people(folder: Path, run: Run) -> None:
    assert run("judge", "out", *judges("a", "b", "c")).code == 0
    labels = people(COUNT)
    write_labels(Path("labels.csv"), items_in_order(folder / "out"), labels)
    done = run("agree", "--run", "out", "--labels", "labels.csv", "--json", "agree.json")
    assert done.code == 0, done
    found = json.loads(Path("agree.json").read_text())
    commonest = [
        float(2 * sum((labels[name][i] or 0) > 0 for name in labels) > 3) for i in range(COUNT)
    ]
    said = {name: [float(score > 0) for score in of] for name, of in SCORES.items()}
    said["panel"] = [float(sum(said[name][i] for name in "abc") >= 2) for i in range(COUNT)]
    rows = dict(zip((*"abc", "panel"), found["judges"], strict=True))
    kept = {name: [i for i in range(COUNT) if i != REFUSED or name in "ab"] for name in said}
    for name, row in rows.items():
        left, right = ([of[i] for i in kept[name]] for of in (commonest, said[name]))
        assert row["pair"]["n"] == len(left)
        expected = cohen_kappa_score(left, right)
        assert row["pair"]["kappa"]["interval"]["estimate"] == pytest.approx(expected)
    assert found["pair"]["kappa"]["interval"] == rows["panel"]["pair"]["kappa"]["interval"]
    gains = {(one["first"][9:10], one["second"][:5]): one for one in found["judges_differences"]}
    gain = gains["a", "panel"]["gain"]
    both = kept["panel"]
    expected = statistics.fmean(
        float(said["panel"][i] == commonest[i]) - float(said["a"][i] == commonest[i]) for i in both
    )
    assert gain["interval"]["estimate"] == pytest.approx(expected)
    assert gain["n"] == len(both)
    alone = run(
        "agree", "--run", "out", "--labels", "labels.csv", "--judge", "scripted:a.json",
        "--json", "alone.json",
    )  # fmt: skip
    assert alone.code == 0, alone
    one = json.loads(Path("alone.json").read_text())
    assert one["judge"] == "scripted:a.json"
    assert one["pair"]["kappa"] == rows["a"]["pair"]["kappa"]
    assert "judges" not in one


def test_correct_touches_the_pipeline_whose_verdicts_it_used(folder: Path, run: Run) -> None:
    assert run("judge", "out", *judges("a", "b", "c")).code == 0
    half = {
        name: [v if i % 2 else None for i, v in enumerate(of)] for name, of in people(COUNT).items()
    }
    write_labels(Path("labels.csv"), items_in_order(folder / "out"), half)
    entry = newest(folder / "out")[0]["results"]["eli5_fact"]
    done = run("correct", "out", "--labels", "labels.csv", "--json", "correct.json")
    assert done.code == 0, done
    new = newest(folder / "out")[0]["results"]["eli5_fact"]
    assert {key.partition(",")[2] for key in new if "_ppi" in key} == {"factuality"}
    report = json.loads(Path("correct.json").read_text())
    by_metric = {one["metric"]: one["corrected"] for one in report["metrics"]}
    for metric, corrected in by_metric.items():  # what is corrected is what the run says
        estimate = corrected["verdicts_only"]["interval"]["estimate"]
        assert estimate == pytest.approx(entry[f"{metric},factuality"]), metric


def test_a_tied_panel_is_no_label_against_people(folder: Path, run: Run) -> None:
    assert run("judge", "out", *judges("a", "b")).code == 0
    write_labels(Path("labels.csv"), items_in_order(folder / "out"), people(COUNT))
    tied = sum((SCORES["a"][i] > 0) != (SCORES["b"][i] > 0) for i in range(COUNT))
    run("agree", "--run", "out", "--labels", "labels.csv", "--json", "agree.json")
    found = json.loads(Path("agree.json").read_text())
    assert found["counted"]["unscored"] == {"judges tied": tied}
    assert found["counted"]["judged"] == COUNT - tied
    panel = newest(folder / "out")[0]["configs"]["eli5_fact"]["metadata"]["eft_judge"]["panel"]
    assert panel["factuality"]["tied"] == tied
