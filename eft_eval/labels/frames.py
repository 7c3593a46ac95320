"""Labels out of a pandas data frame, for notebooks. pandas itself is never imported here."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from eft_eval.errors import ConfigError
from eft_eval.labels.people import person, pseudonyms
from eft_eval.labels.records import Dropped, Label, LabelSet, Origin, without_duplicates
from eft_eval.labels.scheme import Unreadable, is_blank, read_value

__all__ = ["Columns", "labels_of_frame"]


class Columns(NamedTuple):
    """The columns of a long frame, one row per item and annotator.

    Attributes:
        item: The items' ids.
        annotator: The annotators.
        value: The labels: numbers or words; missing ones are dropped and counted.
        field: What was asked; None where all rows are of one field, "value".
        cluster: What each item belongs to, such as its prompt.
        stratum: The items' kinds, such as the task.
    """

    item: str = "item_id"
    annotator: str = "annotator"
    value: str = "value"
    field: str | None = None
    cluster: str | None = None
    stratum: str | None = None


def labels_of_frame(
    frame: Any, named: Columns = Columns(), *, judge: str | None = None
) -> LabelSet:
    """Return the labels of a long frame, one row per item and annotator, with names replaced.

    Args:
        frame: A pandas data frame.
        named: What its columns are called.
        judge: The annotator that is the judge; it keeps its name.

    Raises:
        ConfigError: A column does not exist, or nobody is called ``judge``.
    """
    wanted = {name: column for name, column in named._asdict().items() if column is not None}
    for name, column in wanted.items():
        if column not in frame.columns:
            known = ", ".join(map(str, frame.columns))
            raise ConfigError(f"the frame has no column {column!r} ({name}=); it has: {known}")
    columns = {name: frame[column].tolist() for name, column in wanted.items()}
    names = {person(name) for name in columns["annotator"] if not _missing(name)}
    if judge is not None and person(judge) not in names:
        raise ConfigError(f"no annotator of the frame is called {judge!r}")
    kept = set() if judge is None else {person(judge)}
    known_as = {**pseudonyms(names - kept), **{name: name for name in kept}}
    labels, dropped = list[Label](), list[Dropped]()
    origins: dict[str, Origin] = {}
    for number in range(len(columns["item"])):
        row = {name: values[number] for name, values in columns.items()}
        found = _label(row, known_as, f"row {number}")
        if isinstance(found, Dropped):
            dropped.append(found)
            continue
        labels.append(found)
        if "cluster" in row or "stratum" in row:
            texts = (str(row.get("stratum", "")), str(row.get("cluster", "")))
            origins[found.item_id] = Origin(*texts, None)
    whole = without_duplicates(labels, dropped)
    return LabelSet(whole.labels, whole.dropped, whole.remarks, origins, next(iter(kept), None))


def _label(row: dict[str, Any], names: dict[str, str], where: str) -> Label | Dropped:
    for name in ("item", "annotator", "value"):
        if _missing(row[name]):
            return Dropped(where, f"no {name}")
    field = str(row.get("field", "value"))
    try:
        value = read_value(field, _plain(row["value"]))
    except Unreadable as error:
        return Dropped(where, str(error), str(row["value"]))
    return Label(str(row["item"]), names[person(row["annotator"])], field, value, None, where)


def _missing(value: object) -> bool:
    if is_blank(value) or type(value).__name__ in {"NAType", "NaTType"}:
        return True
    return isinstance(value, float) and math.isnan(value)


def _plain(value: object) -> object:
    """Return truth values as 0 and 1, which are numbers to the statistics."""
    return int(value) if isinstance(value, bool) else value
