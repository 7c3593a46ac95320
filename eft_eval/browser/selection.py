"""Which documents of a task are shown: by verdict, by number, by how they differ from a run's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from eft_eval.browser.index import Entry, SamplesIndex
from eft_eval.comparing.pairing import match_items
from eft_eval.errors import ConfigError

__all__ = ["CHANGES", "Selection", "paired", "select"]

CHANGES = ("changed", "higher", "lower", "status", "alone")
"""How a document may differ: another number, a higher or lower one, another status of a verdict,
or that the other run lacks it."""


class Selection(NamedTuple):
    """What a document must be.

    Attributes:
        filter: The filter whose documents they are.
        status: A verdict of it has this status; empty: any.
        metric: What ``least``, ``most`` and the change speak of; empty: of none.
        least: Its number is not below; None: any, also none.
        most: Its number is not above; None: any, also none.
        change: One of `CHANGES`; empty: any.
    """

    filter: str
    status: str = ""
    metric: str = ""
    least: float | None = None
    most: float | None = None
    change: str = ""

    @property
    def is_all(self) -> bool:
        """Whether every document of the filter is meant."""
        return self == Selection(self.filter, metric=self.metric)


def paired(mine: SamplesIndex, other: SamplesIndex, filter_name: str) -> dict[int, int]:
    """Return by entry of ``mine`` the entry of ``other`` on the same document, as compare pairs.

    Raises:
        ConfigError: The other run has no such filter, and not one alone.
    """
    name = filter_name
    if name not in other.by_filter:
        if len(other.by_filter) != 1:
            raise ConfigError(f"the other run has no filter {filter_name!r} of this task")
        (name,) = other.by_filter
    left, right = other.by_filter[name], mine.by_filter.get(filter_name, [])
    matched = match_items(other.pipeline(name), mine.pipeline(filter_name))
    return {right[j]: left[i] for i, j in matched.shared}


def select(
    index: SamplesIndex,
    wanted: Selection,
    other: SamplesIndex | None = None,
    pairs: Mapping[int, int] | None = None,
) -> list[int]:
    """Return the numbers of the entries that are wanted, in the order of the file.

    Args:
        index: The task's samples.
        wanted: What they must be.
        other: The other run's samples, for a change.
        pairs: See `paired`.

    Raises:
        ConfigError: The change is none, or needs another run or a metric.
    """
    if wanted.change and wanted.change not in CHANGES:
        raise ConfigError(f"change is {wanted.change!r}; expected one of {', '.join(CHANGES)}")
    if wanted.change and (other is None or pairs is None):
        raise ConfigError("a change needs another run to compare with")
    if not wanted.metric and wanted.change in ("changed", "higher", "lower"):
        raise ConfigError("a change needs a metric")
    found = [*index.by_filter.get(wanted.filter, ())]
    if wanted.status:
        found = [one for one in found if wanted.status in index.entries[one].statuses]
    if wanted.least is not None or wanted.most is not None:
        found = [one for one in found if _within(index.entries[one], wanted)]
    if wanted.change and other is not None and pairs is not None:
        found = [one for one in found if _changed(one, index, wanted, other, pairs)]
    return found


def _within(entry: Entry, wanted: Selection) -> bool:
    value = entry.values.get(wanted.metric)
    if value is None:
        return False
    enough = wanted.least is None or value >= wanted.least
    return enough and (wanted.most is None or value <= wanted.most)


def _changed(
    number: int,
    index: SamplesIndex,
    wanted: Selection,
    other: SamplesIndex,
    pairs: Mapping[int, int],
) -> bool:
    if number not in pairs:
        return wanted.change == "alone"
    now, before = index.entries[number], other.entries[pairs[number]]
    if wanted.change == "status":
        return sorted(now.statuses) != sorted(before.statuses)
    new, old = now.values.get(wanted.metric), before.values.get(wanted.metric)
    if new is None or old is None:
        return False
    if wanted.change == "higher":
        return new > old
    return new < old if wanted.change == "lower" else wanted.change == "changed" and new != old
