"""Every Eval Ever's files: records, and single documents of them. Projects; computes nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

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

__all__ = ["Samples", "eee_files", "eee_streams"]


def eee_files(runs: Sequence[RunClaim], who: Evaluator, samples: bool) -> dict[str, str]:
    """Return the texts of `eee_streams`, all at once."""
    return {name: "".join(lines) for name, lines in eee_streams(runs, who, samples)}


def eee_streams(
    runs: Sequence[RunClaim], who: Evaluator, samples: bool
) -> Iterator[tuple[str, Iterable[str]]]:
    """Yield Every Eval Ever's files: one record per task, with documents where wanted.

    A record's documents come before it, as it refers to them; each file is to be read to its end
    before the next is taken.

    Raises:
        ClaimError: The run does not say what a record needs.
    """
    records = [(task, eee_record(run, task, who)) for run in runs for task in run.tasks]
    for task, record in records:
        if samples and not task.members:
            found = Samples(task, record)
            if (first := next(found, None)) is not None:
                yield f"{record.folder}/{record.uuid}_samples.jsonl", chain([first], found)
                record = found.named_in(record)
        text = json.dumps(record.content, indent=1, ensure_ascii=False, allow_nan=False)
        yield f"{record.folder}/{record.uuid}.json", [f"{text}\n"]


class Samples(Iterator[str]):
    """Yields a line for every document and metric with a score, and counts what it has yielded.

    ``is_correct`` says whether the score is the best that the metric can have; a metric without
    such a best value, or a document without a score, has no record and is counted.
    """

    def __init__(self, task: TaskClaim, record: Record) -> None:
        self._best = {
            claim.key: best_value(claim.key.metric, claim.higher_is_better) for claim in task.claims
        }
        self._missing = 0
        self._rows = 0
        self._digest = hashlib.sha256()
        self._lines = self._made(task, record)

    def __next__(self) -> str:
        """Return the next line."""
        return next(self._lines)

    def _made(self, task: TaskClaim, record: Record) -> Iterator[str]:
        for document in documents_of(task):
            for claim in task.claims:
                score = document.scores.get(claim.key.metric)
                top = self._best[claim.key]
                if claim.key.filter != document.filter or top is None or claim.labels is not None:
                    continue
                if score is None:
                    self._missing += 1
                    continue
                found = _instance(task, claim, document, record, score, score == top)
                # ASCII: some readers end a line at a separator inside a text, such as U+2028
                line = json.dumps(found, ensure_ascii=True, allow_nan=False) + "\n"
                self._rows += 1
                self._digest.update(line.encode("ascii"))
                yield line

    def named_in(self, record: Record) -> Record:
        """Return an aggregate record that refers to the lines, all of which were read."""
        left_out = {"documents_without_score": str(self._missing)}
        if without := [str(key) for key, value in self._best.items() if value is None]:
            left_out["metrics_without_a_best_value"] = ", ".join(without)
        reference = {
            "format": "jsonl",
            "file_path": f"{record.folder}/{record.uuid}_samples.jsonl",
            "hash_algorithm": "sha256",
            "checksum": self._digest.hexdigest(),
            "total_rows": self._rows,
            "additional_details": left_out,
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
