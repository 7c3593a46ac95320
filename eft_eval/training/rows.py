"""The rows of one side: from the user's files or the hub, told apart into those to train on and
those to measure on.

There is no random choice: rows are ordered by a hash of what they say, and no prompt is on both
sides.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from eft_eval.errors import ConfigError
from eft_eval.tasks.data import HH_REPOSITORY, HH_REVISION
from eft_eval.tasks.sources import (
    Hub,
    LeftOut,
    find_files,
    hub_failure,
    is_hub_error,
    read_rows,
    short_names,
    snapshot,
)
from eft_eval.training.preferences import NO_PAIR, Preference, preference_of
from eft_eval.training.settings import Training

__all__ = ["Rows", "rows_of"]

_DUPLICATE = "duplicate"
_IN_TRAINING = "held-out prompt that is trained on"


@dataclass(frozen=True)
class Rows:
    """Preferences of one side, in the order of a hash.

    Attributes:
        origin: Files or data set, for people.
        revision: The hub's commit; None for files.
        files: SHA-256 of every file by name.
        train: Those to train on.
        held_out: Those to measure on.
        left_out: How many rows are neither, by reason.
    """

    origin: str
    revision: str | None
    files: Mapping[str, str]
    train: tuple[Preference, ...]
    held_out: tuple[Preference, ...]
    left_out: Mapping[str, int]


class _Source(NamedTuple):
    origin: str
    revision: str | None
    train: list[tuple[str, Path]]
    held_out: list[tuple[str, Path]]


def rows_of(training: Training, side: str) -> Rows:
    """Return the preferences that one model is made of.

    Args:
        training: The settings.
        side: ``helpful`` or ``harmless``.

    Raises:
        ConfigError: A file is missing or unreadable, or holds no preferences; the hub cannot be
            reached; or too few are left.
    """
    source = _from_files(training, side) or _from_hub(training, side)
    left_out: Counter[str] = Counter()
    found = _read(source.train, training, left_out)
    held_out = _read(source.held_out, training, left_out)
    if source.held_out:
        known = {one.turns for one in found}
        kept = [one for one in held_out if one.turns not in known]
        left_out[_IN_TRAINING] += len(held_out) - len(kept)
        train, held_out = found, kept[: training.held_out]
    else:
        train, held_out = _split(found, training.held_out)
    counts = {reason: count for reason, count in sorted(left_out.items()) if count}
    rows = Rows(
        source.origin,
        source.revision,
        {name: _sha256(path) for name, path in (*source.train, *source.held_out)},
        tuple(train),
        tuple(held_out),
        counts,
    )
    _check_enough(rows, side, training)
    return rows


def _check_enough(rows: Rows, side: str, training: Training) -> None:
    if rows.train and rows.held_out:
        return
    few = ", ".join(f"{count} {reason}" for reason, count in rows.left_out.items()) or "none"
    raise ConfigError(
        f"{side}: {rows.origin} has {len(rows.train)} pairs to train on and {len(rows.held_out)} "
        f"to measure on (rows left out: {few}; held-out is {training.held_out}); give more pairs, "
        "or a smaller held-out"
    )


def _split(found: Sequence[Preference], count: int) -> tuple[list[Preference], list[Preference]]:
    """Return the pairs to train on, and about ``count`` of other prompts, at most about half."""
    prompts: dict[tuple[str, ...], None] = {}
    chosen = 0
    sizes = Counter(one.turns for one in found)
    for one in found:
        if chosen >= min(count, len(found) // 2):
            break
        if one.turns not in prompts:
            prompts[one.turns] = None
            chosen += sizes[one.turns]
    return (
        [one for one in found if one.turns not in prompts],
        [one for one in found if one.turns in prompts],
    )


def _read(
    named: Sequence[tuple[str, Path]], training: Training, left_out: Counter[str]
) -> list[Preference]:
    """Return each preference of some files once, in the order of their hash."""
    found: dict[str, Preference] = {}
    for name, path in named:
        for one in _of_file(path, name, training.single_turn):
            if isinstance(one, LeftOut):
                left_out[one.reason] += 1
            elif (key := _key(one)) in found:
                left_out[_DUPLICATE] += 1
            else:
                found[key] = one
    return [found[key] for key in sorted(found)]


def _of_file(path: Path, name: str, single_turn: bool) -> Iterator[Preference | LeftOut]:
    columns: set[str] = set()
    lacking = True
    for row in read_rows(path, name):
        columns.update(row)
        outcome = preference_of(row, single_turn=single_turn)
        lacking = lacking and outcome == NO_PAIR
        yield outcome
    if columns and lacking:
        has = ", ".join(sorted(columns))
        raise ConfigError(f"{name}: no columns chosen and rejected; its columns are: {has}")


def _key(one: Preference) -> str:
    text = "\0".join((*one.turns, "", one.chosen, one.rejected))
    return hashlib.sha256(text.encode()).hexdigest()


def _from_files(training: Training, side: str) -> _Source | None:
    data = training.data(side)
    if data is None:
        return None
    files = find_files(list(data.train), side)
    others = find_files(list(data.held_out), f"{side}: held-out")
    if both := {one.path for one in files} & {one.path for one in others}:
        raise ConfigError(f"{side}: {min(both)} is given to train on and as held-out; name two")
    named = short_names((*files, *others))
    return _Source(
        ", ".join(name for name, _ in named), None, named[: len(files)], named[len(files) :]
    )


def _from_hub(training: Training, side: str) -> _Source:
    """Return the training and the test file of a part of HH."""
    hub = Hub(HH_REPOSITORY, (f"{side}-base/train.jsonl*", f"{side}-base/test.jsonl*"))
    revision = training.hh_revision or HH_REVISION
    try:
        commit, named = snapshot(hub, revision)
    except Exception as error:
        if not is_hub_error(error):
            raise
        raise ConfigError(
            f"{side}: cannot get {hub.repo} at {revision} from the hub, and it is not in the cache "
            f"({hub_failure(error)}): connect once, or name a file with --{side} FILE or "
            f"{side}: FILE"
        ) from error
    tests = [item for item in named if "/test" in item[0]]
    return _Source(
        f"{hub.repo} {side}-base", commit, [item for item in named if item not in tests], tests
    )


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
