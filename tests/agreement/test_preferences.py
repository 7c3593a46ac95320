"""People's preferences between two responses against a judge's, from runs to the report."""

from __future__ import annotations

import csv
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from judged_runs import Run, command_line, fails
from pairs_of_runs import preferring, shown, write_responses
from sklearn.metrics import cohen_kappa_score

from eft_eval.agreement.preferences import as_categories, named
from eft_eval.labels.responses import read_items
from eft_eval.statistics.ratings import Values

DATA = Path(__file__).parents[3] / "shared" / "data" / "pandalm"
CODES = {"A": 0, "B": 1, "tie": 2}


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    return command_line(capsys, monkeypatch)


def judge_of(choices: Sequence[str]) -> Callable[[str, Any], str]:
    """A judge that prefers what the list says of the document that the query numbers."""

    def choose(found: Any) -> int:
        (number,) = re.findall(r"number (\d+)", found.query)
        choice = choices[int(number)]
        if choice == "tie":
            return 0
        return 1 if found.first.startswith(choice) else 2

    return preferring(choose)


@pytest.fixture
def judged(
    run: Run, tmp_path: Path, openai_server: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> Callable[[Sequence[str]], Path]:
    """Judge two runs so that A, B or neither wins, as the list says; return the new run."""

    def make(choices: Sequence[str]) -> Path:
        pair = [
            write_responses(tmp_path / name, [f"{name} {i}." for i in range(len(choices))], name)
            for name in "AB"
        ]
        server = openai_server(judge_of(choices), models=["judge"])
        monkeypatch.setenv("EFT_JUDGE_BASE_URL", server.url)
        done = run("judge", *pair, "--pairwise", "--judge", "judge")
        assert done.code == 0, done
        return tmp_path / "A_against_B"

    return make


def write_labels(
    path: Path, folder: Path, people: dict[str, Sequence[str]], field: str = "preferred_a_or_b"
) -> Path:
    """Write people's preferences; the items are in the order of the documents."""
    items = read_items(folder, measure="preference")
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["item_id", "annotator", "field", "value"])
        for name, values in people.items():
            for item, value in zip(items, values, strict=True):
                if value:
                    writer.writerow([item.item_id, name, field, value])
    return path


JUDGED = ["A", "B", "tie", "A", "A", "B", "A", "tie", "B", "A"] * 4
ANN = ["A", "B", "A", "A", "B", "B", "A", "tie", "B", "tie"] * 4
BEN = ["A", "B", "tie", "B", "A", "B", "A", "A", "B", ""] * 4


def test_agreement_and_kappa_are_those_of_the_categories(
    run: Run, judged: Callable[..., Path], tmp_path: Path
) -> None:
    folder = judged(JUDGED)
    labels = write_labels(tmp_path / "labels.csv", folder, {"ann": ANN})
    out = tmp_path / "out.json"
    done = run("agree", "--run", folder, "--labels", labels, "--json", out)
    assert done.code == 0, done
    found = json.loads(out.read_text())
    assert found["categories"] == ["A", "B", "tie"]
    pair = found["pair"]
    assert pair["agreement"]["rate"] == pytest.approx(np.mean(np.array(JUDGED) == np.array(ANN)))
    expected = cohen_kappa_score(ANN, JUDGED)
    assert pair["kappa"]["interval"]["estimate"] == pytest.approx(expected)
    table = np.zeros((3, 3), int)
    for own, other in zip(ANN, JUDGED, strict=True):
        table[CODES[own], CODES[other]] += 1
    assert pair["table"] == table.tolist()
    assert pair["scale"] is None, "categories have no order"
    assert "factual errors" not in done.out + done.err
    corrected = found["corrected"][0]["corrected"]
    wins = {"A": 1.0, "B": 0.0, "tie": 0.5}
    alone = np.mean([wins[one] for one in ANN])
    assert corrected["labels_only"]["interval"]["estimate"] == pytest.approx(alone)
    verdicts = np.mean([wins[one] for one in JUDGED])
    assert corrected["verdicts_only"]["interval"]["estimate"] == pytest.approx(verdicts)
    assert found["corrected"][0]["metric"] == "win_rate"


