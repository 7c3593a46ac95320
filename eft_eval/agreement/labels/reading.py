"""Reading label files: of any known format, with names replaced, joined to the items."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from eft_eval.agreement.labels import import_label_studio, import_potato, import_tables
from eft_eval.agreement.labels.entries import Entry, Found, Place, Remark, Unusable
from eft_eval.agreement.labels.folder import KEY_FORMAT, read_key
from eft_eval.agreement.labels.joining import Known
from eft_eval.agreement.labels.people import person, pseudonyms, scrub
from eft_eval.agreement.labels.records import Dropped, Item, Label, LabelSet, without_duplicates
from eft_eval.agreement.labels.scheme import Unreadable, read_value
from eft_eval.errors import ConfigError, nearest

__all__ = ["read_labels"]

_EXPECTED = (
    "Potato's project folder, user_state.json, CSV, TSV or JSONL (2.x), annotated_instances.tsv or "
    ".jsonl (1.x); Label Studio's JSON or JSON-MIN; or a CSV table with item_id in its header"
)


class _File(NamedTuple):
    found: list[Entry | Unusable | Remark]
    known: Known


def read_labels(
    paths: Path | str | Iterable[Path | str],
    *,
    items: Iterable[Item] | None = None,
    field: str | None = None,
) -> LabelSet:
    """Read label files of any known format; the content tells which.

    Names of annotators become A1, A2, … the same for one person in all the files given. Rows that
    cannot be used are in ``dropped``, with file, row and reason; nothing is guessed. Of a field
    other than those of our exports, labels are numbers if at least half of them are, and the
    others are dropped.

    Args:
        paths: Files, or Potato's project folders (their live store is read).
        items: What the labels must be about, by id and text; without them the key beside a file
            that was exported by us, if there is one, is used for the same check.
        field: Keep this field only; tables that name no field are taken to hold it.

    Raises:
        ConfigError: A file cannot be read, its format is not known, or no label is of ``field``.
    """
    several = [paths] if isinstance(paths, (str, Path)) else list(paths)
    if not several:
        raise ConfigError("no label files given")
    by_id = None if items is None else {item.item_id: item for item in items}
    files = [
        file for path in several for one in _files(Path(path)) for file in _read(one, by_id, field)
    ]
    names = pseudonyms(
        person(found.user)
        for file in files
        for found in file.found
        if not isinstance(found, Remark) and found.user
    )
    labels, dropped, remarks = _finish(files, names, _checked(field, files))
    labels, mixed = _one_scale_each(labels)
    return without_duplicates(labels, [*dropped, *mixed], remarks)


def _files(path: Path) -> list[Path]:
    """Return the path itself, or for a folder the files that hold its labels."""
    if not path.is_dir():
        return [path]
    stores = import_potato.stores_in(path)
    if not stores:
        inside = ", ".join(sorted(child.name for child in path.iterdir())[:8]) or "nothing"
        raise ConfigError(
            scrub(f"{path} holds no annotator's labels in Potato's format (it has: {inside}); ")
            + "give a label file, or the folder of a project that was annotated"
        )
    return stores


def _read(path: Path, items: dict[str, Item] | None, field: str | None) -> Iterator[_File]:
    if items is not None:
        known = Known({name: item.text_sha256 for name, item in items.items()}, items)
    else:
        known = Known(read_key(path), None)
    yield _File(list(_found(path, _text(path), field)), known)


def _text(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {scrub(str(path))}: {error.strerror}") from None
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        hint = "save it as UTF-8 (in Excel: CSV UTF-8)"
        where = f"byte {error.start + 1}"
        raise ConfigError(f"{scrub(str(path))} is not UTF-8 text ({where}); {hint}") from None


def _found(path: Path, text: str, field: str | None) -> Found:
    """Yield what a file holds; its first sign tells JSON from tables."""
    start = text.lstrip()[:1]
    if not start:
        yield Unusable(Place(path), "empty file")
        return
    yield from _stale(path)
    if start in "[{":
        yield from _json(path, text)
    else:
        yield from import_tables.from_table(path, import_tables.read_table(path, text), field)


def _stale(path: Path) -> Found:
    """Remark on Potato's automatic exports, which may be older than its live store."""
    parents = path.absolute().parents
    if len(parents) > 2 and parents[1].name == "exports" and import_potato.stores_in(parents[2]):
        text = "an automatic export, which may lack the newest labels; give the project's folder"
        yield Remark(Place(path), text)


