"""Files that an export consists of, by their paths; all are projections of one record."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from eft_eval.exporting.benchmarks import Benchmark
from eft_eval.exporting.claims import RunClaim
from eft_eval.reports.exports.every_eval_ever import Evaluator, eee_record
from eft_eval.reports.exports.every_eval_ever_samples import eee_samples, with_samples
from eft_eval.reports.exports.hub import hub_files
from eft_eval.reports.exports.model_card import model_card

__all__ = ["card_files", "eee_files", "eval_results_files"]


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


def eval_results_files(
    run: RunClaim, benchmarks: Mapping[str, Benchmark], source_url: str | None
) -> dict[str, str]:
    """Return ``.eval_results/*.yaml``; see `eft_eval.reports.exports.hub.hub_files`."""
    return hub_files(run, benchmarks, source_url)


def card_files(run: RunClaim, repository: str) -> dict[str, str]:
    """Return a model card; see `eft_eval.reports.exports.model_card.model_card`."""
    return {"README.md": model_card(run, repository)}
