"""What Potato's stored answers say: ``{schema: {name: value}}``, of 1.x and 2.x.

Schemas with options store one entry per chosen option. Its value is the option's text, ``true``,
``schema:::option`` (1.x), or the key that is bound to it. A labelled box, and a row of a table of
ratings, look the same but for what they hold; so all answers of a file are looked at together,
with the project's configuration if it is near.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from eft_eval.errors import ConfigError
from eft_eval.files import read_text
from eft_eval.labels.entries import Values
from eft_eval.labels.scheme import ALL_FIELDS, is_blank, is_number
from eft_eval.labels.tables import several_in
from eft_eval.yaml_text import load_yaml

__all__ = ["ENTRIES", "SCALE_POINT", "Answered", "Schemas"]

Answered: TypeAlias = Mapping[str, Mapping[str, object]]

_FREE_TEXT = {"text_box", "free_response", "justification"}
_WHOLE = {"number", "slider", "scale", "scale_value", "select-one", "confidence_level", "selection"}
ENTRIES = {"", *_WHOLE, *_FREE_TEXT, "selected_labels", "selected_path"}
"""Names of entries that are no options."""
SCALE_POINT = re.compile(r"scale_(\d+)", re.ASCII)  # Potato 1.x
_NO_ANSWERS = {"rank_order", "range_low", "range_high"}  # of several things at once
_OPTIONS = {"radio", "multiselect", "select"}
_BOXES = {"text", "textbox", "multirate", "number", "slider", "constant_sum", "soft_label"}
_DEEP = 4


class Schemas:
    """What the schemas of one file are, by its answers and the configuration beside it."""

    def __init__(self, path: Path, every: Iterable[Answered], *, first: bool = False) -> None:
        """Look at the answers of a whole file.

        Args:
            path: The file.
            every: Its answers.
            first: Whether Potato 1.x wrote it, where numbers are in a ``text_box`` too.
        """
        records = [one for one in every if one]
        names = {schema for one in records for schema in one}
        kinds = {name: kind for name, kind in _configured(path).items() if name in names}
        by_schema = {name: [one[name] for one in records if name in one] for name in names}
        self.unread: set[str] = set()
        self._options = {
            name
            for name, given in by_schema.items()
            if kinds.get(name) in _OPTIONS
            or (kinds.get(name) not in _BOXES and _are_options(name, given))
        }
        self._numbers = {
            name
            for name, given in by_schema.items()
            if kinds.get(name) == "number" or (first and name not in kinds and _are_numbers(given))
        }

    def values(self, answered: Answered) -> Values:
        """Return the answers to one item by field, each with whether it is free text."""
        values: Values = {}
        for schema, given in answered.items():
            for name, value in given.items():
                if is_blank(value) or (name not in ENTRIES and _is_unset(name, value)):
                    continue
                if name in _NO_ANSWERS:
                    self.unread.add(schema)
                    continue
                for field, answer in self._answers(schema, name, value):
                    free = name in _FREE_TEXT and schema not in self._numbers
                    values.setdefault(field, []).append((answer, free))
        return values

    def _answers(self, schema: str, name: str, value: object) -> list[tuple[str, object]]:
        """Return field and answer of one stored entry; several where it holds a list."""
        if name in ("free_response", "justification"):
            return [(f"{schema}.{name}", value)]
        if name == "selected_labels":
            listed = several_in(str(value))
            parts = listed if len(listed) > 1 else str(listed[0]).split(",")
            return [(schema, part.strip()) for part in parts]
        if name in ENTRIES or name == schema:
            return [(schema, _bare(schema, value))]
        if schema == "slider":
            return [(name, value)]  # Potato 1.x has the names the other way round
        if point := SCALE_POINT.fullmatch(name):
            return [(schema, point[1])]
        if schema in self._options or name == "bad_text" or _is_chosen(schema, name, value):
            return [(schema, name)]
        return [(f"{schema}.{name}", value)]  # a labelled box


def _is_unset(name: str, value: object) -> bool:
    """Whether an option was not chosen, or what is stored are spans, no labels of a response."""
    text = str(value).casefold()
    return (text == "false" != name.casefold()) or text.startswith(("[]", "[{"))


def _is_chosen(schema: str, name: str, value: object) -> bool:
    if value is True:
        return True
    return str(value).casefold() in ("true", name.casefold(), f"{schema}:::{name}".casefold())


def _bare(schema: str, value: object) -> object:
    return value.removeprefix(f"{schema}:::") if isinstance(value, str) else value


def _are_options(schema: str, given: Iterable[Mapping[str, object]]) -> bool:
    """Whether a schema's entries are options that store the keys bound to them.

    A key is one sign, the same for an option wherever it is chosen and another for each option;
    and either one option is chosen at a time, or now more and now fewer of them.
    """
    keys: dict[str, set[str]] = {}
    sizes = set()
    for entries in given:
        chosen = [
            name
            for name, value in entries.items()
            if not (name in ENTRIES or is_blank(value) or _is_unset(name, value))
        ]
        sizes.add(len(chosen))
        for name in chosen:
            if not _is_chosen(schema, name, entries[name]):
                keys.setdefault(name, set()).add(str(entries[name]))
    own = {option for one in ALL_FIELDS if one.name == schema for option in one.options}
    if own and keys.keys() <= own:
        return True
    found = [one for keys_of in keys.values() for one in keys_of]
    one_each = len(found) == len(keys) == len({*found}) and all(len(one) == 1 for one in found)
    return len(keys) > 1 and one_each and (max(sizes) <= 1 or len(sizes - {0}) > 1)


def _are_numbers(given: Iterable[Mapping[str, object]]) -> bool:
    boxes = [entries["text_box"] for entries in given if not is_blank(entries.get("text_box"))]
    return bool(boxes) and all(is_number(one) for one in boxes)


def _configured(path: Path) -> dict[str, str]:
    """Return the kinds of the schemas in the configuration of the project that a file is in."""
    for folder in list(path.absolute().parents)[:_DEEP]:
        for file in sorted([*folder.glob("*.yaml"), *folder.glob("configs/*.yaml")])[:20]:
            if found := _schemes(file):
                return found
    return {}


def _schemes(file: Path) -> dict[str, str]:
    try:
        content: Any = load_yaml(read_text(file, str(file)), str(file))
    except ConfigError:
        return {}  # of another program
    schemes = content.get("annotation_schemes") if isinstance(content, dict) else None
    if not isinstance(schemes, list):
        return {}
    named = [one for one in schemes if isinstance(one, dict) and "name" in one]
    return {str(one["name"]): str(one.get("annotation_type")) for one in named}
