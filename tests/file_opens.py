"""How often files are opened, by any way that Python has."""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_counting: list[tuple[Path, Counter[str]]] = []


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if event != "open" or not _counting or not isinstance(args[0], str):
        return
    path, mode = Path(args[0]), args[1] or "r"
    for folder, counts in _counting:
        hidden = path.name.startswith(".")  # a file in the making
        if not hidden and not {*mode} & {*"wax+"} and folder in path.parents:
            counts[path.name] += 1


sys.addaudithook(_audit)


@contextlib.contextmanager
def counted_opens(folder: Path) -> Iterator[Counter[str]]:
    """Count per name how often the files below a folder are opened to be read."""
    counts: Counter[str] = Counter()
    _counting.append((folder, counts))
    try:
        yield counts
    finally:
        _counting.remove((folder, counts))
