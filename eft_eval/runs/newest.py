"""The files of an lm-eval run: which results file is the newest, and what new ones are called.

Reads and writes lm-eval's layout, yet imports neither lm_eval nor torch.
"""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from eft_eval.errors import ConfigError

__all__ = [
    "date_after",
    "date_of",
    "is_results",
    "newest_results",
    "read_results",
    "samples_path",
]

_RESULTS = re.compile(r"results_(\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(?:\.\d{6})?)\.json")


def newest_results(run_dir: Path) -> Path:
    """Return the newest results file of the one model that a folder holds runs of.

    Args:
        run_dir: The folder with results_*.json, or its parent if that has one such folder.

    Raises:
        ConfigError: There is no such file, or there are several folders with one.
    """
    if not run_dir.is_dir():
        raise ConfigError(f"{run_dir} is no folder; give the one with results_*.json in it")
    paths = [*run_dir.glob("results_*"), *run_dir.glob("*/results_*")]
    found = [path for path in paths if _RESULTS.fullmatch(path.name)]
    parents = sorted({path.parent for path in found})
    folders = [run_dir] if run_dir in parents else parents
    if not folders:
        raise ConfigError(f"{run_dir} has no results_*.json of an lm-eval run (--output_path)")
    if len(folders) > 1:
        several = ", ".join(map(str, folders))
        raise ConfigError(f"{run_dir} holds the runs of several models; give one of: {several}")
    return max((path for path in found if path.parent == folders[0]), key=date_of)


def date_of(results: Path) -> str:
    """Return the date in a results file's name, by which lm-eval's files sort and belong together.

    The suffix does not count: T10-00-00.json would come after T10-00-00.5.json.
    """
    return results.stem.removeprefix("results_")


def date_after(results: Path) -> str:
    """Return the present local time as lm-eval writes it, later than that of ``results``."""
    day, time = date_of(results).split("T")
    was = datetime.fromisoformat(f"{day}T{time.replace('-', ':')}")
    date = max(datetime.now(), was + timedelta(microseconds=1))
    return date.isoformat(timespec="microseconds").replace(":", "-")


def samples_path(results: Path, task: str, date: str | None = None) -> Path:
    """Return where a task's samples of this results file are, or belong under another date."""
    return results.with_name(f"samples_{task}_{date or date_of(results)}.jsonl")


def read_results(path: Path) -> dict[str, Any]:
    """Return a results file.

    Raises:
        ConfigError: It cannot be read, or is none.
    """
    try:
        results = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    if is_results(results):
        return dict(results)
    raise ConfigError(f"{path} is no results file of lm-eval")


def is_results(content: Any) -> bool:
    """Whether a parsed JSON file is a results file of lm-eval."""
    return isinstance(content, dict) and all(
        isinstance(content.get(key), dict) for key in ("results", "configs")
    )
