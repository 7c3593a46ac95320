"""Every Eval Ever: our own reading of its rules; its command has a test of its own."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import exported_runs as runs
import pytest
from claimed_runs import LAB, projections
from hypothesis import given
from hypothesis import strategies as st

from eft_eval.errors import ClaimError
from eft_eval.exporting import ClaimSettings, RunClaim, read_claims
from eft_eval.exporting.identity import path_part, record_uuid
from eft_eval.reports.exports.every_eval_ever_samples import eee_files


def walk(value: object, path: str = "") -> Any:
    yield path, value
    if isinstance(value, dict):
        for key, one in value.items():
            yield from walk(one, f"{path}/{key}")
    elif isinstance(value, list):
        for number, one in enumerate(value):
            yield from walk(one, f"{path}/{number}")


def test_eee_keeps_the_rules_of_its_schema(run: RunClaim) -> None:
    files = eee_files([run], LAB, samples=True)
    (name,) = (name for name in files if name.endswith(".json"))
    record = json.loads(files[name])
    assert re.fullmatch(
        r"data/eli5_fact/Some-Lab/eft_[\w.+-]+/[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab]"
        r"[0-9a-f]{3}-[0-9a-f]{12}\.json",
        name,
    )
    for path, value in walk(record):
        if path.endswith(("additional_details", "score_details/details")):
            assert all(isinstance(one, str) for one in value.values()), path
        assert value is not None, path
    for result in record["evaluation_results"]:
        config, score = result["metric_config"], result["score_details"]
        lowest, highest = (float(config[key]) for key in ("min_score", "max_score"))
        assert lowest <= score["score"] <= highest
        if interval := score["uncertainty"].get("confidence_interval"):
            assert lowest <= interval["lower"] <= score["score"] <= interval["upper"] <= highest
        scoring = config["llm_scoring"]
        assert scoring["judges"][0]["model_info"]["id"] == f"openai/{runs.JUDGE}"
        assert scoring["judges"][0]["temperature"] == 0
        assert "{{ response }}" in scoring["input_prompt"]
    lines = files[name.replace(".json", "_samples.jsonl")].splitlines()
    rows = [json.loads(line) for line in lines]
    results = {one["evaluation_result_id"]: one for one in record["evaluation_results"]}
    for identifier, result in results.items():
        scores = [r["evaluation"]["score"] for r in rows if r["evaluation_result_id"] == identifier]
        assert math.fsum(scores) / len(scores) == pytest.approx(result["score_details"]["score"])
        assert len(scores) == result["score_details"]["uncertainty"]["num_samples"]
    reference = record["detailed_evaluation_results"]
    assert reference["total_rows"] == len(rows)
    assert reference["additional_details"] == {"documents_without_score": "2"}
    assert {row["evaluation_id"] for row in rows} == {record["evaluation_id"]}
    correct = [row["evaluation"]["is_correct"] for row in rows]
    assert correct == [row["evaluation"]["score"] == 0 for row in rows]


def test_eee_names_change_with_the_result_alone(run: RunClaim) -> None:
    first = json.loads(projections(run)["eee.json"])
    file, content = runs.results_of(Path("run") / runs.NAME)
    content["results"]["eli5_fact"]["alias"] = "renamed"
    file.write_text(json.dumps(content))
    (other,) = read_claims(["run"], ClaimSettings(level=0.9))
    second = json.loads(projections(other)["eee.json"])
    assert first["evaluation_id"] != second["evaluation_id"]
    assert first["retrieved_timestamp"] == second["retrieved_timestamp"] == "1763632800.5"
    assert first["evaluation_timestamp"] == "2025-11-20T10:00:00Z"
    assert len({record_uuid(text) for text in ("a", "b", "a")}) == 2


def test_eee_needs_the_judge_prompts_text_and_a_direction(run: RunClaim) -> None:
    (task,) = run.tasks
    judge = replace(task.claims[0].judge, prompt_text=None)
    without = replace(task, claims=(replace(task.claims[0], judge=judge),))
    with pytest.raises(ClaimError, match=r"is not here; name its file with --judge-prompt"):
        eee_files([replace(run, tasks=(without,))], LAB, samples=False)
    unknown = replace(task, claims=(replace(task.claims[0], higher_is_better=None),))
    with pytest.raises(ClaimError, match="does not say whether a higher eli5_fact/fact_errors"):
        eee_files([replace(run, tasks=(unknown,))], LAB, samples=False)
    undated = replace(task, started=None)
    with pytest.raises(ClaimError, match="the results file has no date"):
        eee_files([replace(run, tasks=(undated,))], LAB, samples=False)


@given(st.text())
def test_any_name_becomes_a_folders(name: str) -> None:
    part = path_part(name)
    assert re.fullmatch(r"[\w.+-]+", part, re.ASCII)
    assert part not in (".", "..", "data")
    assert not part.endswith(".")
