"""What lies below a folder: evaluations, token traces, and what is damaged or left out."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

from eft_eval.errors import ConfigError
from eft_eval.runs.baseline import is_baseline
from eft_eval.runs.finding import as_results, read_json
from eft_eval.runs.records import ResultsFile
from eft_eval.runs.saved import SavedRun, SavedTask
from eft_eval.runs.shape import no_results
from eft_eval.runs.traces import TRACE_FILE, Trace, read_trace

__all__ = ["Evaluation", "Folder", "Traced", "signature"]

_LARGEST = 64 * 2**20  # bytes of a JSON file that is not named as a results file
_ID_BYTES = 8

Signature = tuple[int, int]
_Content = ResultsFile | Trace | None


class Evaluation(NamedTuple):
    """A results file.

    Attributes:
        id: The same for the same path.
        place: Its path below the folder.
        file: The file.
        run: Its tasks.
    """

    id: str
    place: str
    file: ResultsFile
    run: SavedRun


class Traced(NamedTuple):
    """A token trace, and its path below the folder."""

    place: str
    trace: Trace


def signature(path: Path) -> Signature:
    """Return what changes when a file is written anew."""
    found = path.stat()
    return found.st_mtime_ns, found.st_size


class Folder:
    """A folder with the evaluations below it; `look` reads what is new since the last time.

    Attributes:
        root: The folder.
        evaluations: By id, newest first.
        traces: Token traces.
        notes: What is damaged or left out, by file.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise ConfigError(f"there is no folder {root}; give one with runs of lm-eval below it")
        self.root = root.resolve()
        self.evaluations: dict[str, Evaluation] = {}
        self.traces: tuple[Traced, ...] = ()
        self.notes: tuple[str, ...] = ()
        self._known: dict[Path, tuple[Signature, _Content | str]] = {}
        self._lock = Lock()

    def look(self) -> None:
        """Find the evaluations and traces."""
        with self._lock:
            notes: list[str] = []
            files: list[tuple[str, ResultsFile]] = []
            traces: list[Traced] = []
            known = {path: self._read(path) for path in self._paths(notes)}
            for path, (_, content) in known.items():
                place = path.relative_to(self.root).as_posix()
                if isinstance(content, str):
                    notes.append(content)
                elif isinstance(content, ResultsFile):
                    files.append((place, content))
                elif content is not None:
                    traces.append(Traced(place, content))
            files.sort(key=lambda one: (one[1].date, one[0]), reverse=True)
            self._known = known
            self.evaluations = {
                found.id: found for found in (self._evaluation(*one) for one in files)
            }
            self.traces, self.notes = tuple(traces), tuple(notes)

    def samples_of(self, found: Evaluation, task: SavedTask) -> Path | None:
        """Return a task's samples file; None where there is none.

        Raises:
            ConfigError: Several may be it, or it is a link out of the folder.
        """
        path = found.run.samples_file(task)
        if path is None:  # it may have been written since
            path = SavedRun(found.place, [found.file]).samples_file(task)
        if path is not None and not self._inside(path):
            raise ConfigError(f"{path.name} leads out of the folder, and is not shown")
        return path

    def _evaluation(self, place: str, file: ResultsFile) -> Evaluation:
        name = hashlib.blake2b(os.fsencode(place), digest_size=_ID_BYTES).hexdigest()
        old = self.evaluations.get(name)
        same = old is not None and old.file is file
        return old if same and old else Evaluation(name, place, file, SavedRun(place, [file]))

    def _paths(self, notes: list[str]) -> Iterator[Path]:
        for folder, inner, names in os.walk(self.root):
            inner[:] = sorted(name for name in inner if not name.startswith("."))
            for name in list(inner):
                if (Path(folder) / name).is_symlink():
                    notes.append(f"{self._place(Path(folder) / name)} is a link: not followed")
            for name in sorted(names):
                path = Path(folder) / name
                if not name.endswith(".json") or name.startswith("."):
                    continue
                if self._inside(path):
                    yield path
                else:
                    notes.append(f"{self._place(path)} leads out of the folder, and is not shown")

    def _inside(self, path: Path) -> bool:
        try:
            return path.resolve().is_relative_to(self.root)
        except (OSError, RuntimeError):  # links in a circle
            return False

    def _place(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def _read(self, path: Path) -> tuple[Signature, _Content | str]:
        """Return a file's content; a text says what is wrong with it."""
        try:
            now = signature(path)
            if path in self._known and self._known[path][0] == now:
                return self._known[path]
            return now, _content(path, now[1], self._place(path))
        except (ConfigError, OSError) as error:
            return (0, 0), str(error).replace(f"{self.root}{os.sep}", "")


def _content(path: Path, size: int, place: str) -> _Content | str:
    named = path.name.startswith("results_")
    if size > _LARGEST and not named:
        return None
    try:
        content: Any = read_json(path)
    except ConfigError:
        if named:
            raise
        return None
    if is_baseline(content):
        return f"{place} is a baseline of `eft-eval bless`: it has scores, and no texts"
    if (reason := no_results(content)) is None:
        return as_results(path, content)
    if isinstance(content, dict) and "tokens" in content and TRACE_FILE.known(path):
        return read_trace(path)
    return f"{place} {reason}" if named else None
