"""Which samples file belongs to a task of a results file: never guessed.

By the date in both names. Where there is no such file, by lm-eval's name of the time before dates
(0.4.0 to 0.4.2), or as the only file beside it with the same task hash whose values give every
reported mean; that is said. Several such files are an error that names them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from eft_eval.errors import ConfigError
from eft_eval.records import finite_number
from eft_eval.runs.columns import filters_of, is_mean, reported
from eft_eval.runs.completeness import same_mean
from eft_eval.runs.finding import stamp_of
from eft_eval.runs.lines import iter_samples
from eft_eval.runs.metadata import model_arguments
from eft_eval.runs.records import MetricKey, ResultsFile
from eft_eval.runs.samples import Numbers, read_samples

__all__ = [
    "Belonging", "find_samples", "packed_samples", "samples_of", "samples_path", "task_hash",
]  # fmt: skip

_PACKED = (".gz", ".bz2", ".xz", ".zst")


class Belonging(NamedTuple):
    """A samples file that belongs to a task of a results file.

    Attributes:
        path: The file.
        note: How that is known, where no date says so; empty where one does.
    """

    path: Path
    note: str = ""


def find_samples(file: ResultsFile, task: str) -> Path | None:
    """Return the samples file of a task; see `samples_of`."""
    found = samples_of(file, task)
    return found.path if found else None


def samples_of(file: ResultsFile, task: str) -> Belonging | None:
    """Return the samples file of a task that belongs to a results file; None where there is none.

    Raises:
        ConfigError: Several may be it.
    """
    stamp = stamp_of(file.path)
    if stamp:
        written = samples_path(file.path, task, stamp)
        for path in (written, written.with_suffix(".json")):  # so builds before 0.4.3 named it
            if path.is_file():
                return Belonging(path)
    expected = task_hash(file, task)
    if expected is None:
        return _named_as_of_old(file, task)
    dated = [] if stamp is None else _of_other_dates(file.path.parent, stamp)
    fitting = {
        path: None
        for path in sorted(file.path.parent.glob("*.jsonl"))
        if path.is_file() and path not in dated and _fits(path, file, task, expected)
    }
    kinds = {hashlib.sha256(path.read_bytes()).digest(): path for path in reversed([*fitting])}
    if len(kinds) > 1:
        several = ", ".join(path.name for path in sorted(kinds.values()))
        raise ConfigError(
            f"{file.path}: {len(kinds)} samples files fit task {task!r}: {several} (task hash and "
            "means are the same); keep each run in a folder of its own, or under lm-eval's names "
            "with its date"
        )
    for path in kinds.values():
        return Belonging(
            path,
            f"samples of {task!r} without a date: {path.name}, the only file beside "
            f"{file.path.name} with its task hash and its means",
        )
    return None


def samples_path(results: Path, task: str, date: str) -> Path:
    """Return where lm-eval puts a task's samples beside a results file of this date."""
    # no with_name: lm-eval writes none for a task with a slash, so there is no such folder
    return results.parent / f"samples_{task}_{date}.jsonl"


def packed_samples(file: ResultsFile, task: str) -> Path | None:
    """Return a task's samples file beside a results file that somebody compressed, if any."""
    stamp = stamp_of(file.path)
    path = samples_path(file.path, task, stamp) if stamp else None
    packed = [path.with_name(path.name + ending) for ending in _PACKED] if path else []
    return next((one for one in packed if one.is_file()), None)


def task_hash(file: ResultsFile, task: str) -> str | None:
    """Return lm-eval's hash of a task's samples; None where the file has none of its own."""
    if "eft_judged_from" in file.content:  # its samples are other lines than lm-eval hashed
        return None
    found = (file.content.get("task_hashes") or {}).get(task)
    return None if found is None else str(found)


def _named_as_of_old(file: ResultsFile, task: str) -> Belonging | None:
    """Return the file that lm-eval 0.4.0 to 0.4.2 wrote beside a results file."""
    content = file.content
    if stamp_of(file.path) or "task_hashes" in content or "n-samples" in content:
        return None
    given = file.config.get("model_args")
    if isinstance(given, Mapping):
        given = ",".join(f"{key}={value}" for key, value in model_arguments(file.config).items())
    path = file.path.parent / f"{re.sub('/|=', '__', str(given or ''))}_{task}.jsonl"
    if not path.is_file():
        return None
    return Belonging(
        path, f"samples of {task!r} without a date: {path.name}, named after model and task"
    )


def _of_other_dates(folder: Path, stamp: str) -> set[Path]:
    dated = ((path, stamp_of(path)) for path in folder.glob("*.jsonl"))
    return {path for path, date in dated if date is not None and date != stamp}


def _fits(path: Path, file: ResultsFile, task: str, expected: str) -> bool:
    """Whether a file has the task hash, and its values give every mean that is reported."""
    filters = filters_of(file.content, task)
    wanted = [*reported(file.content["results"][task])]
    try:
        first = next(iter(iter_samples(path, filters)), None)
        if first is None or (wanted and not any(k.metric in first.values for k, _ in wanted)):
            return False
        read = read_samples(path, filters=filters)
    except ConfigError:
        return False
    listed = file.content["configs"][task].get("metric_list") or ()
    return read.task_hash == expected and _gives(read.numbers, wanted, listed)


def _gives(
    read: Numbers, wanted: Iterable[tuple[MetricKey, Any]], listed: Iterable[Mapping[str, Any]]
) -> bool:
    declared = {one["metric"]: one.get("aggregation") for one in listed}
    for key, value in wanted:
        where = (key.filter, key.metric)
        if where not in read.values and where not in read.compound:
            return False
        known = is_mean(key.metric, declared.get(key.metric))
        number = finite_number(value)
        checked = known and where in read.values and number is not None
        if checked and not same_mean(number, read.values[where]):
            return False
    return True
