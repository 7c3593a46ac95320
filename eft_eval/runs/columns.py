"""The figures of a results file as typed records: columns of tasks, and groups of tasks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from eft_eval.records import finite_number
from eft_eval.runs.completeness import same_mean
from eft_eval.runs.lines import NO_FILTER
from eft_eval.runs.records import BYPASS, CORRECTED, LENGTH_CONTROLLED, Column, Group, MetricKey
from eft_eval.runs.samples import Numbers

__all__ = ["columns_of", "filters_of", "groups_of", "is_mean", "reported"]

_MEANS = {"mean", "nanmean", "scored_mean"}
_NO_MEANS = {
    "median", "perplexity", "weighted_perplexity", "bits_per_byte", "f1", "matthews_corrcoef",
    "bleu", "chrf", "ter", "brier_score", CORRECTED,
    LENGTH_CONTROLLED,
}  # fmt: skip
_MEANS_BY_NAME = {"acc", "acc_norm", "acc_mutual_info", "exact_match"}


def reported(entry: Mapping[str, Any]) -> Iterator[tuple[MetricKey, Any]]:
    """Yield the aggregates of one entry of ``results`` as they stand."""
    for name, value in entry.items():
        metric, comma, filter_name = name.partition(",")
        if comma and not metric.endswith("_stderr") and metric != BYPASS:
            yield MetricKey(metric, filter_name), value


def filters_of(content: Mapping[str, Any], task: str) -> tuple[str, ...]:
    """Return the names of a task's filters in order, for samples that do not say theirs."""
    entry = content["results"].get(task) or {}
    in_results = dict.fromkeys(name.partition(",")[2] for name in entry if "," in name)
    listed = [str(one["name"]) for one in content["configs"][task].get("filter_list") or ()]
    if listed and {*listed} == {*in_results}:
        return tuple(listed)
    return tuple(in_results) or NO_FILTER


def is_mean(metric: str, declared: Any) -> bool | None:
    """Whether the aggregate is a mean; None where the configuration does not tell.

    A median of equal numbers equals their mean, and is no mean all the same. A function is there
    as its source, which tells only if it is one of ours.

    Args:
        metric: Its name.
        declared: The aggregation, as the task's configuration has it; None where it has none.
    """
    if declared is None:
        return metric in _MEANS_BY_NAME or None
    text = str(declared)
    if text in _MEANS or text.startswith(tuple(f"def {name}(" for name in _MEANS)):
        return True
    return False if text in _NO_MEANS else None


def columns_of(
    content: Mapping[str, Any], task: str, read: Numbers | None
) -> dict[MetricKey, Column]:
    """Return a task's metrics.

    Args:
        content: The results file.
        task: The task's name.
        read: What its samples hold; None without.
    """
    entry: Mapping[str, Any] = content["results"][task]
    listed = {one["metric"]: one for one in content["configs"][task].get("metric_list") or ()}
    better = _directions(content, task)
    columns = {}
    for key, given in reported(entry):
        where = (key.filter, key.metric)
        numbers = read.values.get(where, ()) if read else ()
        one = listed.get(key.metric) or {}
        known = is_mean(key.metric, one.get("aggregation"))
        number = finite_number(given)
        unusual = read.unusual.get(where, 0) if read else 0
        if number is None and unusual and any(value is not None for value in numbers):
            known = False  # of values that are no numbers; the others' mean is another figure
        direction = better.get(key.metric)
        columns[key] = Column(
            key=key,
            reported=number,
            reported_error=finite_number(entry.get(f"{key.metric}_stderr,{key.filter}")),
            higher_is_better=direction if isinstance(direction, bool) else None,
            values=numbers,
            is_mean=bool(numbers) and (same_mean(number, numbers) if known is None else known),
            unusual=unusual,
        )
    return columns


def groups_of(content: Mapping[str, Any]) -> dict[str, Group]:
    """Return the groups with figures of their own whose tasks are known."""
    children: Mapping[str, list[str]] = content.get("group_subtasks") or {}
    found = {}
    for name, entry in (content.get("groups") or {}).items():
        tasks = _leaves(name, children)
        columns = {}
        for key, value in reported(entry):
            error = finite_number(entry.get(f"{key.metric}_stderr,{key.filter}"))
            direction = _direction_of_group(content, name, tasks, key.metric)
            columns[key] = Column(key, finite_number(value), error, direction, (), False)
        if columns and tasks:
            documents = {key: _documents(content, entry, tasks, key) for key in columns}
            found[name] = Group(name, tasks, columns, documents)
    return found


def _directions(content: Mapping[str, Any], task: str) -> Mapping[str, Any]:
    """Return a task's directions by metric, as the file says them or its configuration."""
    if "higher_is_better" in content:  # since 0.4.3
        return content["higher_is_better"].get(task) or {}
    listed = (content["configs"].get(task) or {}).get("metric_list") or ()
    return {one["metric"]: one.get("higher_is_better") for one in listed}


def _direction_of_group(
    content: Mapping[str, Any], group: str, tasks: tuple[str, ...], metric: str
) -> bool | None:
    """Return a group's direction; before 0.4.3 that of its tasks, where they have but one."""
    if "higher_is_better" in content:
        found = [_directions(content, group).get(metric)]
    else:
        found = [of[metric] for task in tasks if metric in (of := _directions(content, task))]
    first = next(iter(found), None)
    return first if isinstance(first, bool) and all(one is first for one in found) else None


def _documents(
    content: Mapping[str, Any], entry: Mapping[str, Any], tasks: tuple[str, ...], key: MetricKey
) -> int | None:
    """Return how many documents a group's metric is of: lm-eval's count, else its tasks' sum.

    Tasks without the metric are not part of it.
    """
    counted = entry.get("sample_count")
    if isinstance(counted, Mapping) and isinstance(counted.get(str(key)), int):
        return int(counted[str(key)])
    total = 0
    for task in tasks:
        if str(key) not in (content["results"].get(task) or {}):
            continue
        number = ((content.get("n-samples") or {}).get(task) or {}).get("effective")
        if number is None:
            return None
        total += number
    return total or None


def _leaves(name: str, children: Mapping[str, list[str]]) -> tuple[str, ...]:
    inner = children.get(name) or []
    leaves = [leaf for child in inner for leaf in (_leaves(child, children) or (child,))]
    return tuple(dict.fromkeys(leaves))
