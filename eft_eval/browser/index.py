"""An index of a samples file: where each sample stands, and what it can be chosen by.

It is built in a thread of its own, in the order of the file, and can be used meanwhile.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Condition, Thread
from typing import NamedTuple

from eft_eval.browser.folder import signature
from eft_eval.errors import EftEvalError
from eft_eval.records import finite_number
from eft_eval.runs.lines import Place, doc_digest, iter_places, samples_at
from eft_eval.runs.records import ItemSeen, Pipeline, Sample
from eft_eval.verdicts.text import verdict_records

__all__ = ["Entry", "SamplesIndex", "statuses_of"]

_STEP = 100  # samples after which those who wait look again


class Entry(NamedTuple):
    """A sample without its texts.

    Attributes:
        place: Where it stands in the file.
        filter: Its filter.
        item: What pairs it with another run's.
        statuses: Of its verdicts; empty where the filter is no judge.
        values: Its metrics; None where there is no number.
    """

    place: Place
    filter: str
    item: ItemSeen
    statuses: tuple[str, ...]
    values: Mapping[str, float | None]


class SamplesIndex:
    """The entries of a samples file, as far as it is read.

    Attributes:
        path: The file.
        entries: In the order of the file.
        by_filter: Per filter the numbers of its entries.
        complete: Whether the file is read to its end.
        problem: What is wrong with it; empty where nothing is.
    """

    def __init__(self, path: Path, filters: Sequence[str]) -> None:
        self.path = path
        self.entries: list[Entry] = []
        self.by_filter: dict[str, list[int]] = {}
        self.complete = False
        self.problem = ""
        self._filters = filters
        self._statuses: dict[str, Counter[str]] = {}
        self._signature = signature(path)
        self._changed = Condition()
        Thread(target=self._build, daemon=True, name=f"index of {path.name}").start()

    def is_current(self) -> bool:
        """Whether the file is as it was when the index was begun."""
        try:
            return signature(self.path) == self._signature
        except OSError:
            return False

    def wait(self, enough: Callable[[], bool], seconds: float) -> bool:
        """Wait until there is enough, or all, or the time is over; return whether it is enough."""
        with self._changed:
            self._changed.wait_for(lambda: self.complete or enough(), seconds)
        return self.complete or enough()

    def samples(self, numbers: Sequence[int]) -> list[Sample]:
        """Return samples with their texts.

        Raises:
            ConfigError: The file cannot be read, or has changed.
        """
        wanted = [self.entries[number] for number in numbers]
        return samples_at(self.path, [(one.place, one.filter) for one in wanted])

    def pipeline(self, name: str) -> Pipeline:
        """Return a filter's items, in the order of `by_filter`."""
        items = tuple(self.entries[number].item for number in self.by_filter.get(name, ()))
        return Pipeline(name, items, None, None, None)

    def statuses(self, name: str) -> dict[str, int]:
        """Return how many documents of a filter have a verdict of each status."""
        return dict(sorted(self._statuses.get(name, Counter()).copy().items()))

    def _build(self) -> None:
        unreadable = 0
        try:
            for place, sample in iter_places(self.path, self._filters):
                if sample is None:
                    unreadable += 1
                    continue
                entry = _entry(place, sample)
                self.entries.append(entry)  # first: readers follow the numbers
                self.by_filter.setdefault(sample.filter, []).append(len(self.entries) - 1)
                self._statuses.setdefault(sample.filter, Counter()).update({*entry.statuses})
                if len(self.entries) % _STEP == 0:
                    with self._changed:
                        self._changed.notify_all()
            if unreadable:
                self.problem = (
                    f"{self.path.name}: {unreadable} unreadable line(s), which are not shown: "
                    "the file is cut off, or damaged"
                )
        except (EftEvalError, OSError, MemoryError) as error:
            self.problem = str(error)
        finally:
            with self._changed:
                self.complete = True
                self._changed.notify_all()


def statuses_of(sample: Sample) -> tuple[str, ...]:
    """Return the statuses of a sample's verdicts; none where the filter is no judge."""
    return tuple(str(one.get("status")) for one in verdict_records(sample.filtered) or ())


def _entry(place: Place, sample: Sample) -> Entry:
    doc_hash, prompt_hash, _ = sample.hashes
    item = ItemSeen(sample.doc_id, doc_hash, prompt_hash, "", doc_digest(sample.doc))
    values = {str(name): finite_number(value) for name, value in sample.values.items()}
    return Entry(place, sample.filter, item, statuses_of(sample), values)
