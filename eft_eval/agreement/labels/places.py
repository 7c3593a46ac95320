"""Where labels stand, without people's names: paths that bear one get the pseudonym."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath

from eft_eval.agreement.labels.entries import Entry, Place, Remark, Unusable
from eft_eval.agreement.labels.people import person, scrub, without_person

__all__ = ["known_by_file", "owners", "renamed", "safe_path", "safe_source", "short_names"]

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
