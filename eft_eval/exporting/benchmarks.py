"""Benchmarks of the hub that a task's score may be filed under, as the user names them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from eft_eval.errors import ClaimError, ConfigError, nearest
from eft_eval.exporting.claims import RunClaim, TaskClaim
from eft_eval.exporting.models import COMMIT, REPOSITORY

__all__ = ["Benchmark", "benchmark_of", "read_benchmarks"]

_TASK_ID = re.compile(r"[A-Za-z0-9][\w.-]*", re.ASCII)


@dataclass(frozen=True)
class Benchmark:
    """A benchmark's place on the hub.

    Attributes:
        dataset: ``OWNER/NAME`` of its data set.
        task_id: Which of its tasks.
        revision: The data set's commit, 40 hexadecimal digits; None where it is not known.
    """

    dataset: str
    task_id: str
    revision: str | None


def read_benchmarks(given: Sequence[str]) -> dict[str, Benchmark]:
    """Read ``TASK=OWNER/NAME:TASK_ID[@REVISION]`` by task.

    Raises:
        ConfigError: One is something else, or a task has two.
    """
    found: dict[str, Benchmark] = {}
    for text in given:
        task, equals, rest = text.partition("=")
        place, at, revision = rest.partition("@")
        dataset, colon, task_id = place.partition(":")
        where = f"--benchmark {text!r}"
        if not (task and equals and colon):
            raise ConfigError(f"{where}: expected TASK=OWNER/NAME:TASK_ID[@REVISION]")
        if not REPOSITORY.fullmatch(dataset):
            raise ConfigError(f"{where}: data set {dataset!r} is no OWNER/NAME of the hub")
        if not _TASK_ID.fullmatch(task_id):
            raise ConfigError(f"{where}: task id {task_id!r} is no word such as gpqa_diamond")
        if at and not COMMIT.fullmatch(revision):
            raise ConfigError(
                f"{where}: revision {revision!r} is no commit; expected 40 digits in 0-9, a-f"
            )
        if task in found:
            raise ConfigError(f"{where}: task {task!r} has a benchmark already")
        found[task] = Benchmark(dataset, task_id, revision or None)
    return found


def benchmark_of(run: RunClaim, task: TaskClaim, known: Mapping[str, Benchmark]) -> Benchmark:
    """Return the benchmark of a task, which must have one claim: an entry holds one value.

    Raises:
        ConfigError: No benchmark is named for it.
        ClaimError: It has several metrics.
    """
    found = known.get(task.name)
    if found is None:
        raise ConfigError(
            f"hf-eval-results: no benchmark is named for task {task.name!r}"
            f"{nearest(task.name, known)}; add --benchmark {task.name}=OWNER/NAME:TASK_ID, whose "
            "task ids are in the data set's eval.yaml, or choose metrics with --metric"
        )
    if len(task.claims) > 1:
        names = ", ".join(str(claim.key) for claim in task.claims)
        raise ClaimError(
            f"{run.label}: hf-eval-results holds one value per benchmark, task {task.name!r} has "
            f"{names}; choose one with --metric {task.name}/METRIC,FILTER"
        )
    if found.revision is None and task.data.repository == found.dataset:
        return Benchmark(found.dataset, found.task_id, task.data.revision)
    return found
