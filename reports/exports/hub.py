"""Claims as ``.eval_results/*.yaml`` of a repository on the hub. Projects; computes nothing.

Written with huggingface_hub's own classes, which accept anything: what goes into them is checked
by `eft_eval.exporting`.
"""

from __future__ import annotations

from collections.abc import Mapping

import yaml

from eft_eval.exporting.benchmarks import Benchmark, benchmark_of
from eft_eval.exporting.claims import RunClaim, TaskClaim
from eft_eval.exporting.identity import path_part
from eft_eval.exporting.publishing import iso_date
from eft_eval.reports.exports.phrases import interval, limits, versions

__all__ = ["hub_files"]


def hub_files(
    run: RunClaim, benchmarks: Mapping[str, Benchmark], source_url: str | None
) -> dict[str, str]:
    """Return the files of a repository by their paths in it, one per task.

    Args:
        run: The claims.
        benchmarks: By task, under which benchmark it is filed.
        source_url: Where readers find more; None: nowhere.

    Raises:
        ConfigError: A task has no benchmark.
        ClaimError: A task has several metrics, or the run has no date.
    """
    return {
        f".eval_results/{path_part(task.name)}.yaml": _file(
            run, task, benchmark_of(run, task, benchmarks), source_url
        )
        for task in run.tasks
    }


def _file(run: RunClaim, task: TaskClaim, benchmark: Benchmark, source_url: str | None) -> str:
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    (claim,) = task.claims
    entry = EvalResultEntry(
        dataset_id=benchmark.dataset,
        task_id=benchmark.task_id,
        value=claim.figure.value,
        dataset_revision=benchmark.revision,
        date=iso_date(task),
        source_url=source_url,
        notes=_notes(run, task),
    )
    content = eval_result_entries_to_yaml([entry])
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)


def _notes(run: RunClaim, task: TaskClaim) -> str:
    (claim,) = task.claims
    better = {True: ", higher is better", False: ", lower is better", None: ""}
    parts = [
        f"{task.name}/{claim.key}{better[claim.higher_is_better]}",
        f"n = {claim.figure.n}" if claim.figure.n is not None else "n not known",
        f"interval {interval(claim)}",
    ]
    if run.composite is not None:
        parts.append(f"composite {run.composite.name}, of no member alone")
    return "; ".join([*parts, *limits(run, task), versions(task)])
