"""New results and samples files beside the old, in lm-eval's layout: the one writer of run files.

A results file is made anew as a whole: metrics are replaced, and what rested on the old ones goes
with them. No file that is there is changed. Imports neither lm_eval nor torch.
"""

from __future__ import annotations

import copy
import functools
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from eft_eval.errors import ConfigError
from eft_eval.files import write_lines, write_whole
from eft_eval.runs.belonging import find_samples, samples_path
from eft_eval.runs.finding import stamp_of
from eft_eval.runs.records import CORRECTED, MetricKey, ResultsFile
from eft_eval.streams import logger

__all__ = ["NewMetric", "Revision", "check_writable"]

Record = dict[str, Any]
_log = logger("eft_eval.runs")
_ERROR = "_stderr"
_MICROSECOND = timedelta(microseconds=1)


class NewMetric(NamedTuple):
    """A metric to be written.

    Attributes:
        key: Metric and filter.
        value: The aggregate.
        error: Its standard error; None where there is none.
        higher_is_better: Its direction; None for a metric that has none.
        aggregation: How it was made of the documents' values, in lm-eval's words or ours.
    """

    key: MetricKey
    value: float
    error: float | None
    higher_is_better: bool | None
    aggregation: str


class Revision:
    """A results file in the making, out of an old one.

    The new files have one date, as lm-eval's files of one run have: the present time, or, where
    there is a newer results file than the old one, the moment after the old one's. So a revision
    takes the place of what it revises, and of nothing else.

    Attributes:
        old: The file that it revises.
        file: What the new one will be called.
        content: What will be written; the old file's content stays as it is.
    """

    def __init__(self, old: ResultsFile, files: Iterable[ResultsFile]) -> None:
        """Begin a revision.

        Args:
            old: The results file to revise.
            files: All results files of the run; those that are newer stay newer.
        """
        self.old = old
        self._date = _new_date(old, files)
        self.file = old.path.with_name(f"results_{self._date}.json")
        self.content: Record = copy.deepcopy(dict(old.content))
        self._replaced: dict[str, Callable[[MetricKey], bool]] = {}

    def config(self, task: str) -> Record:
        """Return the new configuration of a task, to be changed."""
        config: Record = self.content["configs"][task]
        return config

    def entry(self, task: str) -> Record:
        """Return the new aggregates of a task."""
        entry: Record = self.content["results"][task]
        return entry

    def replace(
        self, task: str, replaced: Callable[[MetricKey], bool], new: Sequence[NewMetric]
    ) -> None:
        """Put metrics in the place of others.

        Corrections by labels go, all of this file's, where one of them corrected a metric that is
        replaced: they were of the old values. So do the means over groups that hold the task.

        Args:
            task: The task.
            replaced: Which metrics go.
            new: Which come; listed after those that stay.
        """
        gone = self._drop(task, replaced)
        if gone & self._corrections(task):
            self.drop_corrections()
        self._forget(task, gone)
        entry, config = self.entry(task), self.config(task)
        names = {one.key.metric for one in new}
        kept = [one for one in config.get("metric_list") or [] if one.get("metric") not in names]
        listed: dict[str, Record] = {}
        directions = self.content.setdefault("higher_is_better", {})
        directions[task] = directions.get(task) or {}
        for one in new:
            metric = one.key.metric
            entry[str(one.key)] = one.value
            entry[f"{metric}{_ERROR},{one.key.filter}"] = "N/A" if one.error is None else one.error
            directions[task][metric] = one.higher_is_better
            listed[metric] = {
                "metric": metric,
                "aggregation": one.aggregation,
                "higher_is_better": one.higher_is_better,
            }
        config["metric_list"] = [*kept, *listed.values()]
        self._replaced[task] = replaced

    def drop_corrections(self) -> None:
        """Leave out what `eft-eval correct` wrote."""
        self.content.pop("eft_corrected", None)
        for task in self.content["configs"]:
            names = self._corrections(task)
            if names and task in self.content["results"]:
                self._drop(task, lambda key, names=names: key.metric in names)  # type: ignore[misc]
                self._forget(task, names)

    def write(self, samples: Mapping[str, Iterable[Record]] | None = None) -> None:
        """Write the new files, the results last: a results file stands for a complete run.

        Args:
            samples: By task its new lines; the samples of the file's other tasks are copied.

        Raises:
            ConfigError: A file cannot be written.
        """
        self._drop_group_means()
        for task in self.content["configs"]:
            new = samples_path(self.old.path, task, self._date)
            if samples and task in samples:
                write_lines(new, (_as_json(line) + "\n" for line in samples[task]))
            elif (old := find_samples(self.old, task)) is not None:
                write_whole(new, functools.partial(shutil.copyfile, old))
        write_lines(self.file, [_as_json(self.content, indent=2)])

    def _drop(self, task: str, replaced: Callable[[MetricKey], bool]) -> set[str]:
        """Leave metrics out of a task's aggregates; return the names of those that are gone."""
        entry = self.entry(task)
        dropped = [name for name in entry if (key := _key_of(name)) and replaced(key)]
        for name in dropped:
            del entry[name]
        left = {key.metric for name in entry if (key := _key_of(name))}
        return {key.metric for name in dropped if (key := _key_of(name))} - left

    def _forget(self, task: str, gone: set[str]) -> None:
        """Leave metrics out of a task's lists."""
        config = self.config(task)
        if config.get("metric_list"):
            config["metric_list"] = [
                one for one in config["metric_list"] if one.get("metric") not in gone
            ]
        directions = (self.content.get("higher_is_better") or {}).get(task) or {}
        for name in gone & directions.keys():
            del directions[name]

    def _corrections(self, task: str) -> set[str]:
        listed = (self.content["configs"][task] or {}).get("metric_list") or []
        return {str(one["metric"]) for one in listed if one.get("aggregation") == CORRECTED}

    def _drop_group_means(self) -> None:
        """Leave out the means over groups that hold a revised task: they are of the old metrics."""
        subtasks: Mapping[str, list[str]] = self.content.get("group_subtasks") or {}
        for group in subtasks:
            rules = [self._replaced[t] for t in _below(group, subtasks) if t in self._replaced]
            if group in self._replaced or not rules:
                continue
            dropped = False
            for table in ("results", "groups"):
                entry = self.content.get(table, {}).get(group) or {}
                names = [name for name in entry if (key := _key_of(name)) and _any(rules, key)]
                for name in names:
                    del entry[name]
                dropped = dropped or bool(names)
            if dropped:
                _log.warning("group %s: its means are of the old verdicts and are left out", group)


