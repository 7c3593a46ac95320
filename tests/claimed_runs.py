"""A run with its claims, as exports take it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import exported_runs as runs

from eft_eval.exporting import ClaimSettings, RunClaim, read_claims
from eft_eval.exporting.benchmarks import Benchmark
from eft_eval.reports.exports.every_eval_ever import Evaluator
from eft_eval.reports.exports.every_eval_ever_samples import eee_files
from eft_eval.reports.exports.hub import hub_files
from eft_eval.reports.exports.model_card import model_card
from eft_eval.reports.exports.table import claims_table, documents_table, table_csv

REPOSITORY = "somebody/large-small-chat"
LAB = Evaluator("Some Lab", "first_party", None)
REVISION = "5503434ddd753f426f4b38109466949a1217c2bb"
BENCHMARKS = {"eli5_fact": Benchmark("some-lab/eli5-facts", "fact_errors", REVISION)}


def written(**options: Any) -> RunClaim:
    verdicts = options.pop("verdicts", ())
    folder = runs.write_composite_run(Path("run"), verdicts)
    (found,) = read_claims([folder], ClaimSettings(**options))
    return found


def one_metric(run: RunClaim) -> RunClaim:
    return replace(run, tasks=tuple(replace(task, claims=task.claims[:1]) for task in run.tasks))


def projections(run: RunClaim) -> dict[str, str]:
    eee = eee_files([run], LAB, samples=True)
    (aggregate,) = (text for name, text in eee.items() if name.endswith(".json"))
    (samples,) = (text for name, text in eee.items() if name.endswith(".jsonl"))
    (entry,) = hub_files(one_metric(run), BENCHMARKS, "https://example.org/x").values()
    card = model_card(run, REPOSITORY)
    return {
        "eee.json": aggregate,
        "eee_samples.jsonl": samples,
        "eval_results.yaml": entry,
        "model_card.md": card,
        "claims.csv": table_csv(claims_table([run])),
        "documents.csv": table_csv(documents_table([run])),
    }
