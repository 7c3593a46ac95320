"""Which files belong to a run: a file, a folder or a pattern, picked by content, newest first."""

from __future__ import annotations

import glob
import json
import os
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from eft_eval.errors import ConfigError
from eft_eval.runs.newest import is_results

__all__ = ["ResultsFile", "find_results", "read_json", "stamp_of"]

_STAMP = re.compile(r"_(\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(?:\.\d+)?)$")


class ResultsFile(NamedTuple):
    """A results file of lm-eval.

    Attributes:
        path: The file.
        date: Local time, as in the names that lm-eval gives; sorts by age.
        content: The parsed file.
    """

    path: Path
    date: str
    content: Mapping[str, Any]

    @property
    def model(self) -> str:
        """Name of the model; its kind where the run had no name for it."""
        config = self.content.get("config")
        kind = config.get("model") if isinstance(config, Mapping) else None
        return str(self.content.get("model_name") or kind or "unnamed")


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
        content = read_json(path) if named else _quietly(path)
        if content is not None and is_results(content):
            found.append(ResultsFile(path, _date(path, content), content))
        elif named:
            raise ConfigError(f"{path} is no results file of lm-eval{_hint(path)}")
    if not found:
        raise ConfigError(
            f"{source} holds no results file of lm-eval; give the folder of --output_path, a "
            "results_*.json in it, or a baseline file by its name"
        )
    models = sorted({(one.model, str(one.path.parent)) for one in found})
    if len({model for model, _ in models}) > 1:
        several = ", ".join(f"{model} ({folder})" for model, folder in models)
        raise ConfigError(
            f"{source} holds the runs of several models; give one of their folders: {several}"
        )
    return sorted(found, key=lambda one: (one.date, one.path.name), reverse=True)


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
