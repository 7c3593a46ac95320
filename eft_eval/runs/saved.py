"""A saved run's files: which of them has which task, and the texts; each is read at most once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from eft_eval.errors import ConfigError, nearest
from eft_eval.runs.belonging import (
    Belonging,
    packed_samples,
    samples_of,
    samples_path,
    task_hash,
)
from eft_eval.runs.columns import columns_of, filters_of
from eft_eval.runs.completeness import differing_counts, differing_figures, differing_hash
from eft_eval.runs.finding import damage_in, find_results, read_results, stamp_of
from eft_eval.runs.records import Document, ResultsFile
from eft_eval.runs.samples import Lines, LinesRead, read_lines
from eft_eval.streams import logger

__all__ = ["SavedRun", "SavedTask", "open_run"]

_log = logger("eft_eval.runs")


class SavedTask(NamedTuple):
    """A task of a run, and the results file that counts for it.

    Attributes:
        name: The task's name.
        file: The newest results file that has it.
    """

    name: str
    file: ResultsFile

    @property
    def config(self) -> Mapping[str, Any]:
        """lm-eval's configuration of the task."""
        return self.file.content["configs"][self.name] or {}

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What the task says of itself."""
        return self.config.get("metadata") or {}

    @property
    def entry(self) -> Mapping[str, Any]:
        """Its aggregates: ``metric,filter`` and ``metric_stderr,filter``."""
        return self.file.content["results"][self.name] or {}

    @property
    def documents(self) -> int | None:
        """How many documents were asked about, as lm-eval says; None where it does not."""
        counts = self.file.content.get("n-samples") or {}
        number: int | None = (counts.get(self.name) or {}).get("effective")
        return number


class SavedRun:
    """What one model was evaluated to, in one results file or several.

    Attributes:
        label: How to call it: the path as given.
        files: Its results files, newest first.
        tasks: Each as the newest file that has it says; by name, those of newer files first.
    """

    def __init__(self, label: str, files: list[ResultsFile]) -> None:
        self.label = label
        self.files = tuple(files)
        self.tasks: dict[str, SavedTask] = {}
        for file in files:
            for name in file.content["results"]:
                if name not in file.content["configs"]:
                    continue  # a group
                if name not in self.tasks:
                    self.tasks[name] = SavedTask(name, file)
                elif self.tasks[name].file.date == file.date:
                    one, other = sorted((str(self.tasks[name].file.path), str(file.path)))
                    raise ConfigError(
                        f"task {name!r} is in two results files of the same date: {one} and "
                        f"{other}; give one of them"
                    )
        self._by_path = {file.path: file for file in files}
        self._lines: dict[Path, Lines] = {}
        self._belonging: dict[tuple[Path, str], Belonging | None] = {}

    @property
    def name(self) -> str:
        """Name of the newest results file."""
        return self.files[0].path.name

    def task(self, name: str) -> SavedTask:
        """Return a task by its name.

        Raises:
            ConfigError: The run has no such task.
        """
        if name not in self.tasks:
            known = ", ".join(self.tasks)
            where = self.files[0].path if len(self.files) == 1 else self.label
            raise ConfigError(f"{where} has no task {name!r}{nearest(name, self.tasks)}: {known}")
        return self.tasks[name]

    def samples_file(self, task: SavedTask) -> Path | None:
        """Return a task's samples file; None where there is none.

        Raises:
            ConfigError: Several may be it.
        """
        found = self.samples_of(task)
        return found.path if found else None

    def samples_of(self, task: SavedTask) -> Belonging | None:
        """Return a task's samples file and how it is known to be that; None where there is none.

        Raises:
            ConfigError: Several may be it.
        """
        key = (task.file.path, task.name)
        if key not in self._belonging:
            self._belonging[key] = samples_of(task.file, task.name)
        return self._belonging[key]

    def lines(self, task: SavedTask) -> Lines:
        """Return a task's sample lines by filter and document.

        Raises:
            ConfigError: There is no such file, it cannot be read, or it is not what the results
                were computed from: other documents, or other means.
        """
        found = self.samples_of(task)
        if found is None:
            stamp = stamp_of(task.file.path)
            what = f"no samples file of task {task.name!r} for {task.file.path}"
            if stamp is not None:
                what = f"no {samples_path(task.file.path, task.name, stamp)}"
            if packed := packed_samples(task.file, task.name):
                raise ConfigError(f"there is {what}, only {packed.name}: unpack it")
            raise ConfigError(
                f"there is {what}, so no responses; was the run made with --log_samples or "
                "--predict_only?"
            )
        path = found.path
        if path not in self._lines:
            if found.note:
                _log.warning("%s", found.note)
            read = read_lines(path, filters_of(task.file.content, task.name))
            if wrong := _contradictions(read, path, task):
                raise ConfigError(
                    f"{path.parent}: {'; '.join(wrong)}; keep each run's files in a folder of "
                    "their own, or evaluate again"
                )
            self._lines[path] = read.lines
        return self._lines[path]

    def lineage(self, task: SavedTask) -> Iterator[SavedTask]:
        """Iterate over a task, as it was before it was judged, and so on, while the files exist.

        The last is the task as lm-eval wrote it, unless its files were taken away.

        Raises:
            ConfigError: A results file cannot be read.
        """
        seen: set[Path] = set()
        file: ResultsFile | None = task.file
        while file is not None and file.path not in seen:
            yield SavedTask(task.name, file)
            seen.add(file.path)
            file = self._older(file)

    def texts(self, task: SavedTask) -> Lines:
        """Return the sample lines of the oldest file in a task's lineage, which has all its texts.

        Raises:
            ConfigError: There are none, they cannot be read, or the task's own file holds other
                documents.
        """
        *_, oldest = self.lineage(task)
        found = self.lines(oldest)
        if oldest.file is not task.file and self.samples_file(task) is not None:
            others = _documents(self.lines(task)) ^ _documents(found)
            if others:
                raise ConfigError(
                    f"{self.samples_file(task)} holds other documents than "
                    f"{self.samples_file(oldest)}, whose responses were judged ({len(others)} are "
                    "in one of them only); keep each run's files in a folder of their own"
                )
        return found

    def _older(self, file: ResultsFile) -> ResultsFile | None:
        path = file.judged_from
        if path is None:
            return None
        if path not in self._by_path:
            if not path.is_file():
                return None
            self._by_path[path] = read_results(path)
        return self._by_path[path]


def open_run(source: str | Path) -> SavedRun:
    """Find a saved run: a results file, a folder or a pattern.

    Where several results files are found, each task is that of the newest file that has it.

    Args:
        source: What to read; see `eft_eval.runs.finding.find_results`.

    Raises:
        ConfigError: There is no run there, or several models', or a results file is damaged.
    """
    return SavedRun(str(source), find_results(source))


def _documents(lines: Lines) -> set[Document]:
    return {document for of_filter in lines.values() for document in of_filter}


def _contradictions(read: LinesRead, path: Path, task: SavedTask) -> list[str]:
    """Return how a samples file is not what the results were computed from, as `compare` does."""
    wrong = [*read.problems]
    expected = task_hash(task.file, task.name)
    if expected != read.task_hash:  # else it is all that was evaluated, whatever n-samples says
        sizes = {name: len(of) for name, of in read.lines.items()}
        wrong += differing_counts(path.name, sizes, task.documents)
        if expected is not None and not wrong:
            wrong.append(differing_hash(path, task.file.path))
    with damage_in(task.file):
        columns = columns_of(task.file.content, task.name, read.numbers)
        return [*wrong, *differing_figures(task.name, task.config, columns, read.numbers)]
