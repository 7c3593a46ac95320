"""What labels stand for: a user's own map from the words or sentences of a file to classes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeAlias

from eft_eval.errors import ConfigError, nearest
from eft_eval.files import read_text
from eft_eval.labels.entries import Entry
from eft_eval.labels.scheme import ALL_FIELDS, Absent, Unreadable, is_number, read_value
from eft_eval.yaml_text import load_yaml

__all__ = ["Classes", "Meanings", "read_meanings"]

_ByLabel: TypeAlias = Mapping[str, float | str | None]
_TEXTS = {one.name for one in ALL_FIELDS if one.kind == "text"}
_EXPECTED = (
    "expected a YAML or JSON file of LABEL: CLASS, or of the same under the names of fields; a "
    "class is a word, a number, or null for what is no label"
)


class Classes(NamedTuple):
    """The classes of the labels of some files, by field."""

    classes: Mapping[str, _ByLabel]

    def value(self, entry: Entry) -> float | str:
        """Return an answer as its field's scale, or the map, knows it.

        Raises:
            Unreadable: It is not on the scale, is in no class, or is no label.
        """
        classes = self.classes.get(entry.field)
        if classes is None and isinstance(entry.value, Absent):
            raise Unreadable(f"{entry.field}: a word for no answer (--map-labels gives it a class)")
        if classes is None:
            return read_value(entry.field, entry.value, free_text=entry.free_text)
        word = _plain(entry.value)
        if word not in classes and isinstance(entry.value, Absent):
            raise Unreadable(f"{entry.field}: a word for no answer, in no class of the map")
        if word not in classes:
            raise Unreadable(f"{entry.field}: the map of labels has no class for it")
        found = classes[word]
        if found is None:
            raise Unreadable(f"{entry.field}: no label, by the map of labels")
        return read_value(entry.field, found, free_text=isinstance(found, str))


@dataclass(frozen=True)
class Meanings:
    """Classes of labels.

    Attributes:
        classes: By field, and there by label; under "" those of any field that has such labels.
        source: The file that they are from.
    """

    classes: Mapping[str, _ByLabel] = field(default_factory=dict)
    source: str = ""

    def of(self, entries: Iterable[Entry]) -> Classes:
        """Return the classes of the fields that the entries have.

        Raises:
            ConfigError: No entry is of a field, or has one of the labels, that the map names.
        """
        if not self.classes:
            return Classes({})
        words: dict[str, set[str]] = {}
        for one in entries:
            words.setdefault(one.field, set()).add(_plain(one.value))
        found = {name: one for name, one in self.classes.items() if name}
        if unknown := [name for name in found if name not in words]:
            raise ConfigError(
                f"{self.source}: no label is of the field {unknown[0]!r}"
                f"{nearest(unknown[0], words)}; there are: {', '.join(sorted(words)) or 'none'}"
            )
        if anywhere := self.classes.get(""):
            names = [one for one in words if one not in _TEXTS and words[one] & anywhere.keys()]
            if not names and words:
                shown = sorted(word for name in words for word in words[name])[:3]
                raise ConfigError(
                    f"{self.source}: none of its labels is in the files, which have "
                    f"{', '.join(map(repr, shown))} …"
                )
            found |= dict.fromkeys(names, anywhere)
        return Classes(found)


def read_meanings(path: Path) -> Meanings:
    """Return the map of labels to classes in a YAML or JSON file.

    Raises:
        ConfigError: It cannot be read, or is no such map.
    """
    content = load_yaml(read_text(path, str(path)), str(path))
    if not isinstance(content, Mapping) or not content:
        raise ConfigError(f"{path} is no map of labels; {_EXPECTED}")
    nested = [isinstance(one, Mapping) for one in content.values()]
    if all(nested):
        return Meanings(
            {str(name): _classes(path, one) for name, one in content.items()}, str(path)
        )
    return Meanings({"": _classes(path, content)}, str(path))


def _classes(path: Path, given: Mapping[object, object]) -> _ByLabel:
    classes: dict[str, float | str | None] = {}
    for label, value in given.items():
        if value is not None and not isinstance(value, (bool, int, float, str)):
            raise ConfigError(f"{path}: the class of {label!r} is {value!r}; {_EXPECTED}")
        name = _plain("null" if label is None else label)  # YAML reads NULL as nothing
        found = _word(value) if isinstance(value, bool) else value
        if classes.get(name, found) != found:
            raise ConfigError(f"{path}: {name!r} has two classes; upper and lower case are alike")
        classes[name] = found
    return classes


def _word(value: bool) -> str:
    return "yes" if value else "no"  # YAML's reading of these words


def _plain(label: object) -> str:
    """Return a label in the one form in which it is looked up."""
    text = _word(label) if isinstance(label, bool) else str(label)
    if is_number(text):  # data frames write 1 as 1.0
        number = float(text)
        return str(int(number)) if number.is_integer() else repr(number)
    return " ".join(text.split()).casefold()
