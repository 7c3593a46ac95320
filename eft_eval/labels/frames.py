"""Labels out of a pandas data frame, for notebooks. pandas itself is never imported here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from eft_eval.errors import ConfigError
from eft_eval.labels.entries import Entry, Place, Unusable
from eft_eval.labels.people import person
from eft_eval.labels.reading import labels_in
from eft_eval.labels.records import LabelSet, Origin
from eft_eval.labels.scheme import is_blank

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
        judge: The annotator that is the judge; it keeps its name, unless that is an e-mail address.

    Raises:
        ConfigError: A column does not exist, or nobody is called ``judge``.
    """
    wanted = {name: column for name, column in named._asdict().items() if column is not None}
    for name, column in wanted.items():
        if column not in frame.columns:
            known = ", ".join(map(str, frame.columns))
            raise ConfigError(f"the frame has no column {column!r} ({name}=); it has: {known}")
    columns = {name: frame[column].tolist() for name, column in wanted.items()}
    rows = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
    return labels_in((_entry(number, row) for number, row in enumerate(rows)), judge)


def _entry(number: int, row: Mapping[str, Any]) -> Entry | Unusable:
    place = Place(Path("frame"), f"row {number}")
    for name in ("item", "annotator", "value"):
        if _missing(row[name]):
            return Unusable(place, f"no {name}")
    given = row["value"]
    value = int(given) if isinstance(given, bool) else given  # numbers to the statistics
    origin = None
    if "cluster" in row or "stratum" in row:
        origin = Origin(str(row.get("stratum", "")), str(row.get("cluster", "")), None)
    ids = str(row["item"]), person(row["annotator"]), str(row.get("field", "value"))
    return Entry(place, *ids, value, origin=origin)


def _missing(value: object) -> bool:
    if is_blank(value) or type(value).__name__ in {"NAType", "NaTType"}:
        return True
    return isinstance(value, float) and math.isnan(value)
