"""Joining labels to items: by id, and only where the texts are the same."""

from __future__ import annotations

import re
from collections.abc import Mapping

from eft_eval.labels.entries import Shown
from eft_eval.labels.records import Item
from eft_eval.labels.texts import flat_text

__all__ = ["GOLD_PREFIX", "Known"]

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
            same = item_id not in self._items or self._response(item_id) in flat_text(
                shown.page or ""
            )
        return "" if same else "the labelled text is not the item's"

    def _response(self, item_id: str) -> str:
        if item_id not in self._flat:
            self._flat[item_id] = flat_text(self._items[item_id].response)
        return self._flat[item_id]


def _stem(item_id: str) -> str:
    """Return an id of ours without the hash of the texts; "" for any other id."""
    match = _OURS.fullmatch(item_id)
    return match[1] if match else ""
