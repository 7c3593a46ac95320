"""What annotators are asked, and how their answers are read: strictly, nothing is guessed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Literal

from eft_eval.labels.entries import Entry, Place, Remark, Unusable
from eft_eval.labels.people import person, scrub, without_person

__all__ = [
    "FIELDS",
    "INSTRUCTIONS",
    "TITLE",
    "Field",
    "Unreadable",
    "is_blank",
    "known_by_file",
    "owners",
    "read_value",
    "renamed",
    "safe_path",
    "safe_source",
    "short_names",
]

TITLE = "Factual errors in responses"
INSTRUCTIONS = (
    "Count the statements of fact in the response that are wrong: 0 if there are none. Opinions, "
    "and things left out, are no errors. Choose unsure if you cannot tell."
)
"""What annotators are told on every page."""


@dataclass(frozen=True)
class Field:
    """One thing an annotator fills in."""

    name: str
    kind: Literal["count", "choice", "text"]
    asks: str
    options: tuple[str, ...] = ()


FIELDS = (
    Field("error_count", "count", "How many factual errors does the response make? (0 if none)"),
    Field(
        "has_error",
        "choice",
        "Does the response contain a factual error?",
        ("yes", "no", "unsure"),
    ),
    Field("notes", "text", "Which errors? (notes, optional)"),
)
_BY_NAME = {field.name: field for field in FIELDS}
# not float(): that also takes nan, inf, 1_0 and digits of other scripts
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)


class Unreadable(Exception):
    """A value that its field's scale does not know; the message says why, without the value."""


def is_blank(raw: object) -> bool:
    """Whether nothing was filled in."""
    return raw is None or (isinstance(raw, str) and not raw.strip())


def read_value(name: str, raw: object, *, free_text: bool = False) -> float | str:
    """Return an answer as a number, or as words.

    Args:
        name: The field. Those of `FIELDS` have their scales; any other takes numbers and words.
        raw: What the file holds, not blank.
        free_text: The file says that this is text, even where it looks like a number.

    Raises:
        Unreadable: The value is not on the field's scale.
    """
    text = str(raw).strip()
    field = _BY_NAME.get(name)
    number = None if isinstance(raw, bool) else _as_number(text)
    if field is None:
        return text if free_text or number is None else number
    if field.kind == "text":
        return text
    if field.kind == "choice":
        if text.casefold() in field.options:
            return text.casefold()
        raise Unreadable(f"{name} is none of {', '.join(field.options)}")
    if number is None:
        raise Unreadable(f"{name} is not a number")
    if number < 0 or number != int(number):
        raise Unreadable(f"{name} is not a count (0, 1, 2, …)")
    return number


def _as_number(text: str) -> float | None:
    number = float(text) if _NUMBER.fullmatch(text) else None
    return number if number is None or abs(number) < 1e300 else None


_OF = "the annotator of "


def known_by_file(path: Path) -> str:
    """Return what to call the annotator of a file that names none, until `short_names`."""
    return f"{_OF}{path.resolve()}"


def short_names(users: Iterable[str]) -> dict[str, str]:
    """Return shorter words for those who are known by their file alone.

    That is as much of the path's end as tells the files apart: mostly the file's name, so that
    people keep their pseudonyms when a folder moves.
    """
    paths = {user: PurePath(user.removeprefix(_OF)).parts for user in set(users)}
    paths = {user: parts for user, parts in paths.items() if user.startswith(_OF)}
    short = {}
    for user, parts in paths.items():
        others = [other for name, other in paths.items() if name != user]
        length = 1
        while length < len(parts) and any(one[-length:] == parts[-length:] for one in others):
            length += 1
        short[user] = _OF + "/".join(parts[-length:])
    return short


def renamed(
    found: Entry | Unusable | Remark, names: Mapping[str, str]
) -> Entry | Unusable | Remark:
    """Return a record with its user's shorter name."""
    if found.user is None or found.user not in names:
        return found
    return found._replace(user=names[found.user])


def owners(
    found: Iterable[Entry | Unusable | Remark], names: Mapping[str, str]
) -> dict[Path, tuple[Place, str]]:
    """Return the files, or their folders, that are named after a person, with the pseudonym."""
    return {
        one.place.path: (one.place, names[person(one.user)])
        for one in found
        if one.user and (one.place.personal or one.place.named)
    }


def safe_path(path: Path, known: Mapping[Path, tuple[Place, str]]) -> str:
    """Return a file's path with the pseudonym in place of a person's name."""
    if path not in known:
        return without_person(path)
    place, annotator = known[path]
    if place.personal:
        return scrub(str(path.parent.parent / annotator / path.name))
    return scrub(str(path.with_name(f"{annotator}{path.suffix}")))


def safe_source(path: Path, known: Mapping[Path, tuple[Place, str]]) -> str:
    """Return a path as it was given, a file or a folder, without a person's name."""
    for file, (place, annotator) in known.items():
        if place.personal and file.parent == path and path.name:
            return scrub(str(path.with_name(annotator)))  # the folder of one person
    return safe_path(path, known)