def _json(path: Path, text: str) -> Found:
    content: Any = None
    error = ""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as problem:
        error = f"broken JSON, {problem}"
    if content in ([], {}):
        yield Unusable(Place(path), "empty file")
    elif isinstance(content, dict) and content.get("format") == KEY_FORMAT:
        raise ConfigError(f"{scrub(str(path))} is the key of an export and holds no labels")
    elif isinstance(content, dict) and "instance_id_to_label_to_value" in content:
        yield from import_potato.from_state(path, content)
    elif import_label_studio.is_tasks(content):
        yield from import_label_studio.from_tasks(path, content)
    else:
        yield from _json_lines(path, text, error)


def _json_lines(path: Path, text: str, error: str) -> Found:
    records = import_potato.json_lines(text)
    if any(_is_potato(record) for _, record in records if record):
        yield from import_potato.from_records(path, records)
        return
    names = ", ".join(next((sorted(record) for _, record in records if record), []))[:200]
    has = names or error or "no records"
    raise ConfigError(scrub(f"{path} is in no known format ({has}); expected {_EXPECTED}"))


def _is_potato(record: dict[str, object]) -> bool:
    return {"instance_id", "labels"} <= record.keys() or "label_annotations" in record


def _checked(field: str | None, files: Sequence[_File]) -> str | None:
    """Return the field to keep, if there is any label of it."""
    given = {found.field for file in files for found in file.found if isinstance(found, Entry)}
    if field is not None and given and field not in given:
        known = ", ".join(sorted(given))
        raise ConfigError(
            scrub(f"no label is of the field {field!r}{nearest(field, given)}; ")
            + scrub(f"the files have: {known}")
        )
    return field


def _finish(
    files: Sequence[_File], names: dict[str, str], field: str | None
) -> tuple[list[Label], list[Dropped], list[str]]:
    """Return labels and dropped rows without names, and the remarks."""
    labels: list[Label] = []
    dropped: list[Dropped] = []
    remarks: list[str] = []
    for file in files:
        for found in file.found:
            if isinstance(found, Remark):
                remarks.append(scrub(f"{found.place.path}: {found.text}"))
                continue
            annotator = names[person(found.user)] if found.user else ""
            where = _where(found.place, annotator)
            if isinstance(found, Unusable):
                dropped.append(Dropped(where, found.reason, scrub(found.detail)))
                continue
            if field is not None and found.field != field:
                continue
            outcome = _label(found, annotator, where, file.known)
            if isinstance(outcome, Label):
                labels.append(outcome)
            else:
                dropped.append(outcome)
    return labels, dropped, remarks


def _label(entry: Entry, annotator: str, where: str, known: Known) -> Label | Dropped:
    reason = known.problem(entry.item_id, entry.shown)
    try:
        value = read_value(entry.field, entry.value, free_text=entry.free_text)
    except Unreadable as error:
        reason = reason or scrub(str(error))
    if reason:
        detail = f"{entry.item_id}, {entry.field}: {entry.value}"[:200]
        return Dropped(where, reason, scrub(detail))
    digest = entry.shown.text_sha256 if entry.shown else None
    value = scrub(value) if isinstance(value, str) else value
    return Label(entry.item_id, annotator, scrub(entry.field), value, digest, where)


def _where(place: Place, annotator: str) -> str:
    """Return file and row; a folder named after a person gets the pseudonym."""
    path = place.path
    if place.personal and annotator:
        path = path.parent.parent / annotator / path.name
    return scrub(f"{path}: {place.at}" if place.at else str(path))


def _one_scale_each(labels: Sequence[Label]) -> tuple[list[Label], list[Dropped]]:
    """Drop the words among numbers, or the numbers among words, field by field."""
    count = Counter((label.field, isinstance(label.value, str)) for label in labels)
    kept, dropped = [], []
    for label in labels:
        words, numbers = count[label.field, True], count[label.field, False]
        is_word = isinstance(label.value, str)
        if not words or not numbers or is_word == (words > numbers):
            kept.append(label)
            continue
        expected = "words" if words > numbers else "numbers"
        reason = (
            f"{label.field}: not on the scale of the field's other labels, which are {expected}"
        )
        dropped.append(Dropped(label.where, reason, f"{label.item_id}: {label.value}"))
    return kept, dropped