@pytest.mark.slow
def test_several_people_and_words_in_any_case(
    run: Run, judged: Callable[..., Path], tmp_path: Path
) -> None:
    folder = judged(JUDGED)
    people = {"ann": [one.lower() for one in ANN], "ben": [one.upper() for one in BEN]}
    labels = write_labels(tmp_path / "labels.csv", folder, people, field="winner")
    out = tmp_path / "out.json"
    assert run("agree", "--run", folder, "--labels", labels, "--json", out).code == 0
    found = json.loads(out.read_text())
    assert found["field"] == "winner"
    shares = {one["name"]: one["shares"] for one in found["raters"]}
    counts = Counter(JUDGED)
    assert shares["judge"] == [counts[name] / len(JUDGED) for name in CODES]
    both = [(a, b) for a, b in zip(ANN, BEN, strict=True) if b]
    assert found["people"]["agreement"]["interval"]["estimate"] == pytest.approx(
        np.mean([a == b for a, b in both])
    )


@pytest.mark.slow
def test_a_category_that_nobody_chose_moves_no_name(
    run: Run, judged: Callable[..., Path], tmp_path: Path
) -> None:
    """Ties only: of people, and of the judge as B and tie."""
    choices = ["B", "tie"] * 15
    folder = judged(choices)
    labels = write_labels(tmp_path / "labels.csv", folder, {"ann": ["tie"] * 30})
    out = tmp_path / "out.json"
    done = run("agree", "--run", folder, "--labels", labels, "--json", out)
    assert done.code == 0, done
    assert json.loads(out.read_text())["categories"] == ["B", "tie"]
    assert "B: 50.0 %, tie: 50.0 %" in done.out


def test_a_judge_that_contradicts_itself_calls_a_tie() -> None:
    wins: Values = np.array([1, 0.75, 0.5, 0.25, 0, math.nan])
    found = as_categories(wins)
    assert found[:5].tolist() == [0, 0, 2, 1, 1]
    assert math.isnan(found[5])
    assert named(found)[0] == ("A", "B", "tie")
    words, (judge, people) = named(found[2:4], np.array([2.0, math.nan]))
    assert words == ("B", "tie")
    assert (judge.tolist(), people[0], math.isnan(people[1])) == ([1, 0], 1, True)


@pytest.mark.slow
def test_labels_that_are_no_preferences_are_one_line(
    run: Run, judged: Callable[..., Path], tmp_path: Path
) -> None:
    folder = judged(["A", "B", "tie"] * 10)
    numbers = ["1", "2", "0"] * 10
    labels = write_labels(tmp_path / "labels.csv", folder, {"ann": numbers}, field="choice")
    fails(
        run("agree", "--run", folder, "--labels", labels), "choice holds '1'", "--map-labels FILE"
    )
    (tmp_path / "map.yaml").write_text("1: A\n2: B\n0: tie\n")
    out = tmp_path / "out.json"
    mapped = ("--map-labels", tmp_path / "map.yaml", "--json", out)
    assert run("agree", "--run", folder, "--labels", labels, *mapped).code == 0
    assert json.loads(out.read_text())["pair"]["agreement"]["rate"] == 1
    words = write_labels(tmp_path / "w.csv", folder, {"ann": ["A", "B", "unsure"] * 10}, "choice")
    fails(run("agree", "--run", folder, "--labels", words), "choice holds 'unsure'")
    assert run("agree", "--run", folder, "--labels", words, "--missing", "unsure").code == 0
    for option in (("--rule", "any-error"), ("--scale", "numeric")):
        fails(run("agree", "--run", folder, "--labels", words, *option), "is A, B or tie")
    fails(
        run("agree", "--run", folder, "--labels", words, "--positive", "A"), "leave out --positive"
    )


