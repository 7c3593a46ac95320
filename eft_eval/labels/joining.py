"""Joining labels to items: by id, and only where the texts are the same."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from eft_eval.labels.entries import Entry, Shown
from eft_eval.labels.records import Item
from eft_eval.labels.texts import flat_text

__all__ = ["GOLD_PREFIX", "Known", "OneText"]

GOLD_PREFIX = "gold-"
"""Of the ids in a gold project: its labels, on disagreements, are never joined as others are."""
_OURS = re.compile(r"(.+-[0-9a-f]{16}-r\d+)-[0-9a-f]{8}", re.ASCII)  # see samples


class Known:
    """The items that labels may be about; any, where no hashes of their texts are known."""

    def __init__(self, hashes: Mapping[str, str] | None) -> None:
        self._hashes = hashes
        self._items: Mapping[str, Item] = {}
        self._stems = {_stem(item_id) for item_id in hashes or ()} - {""}
        self._flat: dict[str, str] = {}

    @classmethod
    def of(cls, items: Mapping[str, Item]) -> Known:
        """Return what is known with the items' texts, by which whole pages are compared too."""
        known = cls({name: item.text_sha256 for name, item in items.items()})
        known._items = items
        return known

    def problem(self, item_id: str, shown: Shown | None) -> str:
        """Return why a label cannot be joined to an item; "" if it can."""
        if self._hashes is None:
            return ""
        if item_id not in self._hashes:
            if _stem(item_id) in self._stems:
                return "another response to this prompt was labelled than the run holds"
            if item_id.removeprefix(GOLD_PREFIX) in self._hashes:
                return "a gold label on an item that was picked, not drawn at random"
            return "no item has this id"
        if shown is None:
            return ""
        if shown.text_sha256 is not None:
            same = shown.text_sha256 == self._hashes[item_id]
        else:
            unknown = shown.page is None or item_id not in self._items or shown.is_mark()
            same = unknown or self._response(item_id) in flat_text(shown.page or "")
        return "" if same else "the labelled text is not the item's"

    def _response(self, item_id: str) -> str:
        if item_id not in self._flat:
            self._flat[item_id] = flat_text(self._items[item_id].response)
        return self._flat[item_id]


class OneText:
    """The one text under each id of all files together: an item is its id and its text.

    Where texts differ, the one that most annotators saw stands, and none if that is not one.
    Texts that files show in different ways, such as a page and question with response, are not
    held against each other. A field that is the same all through each file, and another in
    another file, such as the name of a batch, says nothing of an item.
    """

    def __init__(self, files: Iterable[Sequence[Entry]]) -> None:
        every = list(files)
        self._about_files = _about_files(every)
        self._names: dict[str, set[str]] = {}
        shown = [one for entries in every for one in entries if one.shown is not None]
        for one in shown:
            if one.shown is not None and one.shown.fields is not None:
                names = {*one.shown.fields} - self._about_files
                self._names[one.item_id] = self._names.get(one.item_id, names) & names
        seen: dict[tuple[str, str], dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        for one in shown:
            if one.shown is not None:
                for way, mark in self._marks(one.item_id, one.shown):
                    seen[one.item_id, way][mark].add(one.user)
        self._standing = {key: _most_seen(marks) for key, marks in seen.items() if len(marks) > 1}

    def problem(self, item_id: str, shown: Shown | None) -> str:
        """Return why a label is of another item than the others of its id; "" if it is not."""
        if shown is None or not self._standing:
            return ""
        marks = self._marks(item_id, shown)
        if all(self._standing.get((item_id, way), mark) == mark for way, mark in marks):
            return ""
        return "another text under the same item id (--item names another column of ids)"

    def _marks(self, item_id: str, shown: Shown) -> list[tuple[str, str]]:
        """Return how a text is shown, with what is equal for equal texts."""
        if shown.text_sha256 is not None:
            return [("hash", shown.text_sha256)]
        if shown.fields is not None:
            names = sorted(self._names.get(item_id, ()))
            return [("fields", " ".join(shown.fields[name] for name in names))] if names else []
        page = shown.page_mark()
        return [] if page is None else [("page", page)]


def _about_files(files: Sequence[Sequence[Entry]]) -> set[str]:
    """Return the fields that have one text all through each file, but not the same in all."""
    constants: dict[str, set[str]] = defaultdict(set)
    varying: set[str] = set()
    for entries in files:
        texts: dict[str, set[str]] = defaultdict(set)
        items = set()
        for one in entries:
            items.add(one.item_id)
            for name, text in ((one.shown and one.shown.fields) or {}).items():
                texts[name].add(text)
        for name, found in texts.items():
            if len(found) == 1 and len(items) > 1:
                constants[name] |= found
            else:
                varying.add(name)
    return {name for name, found in constants.items() if len(found) > 1} - varying


def _most_seen(marks: Mapping[str, set[str]]) -> str | None:
    most = max(len(people) for people in marks.values())
    first, *others = (mark for mark, people in marks.items() if len(people) == most)
    return None if others else first


def _stem(item_id: str) -> str:
    """Return an id of ours without the hash of the texts; "" for any other id."""
    match = _OURS.fullmatch(item_id)
    return match[1] if match else ""
