"""Baselines: an accepted run as one small file for the repository, without any texts.

Aggregates, and per document its hash, its prompt's hash and its numbers: all that a paired
comparison needs. Only `bless` writes them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from eft_eval.errors import ConfigError
from eft_eval.records import finite_number
from eft_eval.runs.completeness import same_mean
from eft_eval.runs.conditions import conditions_of
from eft_eval.runs.records import (
    Column,
    Group,
    ItemSeen,
    JudgeSeen,
    MetricKey,
    Pipeline,
    Problem,
    Run,
    TaskRun,
)

__all__ = ["baseline_lines", "incomplete_filters", "is_baseline", "run_of_baseline"]

FORMAT = "eft-eval baseline"
VERSION = 1


def is_baseline(content: Any) -> bool:
    """Whether a parsed JSON file is a baseline."""
    return isinstance(content, dict) and content.get("format") == FORMAT


def run_of_baseline(content: Mapping[str, Any], path: Path) -> Run:
    """Return a parsed baseline as a run.

    Raises:
        ConfigError: It is of a later version, or damaged.
    """
    if content.get("version") != VERSION:
        raise ConfigError(
            f"{path} is a baseline of version {content.get('version')!r}; this eft-eval reads "
            f"version {VERSION}: bless the run again, or install the eft-eval that wrote it"
        )
    try:
        tasks = {name: _task(name, task, path) for name, task in content["tasks"].items()}
        groups = {name: _group(name, one) for name, one in content.get("groups", {}).items()}
        notes = tuple(Problem("note", None, str(text)) for text in content["notes"])
        notes += tuple(
            Problem("note", None, f"was blessed incomplete: {where}: {text}")
            for where, text in content.get("incomplete", {}).items()
        )
        model, date = str(content["model"]), str(content["date"])
        version = str(content["lm_eval_version"])
        conditions = {str(k): str(v) for k, v in content.get("conditions", {}).items()}
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"{path} is a damaged baseline ({error!r}); bless the run again"
        ) from error
    return Run(
        label=str(path),
        model=model,
        date=date,
        lm_eval_version=version,
        tasks=tasks,
        groups=groups,
        problems=notes,
        kind="baseline",
        conditions=conditions,
    )


def baseline_lines(run: Run, cluster: str) -> Iterator[str]:
    """Yield a run as JSON with one line per document, so that a change of it can be read.

    Args:
        run: With the tasks to keep; the same run gives the same text.
        cluster: What makes items dependent, kept in the baseline.
    """
    content: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "model": run.model,
        "date": run.date,
        "lm_eval_version": run.lm_eval_version,
        "cluster": cluster,
        "notes": [problem.text for problem in run.problems if run.kind == "run"],
    }
    if incomplete := incomplete_filters(run):
        content["incomplete"] = incomplete
    if run.kind == "run" or run.conditions:
        content["conditions"] = conditions_of(run)
    if groups := _groups_of(run, run.tasks):
        content["groups"] = groups
    content["tasks"] = _Lines({name: _Lines(_facts(task)) for name, task in run.tasks.items()})
    yield from _written(_Lines(content))
    yield "\n"


def incomplete_filters(run: Run) -> dict[str, str]:
    """Return what lacks verdicts, by task and filter; nothing where every response has one."""
    found = {}
    for task in run.tasks.values():
        for name, pipeline in task.pipelines.items():
            counts = pipeline.verdicts or {}
            if missing := counts.get("api_error", 0):
                total = sum(counts.values())
                found[f"{task.name}, {name}"] = f"{missing} of {total} responses have no verdict"
    return found


@dataclass(frozen=True)
class _Lines:
    """A JSON object or array of which each member stands on a line of its own."""

    members: Mapping[str, Any] | Sequence[Any]


def _written(value: Any, depth: int = 0) -> Iterator[str]:
    """Yield a value as JSON, on one line but for `_Lines`; the outer two levels do not indent."""
    if not isinstance(value, _Lines):
        yield _json(value)
        return
    opening, closing = "[", "]"
    members: Iterable[tuple[str, Any]] = (("", member) for member in value.members)
    if isinstance(value.members, Mapping):
        opening, closing = "{", "}"
        members = ((f"{_json(key)}: ", member) for key, member in value.members.items())
    yield f"{opening}\n"
    for number, (name, member) in enumerate(members):
        yield (",\n" if number else "") + " " * (depth - 1) + name
        yield from _written(member, depth + 1)
    yield "\n" + " " * (depth - 2) + closing


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _facts(task: TaskRun) -> dict[str, Any]:
    return {
        "version": task.version,
        "shots": task.shots,
        "repeats": task.repeats,
        "documents": task.documents,
        "generation": task.generation,
        "bypassed": task.bypassed,
        "filters": _Lines({name: _filter(task, one) for name, one in task.pipelines.items()}),
    }


def _column_facts(column: Column) -> dict[str, Any]:
    return {
        "value": column.reported,
        "standard_error": column.reported_error,
        "higher_is_better": column.higher_is_better,
        "paired": column.is_mean,
    }


def _groups_of(run: Run, tasks: Mapping[str, TaskRun]) -> dict[str, Any]:
    """Return the groups whose tasks are all kept."""
    kept = {name: one for name, one in run.groups.items() if {*one.tasks} <= tasks.keys()}
    return {
        name: {
            "tasks": one.tasks,
            "metrics": {str(key): _column_facts(column) for key, column in one.columns.items()},
        }
        for name, one in kept.items()
    }


def _filter(task: TaskRun, pipeline: Pipeline) -> _Lines:
    columns = [c for key, c in task.columns.items() if key.filter == pipeline.name]
    paired = [column for column in columns if column.is_mean]
    rows = []
    for index, item in sorted(enumerate(pipeline.items), key=lambda pair: pair[1].doc_hash):
        values = [_short(column.values[index]) for column in paired]
        cluster = None if item.cluster == item.prompt_hash else item.cluster
        rows.append([item.doc_hash, item.prompt_hash, cluster, *values])
    names = [column.key.metric for column in paired]
    return _Lines(
        {
            "verdicts": pipeline.verdicts,
            "repeats": pipeline.repeats,
            "judge": pipeline.judge and vars(pipeline.judge),
            "metrics": _Lines({c.key.metric: _column_facts(c) for c in columns}),
            "columns": ["doc_hash", "prompt_hash", "cluster", *names],
            "items": _Lines(rows),
        }
    )


def _short(value: float | None) -> float | int | None:
    return int(value) if value is not None and value.is_integer() else value


def _task(name: str, content: Mapping[str, Any], path: Path) -> TaskRun:
    columns: dict[MetricKey, Column] = {}
    pipelines: dict[str, Pipeline] = {}
    for filter_name, one in content["filters"].items():
        rows = one["items"]
        items = tuple(_item(number, *row[:3]) for number, row in enumerate(rows))
        if content["documents"] not in (None, len(items)):
            raise ValueError(f"{name} holds {len(items)} of {content['documents']} documents")
        judge = None
        if one["judge"] is not None:
            returned = tuple(one["judge"]["returned"])
            judge = JudgeSeen(**{**one["judge"], "returned": returned})
        pipelines[filter_name] = Pipeline(
            filter_name, items, _counts(one["verdicts"]), judge, one["repeats"]
        )
        positions = {metric: place for place, metric in enumerate(one["columns"])}
        for metric, facts in one["metrics"].items():
            values: tuple[float | None, ...] = ()
            if facts["paired"]:
                values = tuple(_float(row[positions[metric]]) for row in rows)
            column = _column(MetricKey(metric, filter_name), facts, values)
            if column.is_mean and not same_mean(column.reported, values):
                raise ValueError(f"{name}: {column.key} is {column.reported}, not its items' mean")
            columns[column.key] = column
    return TaskRun(
        name=name,
        version=content["version"],
        shots=content["shots"],
        repeats=content["repeats"],
        documents=content["documents"],
        generation=content["generation"],
        bypassed=content["bypassed"],
        columns=columns,
        pipelines=pipelines,
        results_file=path,
        samples_file=None,
    )


def _counts(value: Any) -> Mapping[str, int] | None:
    if value is not None and not all(type(one) is int and one >= 0 for one in value.values()):
        raise ValueError(f"{value!r:.200} are no counts of verdicts")
    return cast("Mapping[str, int] | None", value)


def _item(number: int, doc_hash: Any, prompt_hash: Any, cluster: Any) -> ItemSeen:
    word = prompt_hash if cluster is None else cluster
    if not all(isinstance(text, str) for text in (doc_hash, prompt_hash, word)):
        raise ValueError(f"item {number} has no hashes")
    return ItemSeen(number, doc_hash, prompt_hash, word)


def _column(key: MetricKey, facts: Mapping[str, Any], values: tuple[float | None, ...]) -> Column:
    better = facts["higher_is_better"]
    if better is not None and not isinstance(better, bool):
        raise ValueError(f"{key}: higher_is_better is {better!r}")
    reported, error = _float(facts["value"]), _float(facts["standard_error"])
    return Column(key, reported, error, better, values, bool(facts["paired"]))


def _group(name: str, content: Mapping[str, Any]) -> Group:
    columns = {}
    for text, facts in content["metrics"].items():
        key = MetricKey(*text.split(",", 1))
        columns[key] = _column(key, facts, ())
    return Group(name, tuple(content["tasks"]), columns)


def _float(value: Any) -> float | None:
    number = finite_number(value)
    if number is None and value is not None:
        raise ValueError(f"{value!r} is no number")
    return number
