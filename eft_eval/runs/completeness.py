"""Is a task's record whole? Aggregates against the samples, documents against their number."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from eft_eval.runs.records import (
    CORRECTED,
    LENGTH_CONTROLLED,
    Column,
    Group,
    MetricKey,
    Problem,
    TaskRun,
)
from eft_eval.runs.samples import Numbers, SamplesRead

__all__ = [
    "check_groups",
    "check_task",
    "differing_counts",
    "differing_figures",
    "differing_hash",
    "newest_results",
    "same_mean",
    "unwritten",
]

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


def check_groups(groups: Mapping[str, Group], tasks: Mapping[str, TaskRun]) -> Iterator[Problem]:
    """Yield notes on groups' figures that are beyond those of all their tasks: no mean of them."""
    for group in groups.values():
        if not group.tasks or not all(name in tasks for name in group.tasks):
            continue
        for key, column in group.columns.items():
            columns = [tasks[name].columns.get(key) for name in group.tasks]
            of_tasks = [one.reported for one in columns if one is not None]
            known = [value for value in of_tasks if value is not None]
            if column.reported is None or not known or len(known) < len(of_tasks):
                continue
            low, high = min(known), max(known)
            slack = _RELATIVE * _largest(known)
            if not low - slack <= column.reported <= high + slack:
                yield Problem(
                    "note",
                    None,
                    f"group {group.name!r}: {key} is {column.reported:.6g}, and its tasks have "
                    f"{low:.6g} to {high:.6g}: no mean of these",
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
    if read.pipelines:
        wrong = differing_figures(task.name, task.config, task.columns, read.numbers)
        found += [Problem("error", task.name, text) for text in wrong]
    found += _unpaired(task, read)
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
        lines = max(map(_whole_lines, files), default=0)
        if lines < counts["effective"]:
            return f"task {task}: the samples files hold {lines} of {counts['effective']} samples"
    return None


def _whole_lines(file: Path) -> int:
    """Return the number of lines of a file; the last of a full disk may lack its end."""
    with file.open("rb") as lines:
        return sum(line.endswith(b"\n") for line in lines)


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


def differing_hash(samples: Path, results: Path) -> str:
    """Return how it is said that a samples file has not the hash that its results file has."""
    return (
        f"{samples.name} is not what {results.name} was computed from: documents, prompts or "
        "targets differ (task_hashes)"
    )


def differing_figures(
    task: str, config: Mapping[str, Any], columns: Mapping[MetricKey, Column], numbers: Numbers
) -> Iterator[str]:
    """Yield which figures cannot be those of a samples file: other means, metrics that it lacks.

    Args:
        task: The task's name.
        config: Its configuration.
        columns: Its metrics.
        numbers: What the samples file holds.
    """
    of_all, held = _of_all(config), numbers.values.keys() | numbers.compound
    for key, column in columns.items():
        where = (key.filter, key.metric)
        if column.is_mean and not same_mean(column.reported, column.values):
            known = [value for value in column.values if value is not None]
            mean = _mean(known) if known else math.nan
            shown = "no number" if column.reported is None else f"{column.reported:.6g}"
            yield (
                f"{task}: {key} is reported as {shown}, the samples give {mean:.6g} over "
                f"{len(known)} documents"
            )
        elif where not in held and key.metric not in of_all and column.reported is not None:
            yield f"{task}: {key} is reported, but no sample has it"


def _of_all(config: Mapping[str, Any]) -> dict[str, str]:
    """Return what metrics rest on that no document has."""
    return {
        one["metric"]: _OF_ALL[one["aggregation"]]
        for one in config.get("metric_list") or ()
        if isinstance(one.get("aggregation"), str) and one["aggregation"] in _OF_ALL
    }


def _hash(task: TaskRun, read: SamplesRead, expected: str | None) -> Iterator[str]:
    if expected is not None and read.task_hash != expected and task.samples_file is not None:
        yield differing_hash(task.samples_file, task.results_file)


def _unpaired(task: TaskRun, read: SamplesRead) -> Iterator[Problem]:
    """Yield why figures are left out or cannot be paired."""
    of_all = _of_all(task.config)
    numbers = read.numbers
    for key, column in task.columns.items():
        where = (key.filter, key.metric)
        text = ""
        if column.infinite and not column.is_mean and column.values:
            text = (
                f"{key} is left out: its mean is no finite number, as {column.unusual} of "
                f"{len(column.values)} values are NaN or infinite"
            )
        elif column.reported is None and where not in numbers.values.keys() | numbers.compound:
            text = f"{key} is left out: it is reported as no number, and no sample has it"
        elif key.metric in of_all and not column.is_mean:
            text = f"{key} rests on {of_all[key.metric]}: not paired"
        elif where in numbers.compound:
            text = f"{key} cannot be paired: not all its values are numbers"
        elif where in numbers.values:
            if odd := numbers.unusual.get(where):
                text = f"{odd} value(s) of {key} are NaN or infinite, and count as missing"
                yield Problem("note", task.name, f"{task.name}: {text}")
            text = "" if column.is_mean else f"{key} cannot be paired: it is no mean"
        if text:
            yield Problem("note", task.name, f"{task.name}: {text}")


def _mean(numbers: Sequence[float]) -> float:
    return math.fsum(one / len(numbers) for one in numbers)  # their sum may be beyond a float


def _largest(numbers: Sequence[float]) -> float:
    return max(map(abs, numbers))
