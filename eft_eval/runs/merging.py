"""New judging beside old: what of a results file stays, and what no longer holds.

Pure functions on a results file's content, in lm-eval's layout; reads and writes no file.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import Any

__all__ = [
    "drop_group_means",
    "is_bypassed",
    "kept_judges",
    "list_metrics",
    "only",
    "without",
]

Record = dict[str, Any]
_log = logging.getLogger("eft_eval.judging")

_BYPASS = "bypass"  # lm-eval's metric of --predict_only
_CORRECTED = ("_ppi", "_ppi_stderr")  # what `eft-eval correct` adds


def is_bypassed(line: Mapping[str, Any]) -> bool:
    """Whether a sample line is a response of ``--predict_only``, which nobody scored."""
    return _BYPASS in (line.get("metrics") or ())


def without(results: Record, task: str, pipelines: Collection[str]) -> Record:
    """Make a task's entry without the metrics of some pipelines, and return it.

    Where labels corrected one of these metrics, all corrections of the run go: they were of the
    old verdicts.
    """
    old = results["results"][task]
    entry = {key: value for key, value in old.items() if not _belongs(key, pipelines)}
    results["results"][task] = entry
    if any(_metric(key).endswith(_CORRECTED) for key in old.keys() - entry.keys()):
        results.pop("eft_corrected", None)
        for other in results["results"].values():
            for key in [key for key in other if _metric(key).endswith(_CORRECTED)]:
                del other[key]
    return entry


def only(entry: Mapping[str, Any], pipelines: Collection[str]) -> Record:
    """Return a task's entry with the metrics of these pipelines only, and all that is no metric."""
    return {
        key: value
        for key, value in entry.items()
        if "," not in key or key.partition(",")[2] in pipelines
    }


def list_metrics(
    results: Record, task: str, entry: Mapping[str, Any], better: Mapping[str, bool]
) -> None:
    """List a task's metrics, new ones after those that stayed.

    Args:
        results: The results file's content.
        task: The task.
        entry: All its metrics.
        better: The new ones, and whether higher is better.
    """
    present = {_metric(key) for key in entry}
    config = results["configs"][task]
    kept = [
        one
        for one in config.get("metric_list") or []
        if one.get("metric") in present and one.get("metric") not in better
    ]
    config["metric_list"] = kept + [
        {"metric": name, "aggregation": "scored_mean", "higher_is_better": higher}
        for name, higher in better.items()
    ]
    directions = results.setdefault("higher_is_better", {})
    old = directions.get(task) or {}
    directions[task] = {
        **{name: higher for name, higher in old.items() if name in present},
        **better,
    }


def kept_judges(
    old: Mapping[str, Any] | None, judged: Collection[str], file: str
) -> dict[str, Record]:
    """Return who gave the verdicts that stay, by pipeline.

    Args:
        old: What the file before says of its judge, if it has one.
        judged: Pipelines judged now.
        file: That file's name, where all else about the judge is.
    """
    old = old or {}
    kept: dict[str, Record] = {**old.get("kept", {})}
    for name, prompt in (old.get("prompts") or {}).items():
        kept[name] = {
            "model": old["model"],
            "endpoint": old.get("endpoint"),
            "parameters": old.get("parameters"),
            "prompt": prompt,
            "measure": (old.get("measures") or {}).get(name),
            "described_in": file,
        }
    return {name: one for name, one in kept.items() if name not in judged}


def drop_group_means(results: Record, judged: Mapping[str, Collection[str]]) -> None:
    """Leave out the means over groups that hold a judged task: they are of the old verdicts.

    Args:
        results: The results file's content.
        judged: Per task the pipelines judged now.
    """
    subtasks: Mapping[str, list[str]] = results.get("group_subtasks") or {}
    for group in subtasks:
        below = _below(group, subtasks)
        pipelines = {name for task in below for name in judged.get(task, ())}
        if group in judged or not pipelines:
            continue
        dropped = set()
        for table in ("results", "groups"):
            entry = results.get(table, {}).get(group)
            for key in [key for key in entry or () if _belongs(key, pipelines)]:
                del entry[key]
                dropped.add(_metric(key))
        if dropped:
            _log.warning("group %s: its means are of the old verdicts and are left out", group)


def _below(group: str, subtasks: Mapping[str, list[str]]) -> set[str]:
    found: set[str] = set()
    waiting = [group]
    while waiting:
        for name in subtasks.get(waiting.pop()) or ():
            if name not in found:
                found.add(name)
                waiting.append(name)
    return found


def _metric(key: str) -> str:
    return key.partition(",")[0]


def _belongs(key: str, pipelines: Collection[str]) -> bool:
    """Whether a key is of a metric of these pipelines, or of one that stands for none."""
    metric, comma, pipeline = key.partition(",")
    return bool(comma) and (pipeline in pipelines or metric.removesuffix("_stderr") == _BYPASS)
