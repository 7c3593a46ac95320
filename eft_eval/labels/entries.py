"""What the importers yield, before names are replaced and labels are joined to items.

These records hold people's names; nothing but `reading` sees them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from eft_eval.labels.records import Origin
from eft_eval.labels.texts import text_hash

__all__ = [
    "Entry",
    "Found",
    "Lines",
    "Place",
    "Remark",
    "Row",
    "Shown",
    "Table",
    "Unusable",
    "Values",
    "answers",
    "shown_in",
]


class Place(NamedTuple):
    """Where something stands; ``personal`` means that the file's folder is named after a person."""

    path: Path
    at: str = ""
    personal: bool = False
    named: bool = False  # the file itself bears a person's name


class Shown(NamedTuple):
    """What a file says an annotator saw: the hash of question and response, or a whole page."""

    text_sha256: str | None = None
    page: str | None = None


class Entry(NamedTuple):
    """One answer, as the file holds it; never blank."""

    place: Place
    item_id: str
    user: str
    field: str
    value: object
    free_text: bool = False
    shown: Shown | None = None
    origin: Origin | None = None


class Unusable(NamedTuple):
    """A row, or a part of one, that holds no answer."""

    place: Place
    reason: str
    detail: str = ""
    user: str | None = None


class Remark(NamedTuple):
    """Something about a whole file."""

    place: Place
    text: str
    user: str | None = None


class Table(NamedTuple):
    """A table: header, usable rows by their number in a spreadsheet, and rows that are not."""

    header: tuple[str, ...]
    rows: list[tuple[int, dict[str, str]]]
    broken: list[Unusable]


Found: TypeAlias = Iterator[Entry | Unusable | Remark]
Lines: TypeAlias = list[tuple[int, dict[str, Any] | None]]
Values: TypeAlias = dict[str, list[tuple[object, bool]]]
"""One row's answers by field, each with whether it is free text; a field should have one."""


class Row(NamedTuple):
    """Who answered about what; an id or a user may be blank."""

    place: Place
    item_id: str
    user: str
    shown: Shown | None = None
    origin: Origin | None = None


def shown_in(record: dict[str, Any]) -> Shown | None:
    """Return the texts in a row, under the names that our exports and Potato give them."""
    question, response = record.get("question"), record.get("response")
    if isinstance(question, str) and isinstance(response, str):
        return Shown(text_hash(question, response))
    for name in ("displayed_text", "text", "response"):
        if isinstance(page := record.get(name), str):
            return Shown(page=page)
    return None


def answers(row: Row, values: Values) -> Found:
    """Yield one row's answers."""
    place, item_id, user, shown, origin = row
    if not item_id or not user:
        yield Unusable(place, "no item id" if not item_id else "no annotator", user=user or None)
        return
    if not values:
        yield Unusable(place, "no answer", item_id, user)
    for field, found in values.items():
        if len(found) > 1:
            chosen = ", ".join(str(value) for value, _ in found)
            detail = f"{item_id}, {field}: {chosen}"
            yield Unusable(place, "several answers where one is expected", detail, user)
            continue
        value, free_text = found[0]
        yield Entry(place, item_id, user, field, value, free_text, shown, origin)
