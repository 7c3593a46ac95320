"""Annotators without their names: pseudonyms, and names taken out of texts and paths."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath

from eft_eval.labels.entries import Entry, Place, Remark, Unusable

__all__ = [
    "is_mixed",
    "known_by_file",
    "owners",
    "person",
    "pseudonyms",
    "renamed",
    "safe_path",
    "safe_source",
    "scrub",
    "short_names",
    "without_person",
]

_PERSONAL = ("user_state.json", "annotated_instances.jsonl")  # their folders are people

_PSEUDONYM = re.compile(r"A[1-9]\d*", re.ASCII)
_WORD = re.compile(r"[^\s/\\,;:\"<>()\[\]{}|=]+")  # of signs that an unquoted address may hold
_AT = re.compile(".(@|%40).")


def scrub(text: str) -> str:
    """Return a text with ``[e-mail]`` in place of every e-mail address."""
    if "@" not in text and "%40" not in text:
        return text
    return _WORD.sub(lambda word: "[e-mail]" if _AT.search(word[0]) else word[0], text)


def without_person(path: Path | str) -> str:
    """Return a label file's path without a person's name: Potato's folders have them."""
    path = Path(path)
    if path.name in _PERSONAL:
        path = path.parent.with_name("…") / path.name
    return scrub(str(path))


def person(name: object) -> str:
    """Return a user name in the one form by which a person is recognised across files."""
    return unicodedata.normalize("NFC", str(name)).strip()


def pseudonyms(names: Iterable[str], letter: str = "A") -> dict[str, str]:
    """Return ``A1, A2, …`` for the names, in order of the names' SHA-256.

    The order tells nothing of the names, and equal sets of names give equal pseudonyms. Names that
    are such pseudonyms already, all of them, keep their numbers.
    """
    unique = sorted(set(names), key=_digest)
    if all(_PSEUDONYM.fullmatch(name) for name in unique):
        return {name: f"{letter}{name[1:]}" for name in unique}
    return {name: f"{letter}{number}" for number, name in enumerate(unique, start=1)}


def is_mixed(names: Iterable[str]) -> bool:
    """Whether some names are pseudonyms already and some are not."""
    return len({_PSEUDONYM.fullmatch(name) is None for name in names}) > 1


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()


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
        if one.user and person(one.user) in names and (one.place.personal or one.place.named)
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
