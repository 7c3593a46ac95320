"""Which files belong to a run: a file, a folder or a pattern, picked by content, newest first."""

from __future__ import annotations

import glob
import json
import os
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from eft_eval.errors import ConfigError
from eft_eval.runs.records import ResultsFile
from eft_eval.runs.samples import read_samples

__all__ = [
    "as_results",
    "find_results",
    "find_samples",
    "read_json",
    "read_results",
    "samples_path",
    "stamp_of",
    "task_hash",
]

_STAMP = re.compile(r"_(\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(?:\.\d+)?)$")
_MOST_SEARCHED = 64


def find_results(source: str | Path) -> list[ResultsFile]:
    """Return the results files that ``source`` names, newest first, all of one model.

    A folder is searched with its direct sub-folders, as lm-eval writes ``OUTPUT/MODEL/``. Files
    are told by what they hold, not by their names. The age is the date in the name, else the one
    in the file; a file's own time stamps do not count, as a checkout changes them.

    Args:
        source: A results file, a folder, or a pattern such as ``"out/*small*"``.

    Raises:
        ConfigError: There is none, a named file is something else, or there are several models.
    """
    paths = _candidates(str(source))
    named = len(paths) == 1 and paths[0] == Path(source)
    found = []
    for path in paths:
        if named:
            found.append(read_results(path))
        elif _is_results(content := _quietly(path)):
            found.append(ResultsFile(path, _date(path, content), content))
    if not found:
        raise ConfigError(
            f"{source} holds no results file of lm-eval; give the folder of --output_path, a "
            "results_*.json in it, or a baseline file by its name"
        )
    models = sorted({(one.model, str(one.path.parent)) for one in found})
    if len({one.content.get("model_name") or str(one.path.parent) for one in found}) > 1:
        several = ", ".join(f"{model} ({folder})" for model, folder in models)
        raise ConfigError(
            f"{source} holds the runs of several models; give one of their folders: {several}"
        )
    return sorted(found, key=lambda one: (one.date, one.path.name), reverse=True)


def read_results(path: Path) -> ResultsFile:
    """Return one results file.

    Raises:
        ConfigError: It cannot be read, or is something else.
    """
    return as_results(path, read_json(path))


def as_results(path: Path, content: Any) -> ResultsFile:
    """Return a parsed JSON file as a results file.

    Raises:
        ConfigError: It is something else.
    """
    if not _is_results(content):
        raise ConfigError(f"{path} is no results file of lm-eval{_hint(path)}")
    return ResultsFile(path, _date(path, content), content)


def find_samples(file: ResultsFile, task: str) -> Path | None:
    """Return the samples file of a task that belongs to a results file; None where there is none.

    It has the same date in its name; failing that, it is the file whose lines have the hash that
    the results file tells.
    """
    if stamp := stamp_of(file.path):
        path = samples_path(file.path, task, stamp)
        if path.is_file():
            return path
    expected = task_hash(file, task)
    if expected is None:
        return None
    files = [path for path in file.path.parent.glob("*.jsonl") if path.is_file()]
    near = sorted(files, key=lambda path: (task not in path.name, path.name))
    for path in near[:_MOST_SEARCHED]:
        if read_samples(path).task_hash == expected:
            return path
    return None


def samples_path(results: Path, task: str, date: str) -> Path:
    """Return where lm-eval puts a task's samples beside a results file of this date."""
    # no with_name: lm-eval writes none for a task with a slash, so there is no such folder
    return results.parent / f"samples_{task}_{date}.jsonl"


def task_hash(file: ResultsFile, task: str) -> str | None:
    """Return lm-eval's hash of a task's samples; None where the file has none of its own."""
    if "eft_judged_from" in file.content:  # its samples are other lines than lm-eval hashed
        return None
    found = (file.content.get("task_hashes") or {}).get(task)
    return None if found is None else str(found)


def read_json(path: Path) -> Any:
    """Return a parsed JSON file.

    Raises:
        ConfigError: It cannot be read, or is no JSON.
    """
    try:
        return json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            f"{path} is no JSON, or is cut off ({error}){_hint(path)}; expected a results file of "
            "lm-eval or a baseline"
        ) from error


def stamp_of(path: Path) -> str | None:
    """Return the date at the end of a file's name, by which lm-eval's files belong together."""
    found = _STAMP.search(path.stem)
    return found[1] if found else None


def _is_results(content: Any) -> bool:
    return isinstance(content, dict) and all(
        isinstance(content.get(key), dict) for key in ("results", "configs")
    )


def _candidates(source: str) -> list[Path]:
    if not source.strip():
        raise ConfigError("the name of a run is empty; give a file, a folder or a pattern")
    path = Path(source)
    if os.path.isdir(path):
        return _inside(path)
    if os.path.exists(path):
        return [path]
    matches = sorted(glob.glob(source, recursive=True)) if glob.has_magic(source) else []
    if not matches:
        raise ConfigError(f"there is no file or folder {source}")
    paths: dict[Path, None] = {}
    for match in map(Path, matches):
        paths.update(dict.fromkeys(_inside(match) if match.is_dir() else [match]))
    return [path for path in paths if path.suffix == ".json"]


def _inside(folder: Path) -> list[Path]:
    found = [*folder.glob("*.json"), *folder.glob("*/*.json")]
    return sorted(path for path in found if not path.name.startswith("."))


def _quietly(path: Path) -> Any:
    """Return a file found by searching; one that looks like a results file must be readable."""
    try:
        return read_json(path)
    except ConfigError:
        if path.name.startswith("results_"):
            raise
        return None


def _date(path: Path, content: Mapping[str, Any]) -> str:
    if stamp := stamp_of(path):
        return stamp
    started = content.get("date")
    if not isinstance(started, (int, float)):
        return ""
    try:
        date = datetime.fromtimestamp(started)
    except (OverflowError, ValueError, OSError):
        return ""
    return date.isoformat(timespec="microseconds").replace(":", "-")


def _hint(path: Path) -> str:
    if path.suffix == ".jsonl":
        return " (it looks like a samples file: give the results file, or the folder)"
    return ""
