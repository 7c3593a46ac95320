"""How labels are read and joined to a run, and the table that comes of it: each file read once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from eft_eval.errors import ConfigError, nearest
from eft_eval.judging.prompts.measures import MEASURES
from eft_eval.labels.reading import FileReading, read_labels
from eft_eval.labels.records import Item, LabelSet
from eft_eval.labels.responses import measures_in, panel_judges, read_items
from eft_eval.runs.saved import SavedRun, open_run

__all__ = ["LabelReading", "LabelTable", "read_label_table"]


@dataclass(frozen=True)
class LabelReading:
    """Which labels are taken, what their words mean, and which verdicts they are held against.

    Attributes:
        field: The field of the labels; by default "any_error", read from has_error and
            error_count, where the labels have these, else the only field there is.
        positive: The word that counts as 1, all others as 0; for labels that are words.
        missing: Words that are no label, such as "unsure".
        judge: The annotator that is the judge, by its name in the files; the run's own judge
            model means the same as None. Of a run that a panel judged, one of its judges, by its
            model or its short name: its verdicts are taken in place of the panel's.
        tasks: The run's tasks to take; by default all that are judged for the measure.
        measure: The run's verdicts to take: factuality, helpfulness, harm or preference; by default
            factuality if the run is judged for it, else what it is judged for.
        files: What the user says of the label files that they do not say themselves.
        query: Path of the question in the run's samples, where the labels were exported with one.
    """

    field: str | None = None
    positive: str | None = None
    missing: tuple[str, ...] = ()
    judge: str | None = None
    tasks: tuple[str, ...] | None = None
    measure: str | None = None
    files: FileReading = FileReading()
    query: str | None = None


@dataclass(frozen=True)
class LabelTable:
    """Labels, and the responses of a run that they are about.

    Attributes:
        labels: The labels; ``labels.judge`` is the judge, if one of the annotators is.
        items: All responses of the run, with its verdicts; None without a run.
        reading: How they were read, and how they are to be read as numbers.
        run: The run's results file; None without one.
        judges: Of a run that a panel judged, the same responses with each judge's verdicts, by
            the judge's name; empty where one judge's were asked for.
    """

    labels: LabelSet
    items: Sequence[Item] | None = None
    reading: LabelReading = LabelReading()
    run: str | None = None
    judges: Mapping[str, Sequence[Item]] = field(default_factory=dict)

    @property
    def measure(self) -> str:
        """What the run's verdicts are of."""
        return self.reading.measure or "factuality"

    @property
    def judged_by_run(self) -> bool:
        """Whether the judge's answers are the run's verdicts."""
        return self.items is not None and self.labels.judge is None

    @property
    def chosen(self) -> int:
        """How many labelled items are no random sample: picked because judge and people differ."""
        return sum(origin.random is False for origin in self.labels.origins.values())

    def people(self) -> LabelTable:
        """Return the table without the labels of the annotator that is the judge."""
        kept = tuple(one for one in self.labels.labels if one.annotator != self.labels.judge)
        return replace(self, labels=replace(self.labels, labels=kept))


def read_label_table(
    files: Sequence[Path | str],
    run: SavedRun | Path | str | None = None,
    reading: LabelReading = LabelReading(),
) -> LabelTable:
    """Read label files, and the run that they are about.

    Args:
        files: Label files of any known format, see `read_labels`.
        run: A run that is opened, or what `open_run` takes: only labels about its responses, with
            the same texts, are used.
        reading: How they are read.

    Raises:
        ConfigError: A file or the run cannot be used, or nobody is called as the judge.
    """
    if run is None:
        return LabelTable(_labels(files, None, reading), None, reading)
    saved = run if isinstance(run, SavedRun) else open_run(run)
    known = measures_in(saved, reading.tasks)
    reading = replace(reading, measure=_measure(reading.measure, known, saved.name))
    measure, query = str(reading.measure), reading.query
    panel = panel_judges(saved, reading.tasks)
    one = panel.get(str(reading.judge), reading.judge)
    chosen = one if one in panel.values() else None
    if chosen is not None:
        reading = replace(reading, judge=None)

    def items_of(judge: str | None) -> list[Item]:
        return read_items(saved, tasks=reading.tasks, measure=measure, query=query, judge=judge)

    items = items_of(chosen)
    labels = _labels(files, items, reading)
    judges = {} if chosen is not None else {name: items_of(model) for name, model in panel.items()}
    return LabelTable(labels, items, reading, saved.name, judges)


def _labels(
    files: Sequence[Path | str], items: Sequence[Item] | None, reading: LabelReading
) -> LabelSet:
    how = replace(reading.files, answer=reading.field)
    return read_labels(files, items=items, judge=reading.judge, reading=how)


def _measure(given: str | None, known: Sequence[str], run: str) -> str:
    """Return the measure given, or what a run is judged for: ``known``, empty if not at all."""
    if given is not None and given not in MEASURES:
        raise ConfigError(f"no measure {given!r}{nearest(given, MEASURES)}; known: {[*MEASURES]}")
    if given is not None and known and given not in known:
        raise ConfigError(f"{run} is not judged for {given}; it is judged for {', '.join(known)}")
    if given is not None:
        return given
    if not known or "factuality" in known:
        return "factuality"
    if len(known) > 1:
        raise ConfigError(f"{run} is judged for {', '.join(known)}; name one with --measure")
    return known[0]
