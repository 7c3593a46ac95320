"""Is a task's record whole? Aggregates against the samples, documents against their number."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from eft_eval.runs.records import CORRECTED, LENGTH_CONTROLLED, Problem, TaskRun
from eft_eval.runs.samples import SamplesRead

__all__ = ["check_task", "differing_counts", "newest_results", "same_mean", "unwritten"]

_OF_ALL = {
    CORRECTED: "people's labels (eft-eval correct)",
    LENGTH_CONTROLLED: "a regression over all documents (--length-control)",
}
_RELATIVE = 1e-6  # sums in another order, and numbers written with fewer digits


def same_mean(reported: float | None, values: Sequence[float | None]) -> bool:
    """Whether a reported aggregate is the mean of the values that are numbers."""
    numbers = [value for value in values if value is not None]
    if not numbers or reported is None:
        return not numbers and reported is None
    return math.isclose(
        reported, _mean(numbers), rel_tol=_RELATIVE, abs_tol=_RELATIVE * _largest(numbers)
    )


def check_task(task: TaskRun, read: SamplesRead | None, expected_hash: str | None) -> list[Problem]:
    """Return what is wrong with a task's files.

    Args:
        task: The task as read.
        read: Its samples file; None where there is none.
        expected_hash: Hash of the samples as the results file has it; None where it says nothing.

    Returns:
        Errors for damaged, missing, repeated or contradicting data; notes for what only limits
        what can be said: metrics that were bypassed, no samples, values that are no numbers.
    """
    found = [Problem("error", task.name, text) for text in (read.problems if read else [])]
    if task.bypassed:
        text = f"task {task.name!r} has no metrics: they were bypassed (--predict_only)"
        found.append(Problem("note", task.name, text))
    if read is None:
        if not task.bypassed:
            text = f"task {task.name!r} has no samples file (--log_samples): nothing can be paired"
            found.append(Problem("note", task.name, text))
        return found
    found += [Problem("error", task.name, text) for text in _counts(task)]
    if not found or all(one.severity == "note" for one in found):
        found += [Problem("error", task.name, text) for text in _hash(task, read, expected_hash)]
    found += _means(task, read)
    return found


def newest_results(output: Path, started: float) -> Mapping[str, Any]:
    """Return the newest results file of a run that began then; empty where it wrote none."""
    found = _results_since(_folder(output), started)
    return found[-1] if found else {}


def unwritten(
    output: Path, started: float, with_samples: bool = False, name: str | None = None
) -> str | None:
    """Return what lm-eval, which only logs that, did not write of a run; None: all is there.

    Args:
        output: What ``--output_path`` named.
        started: When the run began, in seconds since 1970.
        with_samples: Whether samples were asked for; else the results file says so.
        name: Of the composite; None: the newest results file is the run's.
    """
    folder = _folder(output)
    found = _results_since(folder, started)
    if name is not None:
        found = [one for one in found if (one.get("config") or {}).get("eft_name") == name]
    if not found:
        return f"the run wrote no results file below {folder}; see the log above"
    results = found[-1]
    if not (with_samples or results.get("task_hashes")):
        return None
    for task, counts in results.get("n-samples", {}).items():
        files = [
            f for f in folder.glob(f"**/samples_{task}_*.jsonl") if f.stat().st_mtime >= started - 1
        ]
        lines = max((sum(1 for _ in f.open(encoding="utf-8")) for f in files), default=0)
        if lines < counts["effective"]:
            return f"task {task}: the samples files hold {lines} of {counts['effective']} samples"
    return None


def _folder(output: Path) -> Path:
    return output.parent if output.suffix == ".json" else output


def _results_since(folder: Path, started: float) -> list[dict[str, Any]]:
    """Return the results files below a folder that were written since then, by age."""
    written = [(file.stat().st_mtime, file) for file in folder.glob("**/*.json")]
    new = [file for when, file in sorted(written) if when >= started - 1]
    return [one for file in new if (one := _results(file)) is not None]


def _results(file: Path) -> dict[str, Any] | None:
    """Return a results file's content; None for what is none, or is cut off."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) and "results" in content else None


def differing_counts(name: str, sizes: Mapping[str, int], documents: int | None) -> Iterator[str]:
    """Yield how a samples file's numbers of documents differ from what they must be.

    Args:
        name: The file's name.
        sizes: Documents by filter.
        documents: How many the results speak of; None where they do not say, and then all filters
            must have as many as the largest.
    """
    wanted = documents if documents is not None else max(sizes.values(), default=0)
    if not sizes and wanted:
        yield f"{name} holds no samples; the results speak of {wanted} documents"
    for pipeline, size in sizes.items():
        if size < wanted:
            yield f"{name} lacks {wanted - size} of {wanted} documents under filter {pipeline!r}"
        elif size > wanted:
            yield (
                f"{name} holds {size} documents under filter {pipeline!r}; the results speak of "
                f"{wanted}"
            )


def _counts(task: TaskRun) -> Iterator[str]:
    name = task.samples_file.name if task.samples_file else ""
    sizes = {pipeline.name: len(pipeline.items) for pipeline in task.pipelines.values()}
    yield from differing_counts(name, sizes, task.documents)
    for key in task.columns:
        if sizes and key.filter not in sizes:
            yield f"{name} has no line of filter {key.filter!r}, which {key} is computed on"


def _hash(task: TaskRun, read: SamplesRead, expected: str | None) -> Iterator[str]:
    if expected is not None and read.task_hash != expected and task.samples_file is not None:
        yield (
            f"{task.samples_file.name} is not what {task.results_file.name} was computed from: "
            "documents, prompts or targets differ (task_hashes)"
        )


def _means(task: TaskRun, read: SamplesRead) -> Iterator[Problem]:
    of_all = {
        one["metric"]: _OF_ALL[one["aggregation"]]
        for one in task.config.get("metric_list") or []
        if isinstance(one.get("aggregation"), str) and one["aggregation"] in _OF_ALL
    }
    for key, column in task.columns.items():
        where = (key.filter, key.metric)
        if column.infinite and not column.is_mean and column.values:
            text = (
                f"{task.name}: {key} is left out: its mean is no finite number, as "
                f"{column.unusual} of {len(column.values)} values are NaN or infinite"
            )
            yield Problem("note", task.name, text)
            continue
        if odd := read.unusual.get(where):
            text = f"{task.name}: {odd} value(s) of {key} are NaN or infinite, and count as missing"
            yield Problem("note", task.name, text)
        if column.is_mean:
            if not same_mean(column.reported, column.values):
                numbers = [value for value in column.values if value is not None]
                mean = _mean(numbers) if numbers else math.nan
                shown = "no number" if column.reported is None else f"{column.reported:.6g}"
                text = (
                    f"{task.name}: {key} is reported as {shown}, the samples give {mean:.6g} over "
                    f"{len(numbers)} documents"
                )
                yield Problem("error", task.name, text)
        elif key.metric in of_all:
            text = f"{task.name}: {key} rests on {of_all[key.metric]}: not paired"
            yield Problem("note", task.name, text)
        elif where not in read.values and where not in read.compound:
            if read.pipelines:
                text = f"{task.name}: {key} is reported, but no sample has it"
                yield Problem("error", task.name, text)
        else:
            why = "not all its values are numbers" if where in read.compound else "it is no mean"
            text = f"{task.name}: {key} cannot be paired: {why}"
            yield Problem("note", task.name, text)


def _mean(numbers: Sequence[float]) -> float:
    return math.fsum(one / len(numbers) for one in numbers)  # their sum may be beyond a float


def _largest(numbers: Sequence[float]) -> float:
    return max(map(abs, numbers))
