"""Every Eval Ever's files: records, and single documents of them. Projects; computes nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from eft_eval.exporting.claims import Claim, RunClaim, TaskClaim
from eft_eval.exporting.documents import Document, documents_of
from eft_eval.exporting.identity import text_hash
from eft_eval.judging.prompts.ranges import best_value
from eft_eval.reports.exports.every_eval_ever import (
    SCHEMA_VERSION,
    Evaluator,
    Record,
    eee_record,
    result_id,
)

__all__ = ["Samples", "eee_files", "eee_samples", "with_samples"]


class Samples(NamedTuple):
    """Instance-level records of one task.

    Attributes:
        lines: JSON, one record each.
        left_out: What has no record, and why, as ``additional_details``.
    """

    lines: list[str]
    left_out: dict[str, str]


def eee_files(runs: Sequence[RunClaim], who: Evaluator, samples: bool) -> dict[str, str]:
    """Return Every Eval Ever's files: one record per task, with documents where wanted.

    A record's documents come before it, as it refers to them.

    Raises:
        ClaimError: The run does not say what a record needs.
    """
    files: dict[str, str] = {}
    for run in runs:
        for task in run.tasks:
            record = eee_record(run, task, who)
            if samples and not task.members:
                found = eee_samples(task, record)
                if found.lines:
                    record = with_samples(record, found)
                    files[f"{record.folder}/{record.uuid}_samples.jsonl"] = "".join(found.lines)
            text = json.dumps(record.content, indent=1, ensure_ascii=False, allow_nan=False)
            files[f"{record.folder}/{record.uuid}.json"] = f"{text}\n"
    return files


def eee_samples(task: TaskClaim, record: Record) -> Samples:
    """Return a record for every document and metric with a score.

    ``is_correct`` says whether the score is the best that the metric can have; a metric without
    such a best value, or a document without a score, has no record and is counted.

    Args:
        task: The task.
        record: Its aggregate record.
    """
    best = {
        claim.key: best_value(claim.key.metric, claim.higher_is_better) for claim in task.claims
    }
    without = [str(key) for key, value in best.items() if value is None]
    lines, missing = [], 0
    for document in documents_of(task):
        for claim in task.claims:
            score = document.scores.get(claim.key.metric)
            top = best[claim.key]
            if claim.key.filter != document.filter or top is None or claim.labels is not None:
                continue
            if score is None:
                missing += 1
                continue
            found = _instance(task, claim, document, record, score, score == top)
            # ASCII: some readers end a line at a separator inside a text, such as U+2028
            lines.append(json.dumps(found, ensure_ascii=True, allow_nan=False) + "\n")
    left_out = {"documents_without_score": str(missing)}
    if without:
        left_out["metrics_without_a_best_value"] = ", ".join(without)
    return Samples(lines, left_out)


def with_samples(record: Record, samples: Samples) -> Record:
    """Return an aggregate record that refers to its documents' file."""
    whole = "".join(samples.lines).encode("utf-8", "backslashreplace")
    reference = {
        "format": "jsonl",
        "file_path": f"{record.folder}/{record.uuid}_samples.jsonl",
        "hash_algorithm": "sha256",
        "checksum": hashlib.sha256(whole).hexdigest(),
        "total_rows": len(samples.lines),
        "additional_details": samples.left_out,
    }
    return record._replace(content={**record.content, "detailed_evaluation_results": reference})


def _instance(
    task: TaskClaim, claim: Claim, document: Document, record: Record, score: float, best: bool
) -> dict[str, Any]:
    judge = claim.judge
    method = "llm_judge" if judge is not None and judge.kind != "program" else document.filter
    answers = document.extracted if judge is None else document.responses
    return {
        "schema_version": SCHEMA_VERSION,
        "evaluation_id": record.content["evaluation_id"],
        "model_id": record.content["model_info"]["id"],
        "evaluation_name": task.name,
        "evaluation_result_id": result_id(task, claim),
        "sample_id": str(document.doc_id),
        "sample_hash": text_hash(document.prompt, document.target),
        "interaction_type": "single_turn",
        "input": {
            "raw": document.prompt,
            "reference": [document.target] if document.target else [],
        },
        "output": {"raw": list(document.responses)},
        "answer_attribution": [
            {
                "turn_idx": 0,
                "source": "output.raw",
                "extracted_value": answer,
                "extraction_method": method,
                "is_terminal": True,
            }
            for answer in answers
        ],
        "evaluation": {"score": score, "is_correct": best},
        "metadata": _metadata(document),
    }


def _metadata(document: Document) -> dict[str, str]:
    names = ("doc_hash", "prompt_hash", "target_hash")
    found = dict(zip(names, document.hashes, strict=True))
    found["filter"] = document.filter
    if document.verdicts is not None:
        found["verdicts"] = json.dumps(_verdicts(document.verdicts), ensure_ascii=False)
    return found


def _verdicts(text: str) -> list[dict[str, Any]]:
    """Return of each verdict what a reader of one record needs; tables have all of it."""
    names = ("status", "value", "reason", "judge_model_returned")
    return [{name: one.get(name) for name in names} for one in json.loads(text)]
