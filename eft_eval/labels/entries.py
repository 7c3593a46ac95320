"""What the importers yield, before names are replaced and labels are joined to items.

These records hold people's names; nothing but `reading` sees them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from eft_eval.errors import ConfigError, nearest
from eft_eval.labels.records import Origin
from eft_eval.labels.texts import clean_text, flat_text, text_hash

__all__ = [
    "NO_ANNOTATOR",
    "TEXTS",
    "Asked",
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
    "numbered",
    "shown_in",
]


class Place(NamedTuple):
    """Where something stands; ``personal`` means that the file's folder is named after a person."""

    path: Path
    at: str = ""
    personal: bool = False
    named: bool = False  # the file itself bears a person's name


TEXTS = (
    *("question", "response", "text", "displayed_text", "prompt", "instruction", "query", "input"),
    *("completion", "output", "answer", "context", "passage", "document", "reference", "sentence"),
)
"""Names under which people keep the texts of an item, beside the labels."""


class Asked:
    """What the user says of a file that the file itself does not say.

    Attributes:
        field: What the values of a table that names no field are.
        item: The column, or field of the tasks' data, that holds the items' ids.
        answer: A column that holds answers, if the file has it.
        person: Whose file it is, whatever it says of its annotators; None where it is to say.
        names: The annotators that it named all the same.
    """

    def __init__(
        self,
        field: str | None = None,
        item: str | None = None,
        *,
        answer: str | None = None,
        person: str | None = None,
    ) -> None:
        self.field = field
        self.answer = answer or field
        self.item = item
        self.person = person
        self.names: set[str] = set()

    def who(self, name: str) -> str:
        """Return who answered, of an answer that is under a name, blank if under none."""
        if self.person is None:
            return name
        self.names |= {name} - {""}
        return self.person

    def column(self, path: Path, names: Iterable[str]) -> str | None:
        """Return which of a file's columns holds the ids as asked; None if nothing was asked.

        Raises:
            ConfigError: The file has no such column.
        """
        if self.item is None:
            return None
        known = tuple(names)
        bare = self.item.removeprefix("data.")
        for name in (self.item, bare, f"_data_{bare}"):
            if name in known:
                return name
        listed = ", ".join(known[:20])
        raise ConfigError(
            f"{path} has no column or data field {bare!r} for the items' ids (--item)"
            f"{nearest(bare, known)}; it has: {listed or 'none'}"
        )


class Shown(NamedTuple):
    """What a file says an annotator saw.

    Attributes:
        text_sha256: The hash of question and response.
        page: A whole page, or the response alone; or its mark, out of a file of ours.
        fields: The hashes of all texts of the item, by name, where they are other texts.
    """

    text_sha256: str | None = None
    page: str | None = None
    fields: Mapping[str, str] | None = None

    @classmethod
    def marked(cls, mark: str) -> Shown:
        """Return what a saved file keeps of the texts."""
        if mark.startswith(_FIELDS):
            try:
                return cls(fields=json.loads(mark.removeprefix(_FIELDS)))
            except (ValueError, RecursionError):
                return cls()
        return cls(page=mark) if mark.startswith(_PAGE) else cls(mark)

    def mark(self) -> str | None:
        """Return what a saved file is to keep: equal for equal texts that are shown in one way."""
        if self.text_sha256 is not None:
            return self.text_sha256
        if self.fields is not None:
            return _FIELDS + json.dumps(self.fields, sort_keys=True)
        return self.page_mark()

    def is_mark(self) -> bool:
        """Whether of a page only its mark is known."""
        return self.page is not None and self.page.startswith(_PAGE)

    def page_mark(self) -> str | None:
        """Return what is equal for equal pages, whatever their markup."""
        if self.page is None or self.is_mark():
            return self.page
        return f"{_PAGE}{_short_hash(flat_text(self.page))}"


_FIELDS, _PAGE = "fields:", "page:"


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
    field: str = ""


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


def numbered(content: Sequence[Any]) -> Lines:
    """Return a list's objects with their numbers from 1 on; None for what is no object."""
    return [(n, one if isinstance(one, dict) else None) for n, one in enumerate(content, 1)]


Values: TypeAlias = dict[str, list[tuple[object, bool]]]
"""One row's answers by field, each with whether it is free text; a field should have one."""


class Row(NamedTuple):
    """Who answered about what; an id or a user may be blank."""

    place: Place
    item_id: str
    user: str
    shown: Shown | None = None
    origin: Origin | None = None


def shown_in(record: Mapping[str, Any], texts: Mapping[str, Any] | None = None) -> Shown | None:
    """Return the texts in a row, under the names that our exports and Potato give them.

    Args:
        record: The row.
        texts: What else of it describes the item; by default what is under one of `TEXTS`.
    """
    question, response = record.get("question"), record.get("response")
    if isinstance(question, str) and isinstance(response, str):
        return Shown(text_hash(question, response))
    pages = (record.get(name) for name in ("displayed_text", "text", "response"))
    page = next((one for one in pages if isinstance(one, str)), None)
    given = texts if texts is not None else {name: record.get(name) for name in TEXTS}
    read = {name: one for name, one in given.items() if isinstance(one, str)}
    if page is None and not read:
        return None
    if len(read) <= (1 if texts is None else 0):
        return Shown(page=page)
    return Shown(page=page, fields={name: _short_hash(one) for name, one in read.items()})


def _short_hash(text: str) -> str:
    return hashlib.sha256(clean_text(text).encode("utf-8", "surrogatepass")).hexdigest()[:16]


NO_ANNOTATOR = "no annotator"


def answers(row: Row, values: Values) -> Found:
    """Yield one row's answers."""
    place, item_id, user, shown, origin = row
    if not item_id or not user:
        yield Unusable(place, NO_ANNOTATOR if item_id else "no item id", user=user or None)
        return
    if not values:
        yield Unusable(place, "no answer", item_id, user)
    for field, found in values.items():
        if not found:
            yield Unusable(place, "no answer", item_id, user, field)
            continue
        if len(found) > 1:
            chosen = ", ".join(str(value) for value, _ in found)
            detail = f"{item_id}, {field}: {chosen}"
            yield Unusable(place, "several answers where one is expected", detail, user, field)
            continue
        value, free_text = found[0]
        yield Entry(place, item_id, user, field, value, free_text, shown, origin)
