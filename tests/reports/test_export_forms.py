"""The forms of an export: golden files, what every form says, and what must not be in them.

    python -m pytest tests/reports/test_export_forms.py --regenerate-golden

writes the golden files anew; look at what changed before committing it.
"""

from __future__ import annotations

import csv
import io
import json
import shlex
from pathlib import Path

import exported_runs as runs
import pytest
from claimed_runs import projections, written

from eft_eval.exporting import ClaimSettings, RunClaim, read_claims
from eft_eval.judging import Status
from eft_eval.reports.exports.table import claims_table, write_parquet

GOLDEN = (Path(__file__).parents[1] / "data") / "export"
NAMES = (
    "eee.json",
    "eee_samples.jsonl",
    "eval_results.yaml",
    "model_card.md",
    "claims.csv",
    "documents.csv",
)


@pytest.mark.parametrize("name", NAMES)
def test_golden_files(run: RunClaim, name: str, request: pytest.FixtureRequest) -> None:
    text = projections(run)[name]
    file = GOLDEN / name
    if request.config.getoption("--regenerate-golden"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8", newline="")
    assert text == file.read_bytes().decode("utf-8")


def test_the_same_run_gives_the_same_bytes(run: RunClaim, tmp_path: Path) -> None:
    assert projections(run) == projections(written())
    for name in ("a", "b"):
        write_parquet(claims_table([run]), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_every_form_says_limit_and_unknown_verdicts(run: RunClaim) -> None:
    limited = written(verdicts=[0, 1] * 10 + [Status.refused], max_unknown=0.5, allow_limit=True)
    file, content = runs.results_of(Path("run") / runs.NAME)
    content["n-samples"]["eli5_fact"]["original"] = 400
    content["config"]["limit"] = 21.0
    file.write_text(json.dumps(content))
    (limited,) = read_claims(["run"], ClaimSettings(max_unknown=0.5, allow_limit=True))
    texts = projections(limited)
    record = json.loads(texts["eee.json"])
    details = record["evaluation_results"][0]["score_details"]["details"]
    assert (details["limited"], details["documents_available"]) == ("true", "400")
    assert (details["verdicts_refused"], details["documents_without_score"]) == ("1", "1")
    for name in ("eval_results.yaml", "model_card.md"):
        flat = " ".join(texts[name].split())
        assert "21 of 400 documents only (--limit)" in flat, name
        assert "1 of 21 verdicts no answer" in flat, name
        assert "could lie from" in flat, name
    (row, *_) = csv.DictReader(io.StringIO(texts["claims.csv"]))
    assert (row["limited"], row["documents_available"]) == ("true", "400")
    assert (row["verdicts_unknown"], json.loads(row["verdicts"])["refused"]) == ("1", 1)


def test_no_folder_of_this_machine_is_in_any_form(tmp_path: Path) -> None:
    folder = runs.write_composite_run(tmp_path / "run")
    (found,) = read_claims([folder], ClaimSettings())
    for name, text in projections(found).items():
        assert str(tmp_path) not in text, name
        assert "/tmp" not in text, name


OWN_DIGEST = "ab" * 32


def test_a_users_own_prompts_are_named_wherever_a_score_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = runs.write_composite_run(Path("run"))
    file, content = runs.results_of(folder)
    content["configs"]["eli5_fact"]["metadata"] |= {
        "eli5_data": "/home/jane/my questions.jsonl",
        "n_prompts": 12,
        "judge_prompt": "/home/jane/strict.jinja",
        "eft_data": {
            "name": "eli5",
            "used": 12,
            "prompts_sha256": "cd" * 32,
            "kind": "file",
            "origin": "my questions.jsonl",
            "files": {"my questions.jsonl": OWN_DIGEST},
        },
    }
    file.write_text(json.dumps(content))
    (run,) = read_claims([folder], ClaimSettings())
    wanted = {"eli5_data": "my questions.jsonl", "n_prompts": 12, "judge_prompt": "strict.jinja"}
    words = shlex.split(run.tasks[0].command)
    assert json.loads(words[words.index("--metadata") + 1]) == wanted
    texts = projections(run)
    for form in ("eee.json", "eval_results.yaml", "model_card.md"):
        text = " ".join(texts[form].split()).replace("\\_", "_")
        assert "my questions.jsonl" in text, form
        assert OWN_DIGEST in text, form
        assert "/home/jane" not in text, form
    assert "--metadata" in texts["eee.json"]
    assert "--metadata" in texts["model_card.md"]
    record = json.loads(texts["eee.json"])
    (source,) = {one["source_data"]["dataset_name"] for one in record["evaluation_results"]}
    assert source == "eli5 (own prompts: my questions.jsonl)"


def test_a_run_of_the_tasks_own_data_speaks_of_no_file(run: RunClaim) -> None:
    assert "--metadata" not in run.tasks[0].command
    assert "own file" not in "".join(projections(run).values())