def test_labels_go_out_and_come_back(run: Run, judged: Callable[..., Path], tmp_path: Path) -> None:
    """An exported sheet shows both responses, and no verdict; its labels correct the win rate."""
    folder = judged(JUDGED)
    project = tmp_path / "project"
    done = run("labels", "export", folder, "--format", "csv", "--sample", "20", "--out", project)
    assert done.code == 0, done
    with (project / "labels.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 20
    for row in rows:
        assert re.fullmatch(r"RESPONSE A:\n\nA \d+\.\n\nRESPONSE B:\n\nB \d+\.", row["response"])
        number = int(row["question"].split()[3])
        row["preferred_a_or_b"] = ANN[number]
    with (project / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    done = run("correct", folder, "--labels", project)
    assert done.code == 0, done
    newest = sorted(folder.glob("results_*.json"))[-1]
    entry = json.loads(newest.read_text())["results"]["help_pairwise_helpfulness"]
    assert 0 <= entry["win_rate_ppi,preference"] <= 1
    assert entry["win_rate,preference"] == pytest.approx(
        np.mean([{"A": 1.0, "B": 0.0, "tie": 0.5}[one] for one in JUDGED])
    )


def pandalm(name: str) -> list[dict[str, Any]]:
    if not (DATA / name).exists():
        pytest.skip(f"needs ../shared/data/pandalm/{name}")
    found: list[dict[str, Any]] = json.loads((DATA / name).read_text("utf-8"))
    return found


@pytest.mark.slow
def test_pandalms_pinned_values_from_two_runs(
    run: Run, tmp_path: Path, openai_server: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its two responses as runs, GPT-3.5's verdicts as the judge's, people's as labels."""
    items = pandalm("testset-v1.json")
    said = {one["idx"]: str(one["gpt_result"]) for one in pandalm("gpt-3.5-turbo-testset-v1.json")}
    questions = [f"{item['instruction']}\n\n{item['input']}\n#{item['idx']}" for item in items]

    def responses(which: str) -> Iterable[str]:
        return [f"{which[-1]}: {item[which]}" for item in items]

    a, b = (
        write_responses(tmp_path / name, [*responses(which)], name, questions=questions)
        for name, which in (("a", "response1"), ("b", "response2"))
    )

    def answer(prompt: str, _: Any) -> str:
        found = shown(prompt)
        verdict = said[int(found.query.rpartition("#")[2])]
        if verdict == "Tie":
            return "Score: tie"
        if verdict not in ("1", "2"):
            return "Both have their merits."
        return f"Reason: better.\n\nScore: {1 if found.first.startswith(verdict) else 2}"

    server = openai_server(answer, models=["judge"])
    monkeypatch.setenv("EFT_JUDGE_BASE_URL", server.url)
    done = run("judge", a, b, "--pairwise", "--judge", "judge", "--length-control")
    assert done.code == 0, done
    names = {0: "tie", 1: "A", 2: "B"}
    people = {
        f"p{number}": [names[item[f"annotator{number}"]] for item in items] for number in (1, 2, 3)
    }
    labels = write_labels(tmp_path / "labels.csv", tmp_path / "a_against_b", people)
    out = tmp_path / "out.json"
    assert (
        run("agree", "--run", tmp_path / "a_against_b", "--labels", labels, "--json", out).code == 0
    )
    found = json.loads(out.read_text())
    pair = found["pair"]
    assert (pair["n"], found["counted"]["unscored"]) == (974, {"malformed": 25})
    assert round(pair["agreement"]["rate"], 3) == 0.716
    assert pair["kappa"]["interval"]["estimate"] == pytest.approx(0.492865, abs=5e-7)
    assert found["alpha"][0]["interval"]["estimate"] == pytest.approx(0.864221, abs=5e-7)
    results = json.loads(sorted((tmp_path / "a_against_b").glob("results_*"))[-1].read_text())
    entry = results["results"]["help_pairwise_helpfulness"]
    won = [{"1": 1.0, "2": 0.0, "Tie": 0.5}.get(said[item["idx"]]) for item in items]
    known = [one for one in won if one is not None]
    assert entry["win_rate,preference"] == pytest.approx(np.mean(known))
    assert entry["pair_unreadable,preference"] == pytest.approx(25 / 999)
    import statsmodels.api as sm

    kept = [place for place, one in enumerate(won) if one is not None]
    lengths = [
        len(f"1: {items[i]['response1']}".strip()) - len(f"2: {items[i]['response2']}".strip())
        for i in kept
    ]
    d = np.array(lengths, float)
    design = sm.add_constant(np.tanh(d / d.std(ddof=1)))
    fit = sm.GLM(np.array(known), design, family=sm.families.Binomial()).fit(tol=1e-14)
    rate = 1 / (1 + math.exp(-float(fit.params[0])))
    assert entry["win_rate_length_controlled,preference"] == pytest.approx(rate, rel=1e-6)
