"""Reading a run: results files and samples files to one typed record, with what is wrong in it."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from eft_eval.errors import ConfigError
from eft_eval.runs.baseline import is_baseline, run_of_baseline
from eft_eval.runs.completeness import check_task, same_mean
from eft_eval.runs.finding import as_results, read_json, task_hash
from eft_eval.runs.records import (
    CORRECTED,
    Column,
    Group,
    MetricKey,
    Problem,
    ResultsFile,
    Run,
    TaskRun,
)
from eft_eval.runs.samples import PROMPT, SamplesRead, finite_number, read_samples
from eft_eval.runs.saved import SavedRun, SavedTask, open_run

__all__ = ["read_run", "read_runs"]

_MEANS = {"mean", "nanmean", "scored_mean"}
_NO_MEANS = {
    "median", "perplexity", "weighted_perplexity", "bits_per_byte", "f1", "matthews_corrcoef",
    "bleu", "chrf", "ter", "brier_score", CORRECTED,
}  # fmt: skip
_MEANS_BY_NAME = {"acc", "acc_norm", "acc_mutual_info", "exact_match"}


def read_runs(sources: Iterable[str | Path], cluster: str = PROMPT) -> list[Run]:
    """Read several runs; see `read_run`."""
    return [read_run(source, cluster) for source in sources]


def read_run(source: str | Path, cluster: str = PROMPT) -> Run:
    """Read one model's run: a baseline file, a results file, a folder or a pattern.

    Where several results files are found, each task is that of the newest file that has it.

    Args:
        source: What to read; see `eft_eval.runs.finding.find_results`.
        cluster: What makes items dependent; see `eft_eval.runs.samples.read_samples`.

    Returns:
        The run. What is incomplete or contradicts itself is listed under `Run.problems`.

    Raises:
        ConfigError: There is no run there, or several models', or a file is damaged.
    """
    path = Path(source)
    run: SavedRun | None = None
    if os.path.isfile(path):  # a name too long is no file either
        content = read_json(path)
        if is_baseline(content):
            if content.get("cluster") != cluster:
                raise ConfigError(
                    f"{path} was blessed with items clustered by {content.get('cluster')!r}, asked "
                    f"is {cluster!r}; pass --cluster {content.get('cluster')}, or bless anew"
                )
            return run_of_baseline(content, path)
        run = SavedRun(str(source), [as_results(path, content)])
    run = run or open_run(source)
    newest = run.files[0]
    tasks: dict[str, TaskRun] = {}
    problems: list[Problem] = _older_files(run)
    for name, task in run.tasks.items():
        with _damage_in(task.file):
            tasks[name], wrong = _task(task, run.samples_file(task), cluster)
        problems += wrong
    with _damage_in(newest):
        groups = _groups(newest)
    return Run(
        label=str(source),
        model=newest.model,
        date=newest.date,
        lm_eval_version=str(newest.content.get("lm_eval_version") or ""),
        tasks=tasks,
        groups=groups,
        problems=tuple(problems),
        files=run.files,
    )


@contextlib.contextmanager
def _damage_in(file: ResultsFile) -> Iterator[None]:
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"{file.path} is a damaged results file ({error!r}); evaluate again"
        ) from error


def _older_files(run: SavedRun) -> list[Problem]:
    """Return a note per older results file that the run has tasks from."""
    notes = []
    for file in run.files[1:]:
        names = [task.name for task in run.tasks.values() if task.file is file]
        if names:
            text = f"from an older file, {file.path.name}: {', '.join(names)}"
            notes.append(Problem("note", None, text))
    return notes


def _task(
    saved: SavedTask, samples_file: Path | None, cluster: str
) -> tuple[TaskRun, list[Problem]]:
    name, config, content = saved.name, saved.config, saved.file.content
    read = read_samples(samples_file, cluster) if samples_file else None
    bypassed = any(one.get("metric") == "bypass" for one in config.get("metric_list") or [])
    shots = (content.get("n-shot") or {}).get(name, config.get("num_fewshot"))
    counts = (content.get("n-samples") or {}).get(name) or {}
    task = TaskRun(
        name=name,
        version=str((content.get("versions") or {}).get(name)),
        shots=shots if isinstance(shots, int) else None,
        repeats=int(config.get("repeats") or 1),
        documents=counts.get("effective"),
        generation=json.dumps(config.get("generation_kwargs"), sort_keys=True),
        bypassed=bypassed,
        columns=_columns(content, name, config, read),
        pipelines=read.pipelines if read else {},
        results_file=saved.file.path,
        samples_file=samples_file,
        config=config,
    )
    return task, check_task(task, read, task_hash(saved.file, name))


def _columns(
    content: Mapping[str, Any], task: str, config: Mapping[str, Any], read: SamplesRead | None
) -> dict[MetricKey, Column]:
    better = (content.get("higher_is_better") or {}).get(task) or {}
    listed = {one.get("metric"): one for one in config.get("metric_list") or []}
    columns = {}
    for key, value, error in _reported(content["results"][task]):
        numbers = read.values.get((key.filter, key.metric), ()) if read else ()
        declared = (listed.get(key.metric) or {}).get("aggregation")
        known = _is_mean(key.metric, declared)
        direction = better.get(key.metric)
        columns[key] = Column(
            key=key,
            reported=value,
            reported_error=error,
            higher_is_better=direction if isinstance(direction, bool) else None,
            values=numbers,
            is_mean=bool(numbers) and (same_mean(value, numbers) if known is None else known),
        )
    return columns


def _reported(entry: Mapping[str, Any]) -> list[tuple[MetricKey, float | None, float | None]]:
    """Return the aggregates of one entry of ``results``; "N/A" and NaN are None."""
    found = []
    for name, value in entry.items():
        metric, comma, filter_name = name.partition(",")
        if not comma or metric.endswith("_stderr") or metric == "bypass":
            continue
        error = finite_number(entry.get(f"{metric}_stderr,{filter_name}"))
        found.append((MetricKey(metric, filter_name), finite_number(value), error))
    return found


def _is_mean(metric: str, declared: Any) -> bool | None:
    """Whether the aggregate is a mean; None where the configuration does not tell.

    A median of equal numbers equals their mean, and is no mean all the same. A function is there
    as its source, which tells only if it is one of ours.
    """
    if declared is None:
        return metric in _MEANS_BY_NAME or None
    text = str(declared)
    if text in _MEANS or text.startswith(tuple(f"def {name}(" for name in _MEANS)):
        return True
    return False if text in _NO_MEANS else None


def _groups(file: ResultsFile) -> dict[str, Group]:
    content = file.content
    children: Mapping[str, list[str]] = content.get("group_subtasks") or {}
    found = {}
    for name, entry in (content.get("groups") or {}).items():
        better = (content.get("higher_is_better") or {}).get(name) or {}
        columns = {
            key: Column(key, value, error, better.get(key.metric), (), False)
            for key, value, error in _reported(entry)
        }
        if columns:
            found[name] = Group(name, _leaves(name, children), columns)
    return found


def _leaves(name: str, children: Mapping[str, list[str]]) -> tuple[str, ...]:
    inner = children.get(name) or []
    leaves = [leaf for child in inner for leaf in (_leaves(child, children) or (child,))]
    return tuple(dict.fromkeys(leaves))
