"""A new run in lm-eval's layout that is made of a saved one: tasks of its own, in a new folder.

Imports neither lm_eval nor torch.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from eft_eval.errors import ConfigError
from eft_eval.files import check_folder, make_folder, write_lines
from eft_eval.runs.belonging import samples_path
from eft_eval.runs.finding import read_json, stamp_of
from eft_eval.runs.records import ResultsFile
from eft_eval.runs.shape import no_results
from eft_eval.runs.writing import NewMetric

__all__ = ["NewTask", "check_run_folder", "write_derived"]

Record = dict[str, Any]
_OF_TASKS = ("versions", "n-shot")
_KEPT = (
    "config", "git_hash", "date", "lm_eval_version", "transformers_version", "upper_git_hash",
    "system_instruction", "system_instruction_sha", "fewshot_as_multiturn", "chat_template",
    "chat_template_sha",
)  # fmt: skip


class NewTask(NamedTuple):
    """A task of the new run.

    Attributes:
        name: Its name.
        of: The task of the old run that its documents are from.
        config: Its configuration.
        metrics: Its metrics.
        documents: How many documents it has.
        lines: Its samples, one for each document.
    """

    name: str
    of: str
    config: Record
    metrics: Sequence[NewMetric]
    documents: int
    lines: Iterable[Record]


def check_run_folder(folder: Path, model: str) -> None:
    """Check before any work that a run of this model can be written into a folder.

    Raises:
        ConfigError: It holds another model's run, is no folder, or cannot be written.
    """
    check_folder(folder)
    for path in sorted([*folder.glob("*.json"), *folder.glob("*/*.json")]):  # as runs are found
        try:
            content = read_json(path)
        except ConfigError:
            continue  # a file of somebody's own
        if no_results(content) is None and content.get("model_name") != model:
            where = path.relative_to(folder)
            raise ConfigError(f"{folder} holds another run ({where}); give a new folder: --out")


def write_derived(folder: Path, model: str, old: ResultsFile, tasks: Sequence[NewTask]) -> Path:
    """Write a results file and its samples files; return the results file, written last.

    Args:
        folder: Where; made if missing.
        model: What the run is of.
        old: The results file that the tasks are made of; how its model was run is kept.
        tasks: The new run's tasks.

    Raises:
        ConfigError: A file cannot be written.
    """
    make_folder(folder)
    content: Record = {
        "results": {one.name: _entry(one) for one in tasks},
        "group_subtasks": {one.name: [] for one in tasks},
        "configs": {one.name: one.config for one in tasks},
        **{key: _renamed(old.content.get(key), tasks) for key in _OF_TASKS},
        "n-samples": {one.name: _counts(old, one) for one in tasks},
        "higher_is_better": {
            one.name: {metric.key.metric: metric.higher_is_better for metric in one.metrics}
            for one in tasks
        },
        **{key: copy.deepcopy(old.content[key]) for key in _KEPT if key in old.content},
        "model_name": model,
    }
    date = _date(folder)
    file = folder / f"results_{date}.json"
    for one in tasks:
        lines = (json.dumps(line, ensure_ascii=False) + "\n" for line in one.lines)
        write_lines(samples_path(file, one.name, date), lines)
    write_lines(file, [json.dumps(content, indent=2, ensure_ascii=False)])
    return file


def _entry(task: NewTask) -> Record:
    entry: Record = {"alias": task.name}
    for one in task.metrics:
        entry[str(one.key)] = one.value
        error = "N/A" if one.error is None else one.error
        entry[f"{one.key.metric}_stderr,{one.key.filter}"] = error
    return entry


def _renamed(table: Any, tasks: Sequence[NewTask]) -> Record:
    found = table if isinstance(table, Mapping) else {}
    return {one.name: found[one.of] for one in tasks if one.of in found}


def _counts(old: ResultsFile, task: NewTask) -> dict[str, int]:
    counts = (old.content.get("n-samples") or {}).get(task.of) or {}
    return {"original": counts.get("original", task.documents), "effective": task.documents}


def _date(folder: Path) -> str:
    """Return the present local time as lm-eval writes it, later than that of any file there."""
    now = datetime.now()
    newest = max(filter(None, map(stamp_of, folder.glob("results_*.json"))), default=None)
    if newest is not None:
        day, time = newest.split("T")
        last = datetime.fromisoformat(f"{day}T{time.replace('-', ':')}")
        now = max(now, last + timedelta(microseconds=1))
    return now.isoformat(timespec="microseconds").replace(":", "-")
