"""Annotators without their names: pseudonyms, and e-mail addresses taken out of texts."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

__all__ = ["is_mixed", "person", "pseudonyms", "scrub", "without_person"]

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
