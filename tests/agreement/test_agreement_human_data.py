"""Published human labels through the commands: raw file → label file → `eft-eval agree`.

The files are not part of the project; where they are absent these tests skip. The figures that
docs/agreement.md shows are asserted here.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from eft_eval.cli.app import app

DATA = Path(__file__).parents[3] / "shared" / "data"


def raw(path: str) -> Any:
    file = DATA / path
    if not file.exists():
        pytest.skip(f"needs ../shared/data/{path}")
    text = file.read_text(encoding="utf-8")
    return (
        [json.loads(line) for line in text.splitlines()]
        if path.endswith("l")
        else (json.loads(text))
    )


def agreement(
    folder: Path, rows: Iterable[tuple[str, str, object]], *options: str
) -> tuple[dict[str, Any], str]:
    """Write a long table, run `eft-eval agree` on it; return its JSON and what it printed."""
    table, out = folder / "labels.csv", folder / "agreement.json"
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([("item_id", "annotator", "value"), *rows])
    done = CliRunner().invoke(app, ["agree", "--labels", str(table), "--json", str(out), *options])
    assert done.exit_code == 0, done.exception
    return json.loads(out.read_text(encoding="utf-8")), done.output


def pandalm(judge: str) -> Iterable[tuple[str, str, object]]:
    """Three people's choices as words, and a judge's; unreadable verdicts as they are."""
    names = {"0": "tie", "1": "first", "2": "second", "Tie": "tie"}
    items = raw("pandalm/testset-v1.json")
    files = {
        "gpt-3.5": ("gpt-3.5-turbo-testset-v1.json", "gpt_result"),
        "pandalm-7b": ("pandalm-7b-testset-v1.json", "pandalm_result"),
    }
    file, column = files[judge]
    verdicts = {one["idx"]: str(one[column]) for one in raw(f"pandalm/{file}")}
    for item in items:
        for person in ("annotator1", "annotator2", "annotator3"):
            yield item["idx"], person, names[str(item[person])]
        yield item["idx"], judge, names.get(verdicts[item["idx"]], verdicts[item["idx"]])


def test_pandalms_pinned_values(tmp_path: Path) -> None:
    found, text = agreement(
        tmp_path, pandalm("gpt-3.5"), "--judge", "gpt-3.5", "--missing", "garbage"
    )
    assert found["categories"] == ["first", "second", "tie"]
    alpha = found["alpha"][0]
    assert (alpha["items"], alpha["ratings"]) == (999, 2997)
    assert alpha["interval"]["estimate"] == pytest.approx(0.864221, abs=5e-7)
    pair = found["pair"]
    assert (pair["n"], found["counted"]["unsure"]) == (974, 25)
    assert found["counted"]["unscored"] == {"no rating": 25}
    assert round(pair["agreement"]["rate"], 3) == 0.716
    assert pair["kappa"]["interval"]["estimate"] == pytest.approx(0.492865, abs=5e-7)
    assert found["alternative"]["passed"] is False
    assert found["alternative"]["winning_rate"] == 0
    human, judge = (found["ceiling"][who]["interval"]["estimate"] for who in ("human", "judge"))
    assert (round(human, 3), round(judge, 3)) == (0.922, 0.706)
    for words in ("71.6 %", "0.493", "0.864", "25 unsure", "ω = 0.000", ": no (ω"):
        assert words in text


def test_pandalm_7b_is_on_its_own_scale(tmp_path: Path) -> None:
    found, _ = agreement(tmp_path, pandalm("pandalm-7b"), "--judge", "pandalm-7b")
    assert found["pair"]["n"] == 999
    assert round(found["pair"]["agreement"]["rate"], 3) == 0.668


@pytest.mark.parametrize(("style", "right"), [("CoT", 94), ("Vanilla", 95)])
def test_llmbar_gold_and_gpt_4(tmp_path: Path, style: str, right: int) -> None:
    items = raw(f"llmbar/LLMBar_Natural_GPT-4_{style}.json")
    rows = []
    for number, item in enumerate(items):
        winner = item["results"][0]["swap = False"]["winner"]
        rows += [(f"i{number}", "gold", f"output {item['label']}")]
        rows += [(f"i{number}", "gpt-4", f"output {winner}")]
    found, text = agreement(tmp_path, rows, "--judge", "gpt-4", "--positive", "output 1")
    agreed = found["pair"]["agreement"]
    assert (agreed["successes"], agreed["n"]) == (right, 100)
    assert found["pair"]["first_rate"]["estimate"] == 0.42
    assert "one annotator: no human ceiling" in text


def test_factool_error_counts(tmp_path: Path) -> None:
    """Its response labels say "an error" exactly where a claim is labelled false."""
    rows: list[tuple[str, str, object]] = []
    for number, one in enumerate(raw("factool/knowledge_qa.jsonl")):
        rows.append((f"i{number}", "claims", sum(not claim["label"] for claim in one["claims"])))
        rows.append((f"i{number}", "response", int(not one["label"])))
    found, text = agreement(tmp_path, rows, "--judge", "response", "--rule", "any-error")
    assert found["pair"]["table"] == [[23, 0], [0, 27]]
    assert found["pair"]["first_rate"]["estimate"] == 0.54
    assert found["pair"]["agreement"]["wilson"]["lower"] == pytest.approx(0.9287, abs=1e-4)
    assert "a standard error of 0 is no certainty" in text
    counts, _ = agreement(tmp_path, rows, "--judge", "response")
    assert (counts["rule"], counts["pair"]["agreement"]["successes"]) == ("raw", 34)


def test_dices_has_one_expert_and_nothing_to_compare(tmp_path: Path) -> None:
    instances = raw("dices/dices_350_expert.json")["instances"]
    rows = [
        (str(one["id"]), "expert", score)
        for one in instances
        for score in one["annotations"]["safety"]["individual_human_scores"]
    ]
    found, text = agreement(tmp_path, rows, "--positive", "No")
    assert found["counted"]["items"] == 350
    assert found["raters"][0]["rate"]["estimate"] == 0.5
    assert (found["pair"], found["people"], found["alpha"]) == (None, None, [])
    assert "there is nothing to compare" in text
    assert "'No': 50.0 %" in text
    assert "error" not in text  # these labels are of safety
    # against somebody who always says "unsafe", the base rate is all there is
    constant = [(str(one["id"]), "always", "No") for one in instances]
    found, text = agreement(tmp_path, [*rows, *constant], "--positive", "No", "--judge", "always")
    assert found["pair"]["agreement"]["rate"] == found["pair"]["baseline"]["with_first"] == 0.5
    assert found["pair"]["kappa"]["interval"]["estimate"] == 0
    assert "κ is 0 by construction" in text
    assert "is not above what always giving" in text
