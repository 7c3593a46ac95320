"""Which results files belong to a run: a file, a folder or a pattern, by content, newest first."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from eft_eval.errors import ConfigError
from eft_eval.files import check_readable, described_start
from eft_eval.runs.metadata import model_arguments
from eft_eval.runs.records import ResultsFile
from eft_eval.runs.shape import in_shape, no_results
from eft_eval.runs.variants import public_variant, variant_of

__all__ = ["as_results", "damage_in", "find_results", "read_json", "read_results", "stamp_of"]

_STAMP = re.compile(r"_(\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(?:\.\d+)?)$")


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
    found, others = [], []
    for path in paths:
        if named:
            found.append(read_results(path))
            continue
        content = _quietly(path)
        if (reason := no_results(content)) is None:
            found.append(as_results(path, content))
        elif isinstance(content, Mapping) and "results" in content:
            others.append(f"; {path} {reason}")
    if not found:
        raise ConfigError(
            f"{source} holds no results file of lm-eval; give the folder of --output_path, a "
            f"results_*.json in it, or a baseline file by its name{''.join(others[:1])}"
        )
    if len({_identity(one) for one in found}) > 1:
        listed = sorted({(_name(one), _place(one, found)) for one in found})
        several = ", ".join(f"{model} ({place})" for model, place in listed)
        what = "files" if any(place.endswith(".json") for _, place in listed) else "folders"
        raise ConfigError(
            f"{source} holds the runs of several models; give one of their {what}: {several}"
        )
    return sorted(found, key=lambda one: (one.date, one.path.name), reverse=True)


def _identity(file: ResultsFile) -> str:
    """Return what tells models apart: name and variant, else the folder and all arguments."""
    if name := file.content.get("model_name"):
        return json.dumps((str(name), variant_of(file.config)), sort_keys=True)
    given = (str(file.path.parent), file.config.get("model"), model_arguments(file.config))
    return json.dumps(given, sort_keys=True, default=str)


def _name(file: ResultsFile) -> str:
    variant = public_variant(variant_of(file.config))
    return f"{file.model} with {variant}" if variant else file.model


def _place(file: ResultsFile, found: list[ResultsFile]) -> str:
    """Return a file's folder, or the file where other models are in the folder."""
    beside = {_identity(one) for one in found if one.path.parent == file.path.parent}
    return str(file.path.parent if len(beside) == 1 else file.path)


def read_results(path: Path) -> ResultsFile:
    """Return one results file.

    Raises:
        ConfigError: It cannot be read, or is something else.
    """
    return as_results(path, read_json(path))


@contextlib.contextmanager
def damage_in(file: ResultsFile) -> Iterator[None]:
    """Turn what fails while a results file's content is used into an error that names the file."""
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"{file.path} is a damaged results file ({error!r:.200}); evaluate again"
        ) from error


def as_results(path: Path, content: Any) -> ResultsFile:
    """Return a parsed JSON file as a results file.

    Raises:
        ConfigError: It is something else.
    """
    if reason := no_results(content):
        raise ConfigError(f"{path} {reason}{_hint(path)}")
    content = in_shape(content, str(path))
    return ResultsFile(path, _date(path, content), content)


def read_json(path: Path) -> Any:
    """Return a parsed JSON file.

    Raises:
        ConfigError: It cannot be read, or is no JSON.
    """
    check_readable(path)
    try:
        raw = path.read_bytes()
        if words := described_start(raw):
            raise ConfigError(f"{path} is {words}")
        return json.loads(raw.decode("utf-8-sig"))
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
