"""What must not be compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from gated_runs import BASE, judged_line, only_row
from written_runs import STAMP, write_run

from eft_eval.comparing import (
    GateSettings,
    compare_runs,
    read_run,
)
from eft_eval.errors import ComparabilityError


def test_preconditions(tmp_path: Path) -> None:
    before = {"t": {"acc": BASE}}
    old = read_run(write_run(tmp_path / "old", before))

    def against(**options: Any) -> str:
        new = read_run(write_run(tmp_path / "new", options.pop("tasks", before), **options))
        with pytest.raises(ComparabilityError) as raised:
            compare_runs(old, [new])
        assert "\n" not in str(raised.value)
        return str(raised.value)

    assert "version is 1.0 in the baseline and 2.0 in the candidate" in against(version=2.0)
    assert "number of few-shot examples is 0" in against(changes={"n-shot": {"t": 5}})
    fewer = against(tasks={"t": {"acc": BASE[:98]}})
    assert "the candidate lacks 2 document(s) (doc_hash" in fewer
    others = against(documents=[f"other {i}" for i in range(100)])
    assert "lacks 100 document(s)" in others
    assert "has besides 100 document(s)" in others
    repeated = json.loads((tmp_path / "old/model" / f"results_{STAMP}.json").read_text())["configs"]
    repeated["t"]["repeats"] = 4
    assert "number of responses per document is 1" in against(changes={"configs": repeated})
    prompts = [f"new {i}" for i in range(100)]
    assert "the prompts of 100 of 100 documents differ" in against(prompts=prompts)
    new = read_run(write_run(tmp_path / "new", before, prompts=prompts))
    allowed = compare_runs(old, [new], GateSettings(allow_prompt_change=True))
    assert allowed.outcome == "pass"
    assert only_row(allowed).notes == ("the prompts of 100 documents differ, as allowed",)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"judge_model": "judge-2"}, "judge judge-1 and judge-2"),
        ({"prompt_sha256": "b" * 64}, r"judge prompt factuality \(aaaaaaaa…\) and .*bbbbbbbb"),
        ({"parameters": {"temperature": 1}}, "judge's sampling parameters"),
        ({"judge_model_returned": "judge-1-1106"}, None),
        ({"status": "refused", "value": None}, None),
    ],
)
def test_scores_of_different_judges_are_not_compared(
    tmp_path: Path, changes: dict[str, Any], complaint: str | None
) -> None:
    runs = []
    for name, of_judge in (("old", {}), ("new", changes)):
        folder = write_run(tmp_path / name, {"t": {"acc": BASE}})
        file = folder / f"samples_t_{STAMP}.jsonl"
        lines = [judged_line(line, **of_judge) for line in file.read_text().splitlines()]
        file.write_text("\n".join(lines) + "\n")
        runs.append(read_run(folder))
    if complaint is None:
        row = compare_runs(*runs[:1], runs[1:]).candidates[0].rows[0]
        assert row.candidate is not None
        assert row.candidate.verdicts == {changes.get("status", "scored"): 100}
        if "judge_model_returned" in changes:
            assert row.notes == (
                "the judge's endpoint names other models: judge-1-0613 and judge-1-1106",
            )
        return
    with pytest.raises(ComparabilityError, match=complaint):
        compare_runs(*runs[:1], runs[1:])


def test_incomplete_runs_are_refused_where_they_are_gated(tmp_path: Path) -> None:
    both = {"t": {"acc": BASE}, "u": {"acc": BASE}}
    old = read_run(write_run(tmp_path / "old", both))
    folder = write_run(tmp_path / "new", both)
    damaged = folder / f"samples_u_{STAMP}.jsonl"
    damaged.write_bytes(damaged.read_bytes()[:-30])
    new = read_run(folder)
    with pytest.raises(ComparabilityError, match="the file is cut off"):
        compare_runs(old, [new])
    found = compare_runs(old, [new], GateSettings(gated=("t/acc",)))
    assert found.outcome == "pass"
    assert "the file is cut off" in " ".join(found.candidates[0].notes)
    damaged.unlink()
    with pytest.raises(ComparabilityError, match=r"task 'u' has no samples in .*--log_samples"):
        compare_runs(old, [read_run(folder)])