def check_writable(files: Iterable[ResultsFile]) -> None:
    """Check before any work that these files can be revised.

    Raises:
        ConfigError: The folder of one cannot be written.
    """
    for folder in dict.fromkeys(file.path.parent for file in files):
        if not os.access(folder, os.W_OK | os.X_OK):
            raise ConfigError(
                f"the run's folder {folder} is write-protected, and new files are written beside "
                "the old; make it writable, or give a copy of the run"
            )


def _as_json(content: Record, indent: int | None = None) -> str:
    return json.dumps(content, indent=indent, ensure_ascii=False)


def _any(rules: Iterable[Callable[[MetricKey], bool]], key: MetricKey) -> bool:
    return any(rule(key) for rule in rules)


def _key_of(name: str) -> MetricKey | None:
    """Return the metric that a name in the results belongs to, as value or as standard error."""
    metric, comma, filter_name = name.partition(",")
    return MetricKey(metric.removesuffix(_ERROR), filter_name) if comma else None


def _below(group: str, subtasks: Mapping[str, list[str]]) -> set[str]:
    found: set[str] = set()
    waiting = [group]
    while waiting:
        for name in subtasks.get(waiting.pop()) or ():
            if name not in found:
                found.add(name)
                waiting.append(name)
    return found


def _new_date(old: ResultsFile, files: Iterable[ResultsFile]) -> str:
    """Return a local time as lm-eval writes it, later than the old file's; see `Revision`."""
    now = datetime.now()
    if old.date:
        day, time = old.date.split("T")
        after = datetime.fromisoformat(f"{day}T{time.replace('-', ':')}") + _MICROSECOND
        beside = (stamp_of(path) for path in old.path.parent.glob("results_*.json"))
        dates = {*filter(None, beside), *(file.date for file in files)}
        shadows = any(date > old.date for date in dates)
        now = after if shadows else max(now, after)
    while True:
        date = now.isoformat(timespec="microseconds").replace(":", "-")
        if not old.path.with_name(f"results_{date}.json").exists():
            return date
        now += _MICROSECOND
