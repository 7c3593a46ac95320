"""The files of a saved run: the newest, those that it was judged from, and their sample lines.

Reads lm-eval's files, yet imports neither lm_eval nor torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from eft_eval.errors import ConfigError, EftEvalError
from eft_eval.runs.newest import read_results, samples_path
from eft_eval.verdicts.text import read_verdicts
from eft_eval.verdicts.verdict import Verdict

__all__ = ["Lines", "Record", "RunFile", "lineage", "read_lines", "texts_of", "verdicts_in"]

Record = dict[str, Any]
Lines = dict[str, dict[Any, Record]]
"""Of a samples file, by filter and document, in its order."""


class RunFile(NamedTuple):
    """A results file and its content."""

    file: Path
    results: Record


def lineage(newest: RunFile) -> Iterator[RunFile]:
    """Iterate over a results file, the one that it was judged from, and so on, while they exist.

    The last is the run as lm-eval wrote it, unless its files were taken away.

    Raises:
        ConfigError: One of them cannot be read.
    """
    seen: set[str] = set()
    one = newest
    while True:
        yield one
        seen.add(one.file.name)
        name = one.results.get("eft_judged_from")
        if not isinstance(name, str) or name in seen or not one.file.with_name(name).is_file():
            return
        older = one.file.with_name(name)
        one = RunFile(older, read_results(older))


def texts_of(task: str, newest: RunFile) -> Lines:
    """Return a task's sample lines of the oldest run in the lineage, the one that has the texts.

    Raises:
        ConfigError: There are none, or they cannot be read.
    """
    *_, oldest = lineage(newest)
    path = samples_path(oldest.file, task)
    try:
        return read_lines(path)
    except FileNotFoundError:
        hint = "was the run made with --log_samples or --predict_only?"
        raise ConfigError(f"there is no {path}, so no responses to judge; {hint}") from None


def read_lines(path: Path) -> Lines:
    """Read a samples file, of equal lines the first.

    Raises:
        FileNotFoundError: There is no such file.
        ConfigError: It cannot be read.
    """
    by_filter: Lines = {}
    number = 0
    try:
        with path.open(encoding="utf-8") as file:
            for line in file:
                number += 1
                sample = json.loads(line)
                records = by_filter.setdefault(str(sample.get("filter", "none")), {})
                records.setdefault(sample["doc_id"], sample)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"cannot read {path}, line {number}: {error!r}") from error
    if not by_filter:
        raise ConfigError(f"{path} is empty")
    return by_filter


def verdicts_in(line: Mapping[str, Any]) -> list[Verdict] | None:
    """Return the verdicts that a sample line holds; None where its filter made something else."""
    filtered = line.get("filtered_resps") or [None]
    if not isinstance(filtered, list) or not isinstance(filtered[0], str):
        return None
    try:
        return read_verdicts(filtered[0]) or None
    except (ValueError, TypeError, AttributeError, EftEvalError):
        return None
