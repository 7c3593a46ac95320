"""Reading label files: of any known format, with names replaced, joined to the items."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from eft_eval.errors import ConfigError, nearest
from eft_eval.labels import saving
from eft_eval.labels.entries import Entry, Found, Lines, Place, Remark, Unusable
from eft_eval.labels.joining import Known
from eft_eval.labels.people import (
    is_mixed,
    owners,
    person,
    pseudonyms,
    renamed,
    safe_path,
    safe_source,
    scrub,
    short_names,
)
from eft_eval.labels.project import (
    GOLD_KEY_FORMAT,
    KEY_FORMAT,
    KEY_NAME,
    Key,
    key_in,
    read_key,
)
from eft_eval.labels.records import Dropped, Item, Label, LabelSet, Origin, without_duplicates
from eft_eval.labels.scheme import FIELDS, Unreadable, read_value
from eft_eval.labels.tables import EXPORTED_CSV, read_table
from eft_eval.labels.tools import TOOLS

__all__ = ["labels_in", "read_labels"]

_EXPECTED = (
    "Potato's project folder, user_state.json, CSV, TSV or JSONL (2.x), annotated_instances.tsv or "
    ".jsonl (1.x); Label Studio's JSON or JSON-MIN; or a CSV table with item_id in its header"
)


_MIXED = (
    "pseudonyms (A1, …) and names of annotators are mixed: if a person has both, that person "
    "counts as two; give the files that the pseudonyms were made from, or only these"
)


class _File(NamedTuple):
    found: list[Entry | Unusable | Remark]
    known: Known
    key: Key | None

    def origins(self) -> Iterator[tuple[str, Origin]]:
        """Yield where the items are from: the key's word, else that of a row."""
        for found in self.found:
            if isinstance(found, Entry) and found.origin is not None:
                yield found.item_id, found.origin
        if self.key is not None:
            yield from self.key.origins()


def read_labels(
    paths: Path | str | Iterable[Path | str],
    *,
    items: Iterable[Item] | Path | str | None = None,
    field: str | None = None,
    judge: str | None = None,
    letter: str = "A",
) -> LabelSet:
    """Read label files of any known format; the content tells which.

    Names of annotators become A1, A2, … the same for one person in all the files given. Rows that
    cannot be used are in ``dropped``, with file, row and reason; nothing is guessed. Of a field
    other than those of our exports, labels are numbers if at least half of them are, and the
    others are dropped.

    Args:
        paths: Files, Potato's project folders (their live store is read), or the folder of a CSV
            export that was filled in.
        items: What the labels must be about, by id and text: the responses of a run, or the key
            of the export that the files come from, or its folder. By default the key beside a
            file that was exported by us, if there is one.
        field: Keep this field only; tables that name no field are taken to hold it.
        judge: The annotator, as the files name it, that is the judge: it keeps its name, unless
            that is an e-mail address. A pseudonym that names one annotator will do as well. The
            judge of the items' verdicts, where it is no annotator, means the same as None.
        letter: What pseudonyms begin with; G for adjudicators, who are other people.

    Raises:
        ConfigError: A file cannot be read, its format is not known, no label is of ``field``, or
            nobody is called ``judge``.
    """
    several = [paths] if isinstance(paths, (str, Path)) else list(paths)
    if not several:
        raise ConfigError("no label files given")
    by_id: dict[str, Item] | None = None
    given = None
    if isinstance(items, (str, Path)):
        given = _given_key(Path(items))
    elif items is not None:
        by_id = {item.item_id: item for item in items}
    texts = (pair for path in several for pair in _texts(Path(path)))
    files = _by_short_names(_read(texts, by_id, given, field))
    judges = {item.judge for item in (by_id or {}).values() if item.judge is not None}
    names, named_judge = _names(files, judge, letter, judges)
    personal = owners((found for file in files for found in file.found), names)
    mixed = (_MIXED,) if is_mixed(set(names) - {judge}) else ()
    found = _joined(files, names, personal, _checked(field, files), mixed)
    found = found if by_id is None else found.about(by_id.values())
    sources = tuple(safe_source(Path(path), personal) for path in several)
    return replace(found, judge=named_judge, sources=sources)


def labels_in(found: Found, judge: str | None = None) -> LabelSet:
    """Return the labels in what one importer yields, with names replaced.

    Raises:
        ConfigError: Nobody is called ``judge``.
    """
    files = [_File(list(found), Known(None), None)]
    names, named_judge = _names(files, judge, "A", ())
    return replace(_joined(files, names, {}, None, ()), judge=named_judge)


def _read(
    texts: Iterable[tuple[Path, str]],
    items: Mapping[str, Item] | None,
    given: Key | None,
    field: str | None,
) -> Iterator[_File]:
    about = None if items is None else Known.of(items)
    for path, text in texts:
        key = given or read_key(path)
        known = about or Known(key.hashes if key else None)
        yield _File(list(_found(path, text, field)), known, key)


def _by_short_names(given: Iterable[_File]) -> list[_File]:
    """Return the files with a short word for every annotator who is known by a file alone."""
    files = list(given)
    short = short_names(one.user for file in files for one in file.found if one.user)
    return [file._replace(found=[renamed(one, short) for one in file.found]) for file in files]


def _names(
    files: Sequence[_File], judge: str | None, letter: str, judges: Collection[str]
) -> tuple[dict[str, str], str | None]:
    """Return everybody's name in the results, and the judge's among them."""
    people = {
        person(found.user)
        for file in files
        for found in file.found
        if not isinstance(found, Remark) and found.user
    }
    if judge is None:
        return pseudonyms(people, letter), None
    wanted = person(judge)
    if wanted in people and scrub(wanted) == wanted:
        return {**pseudonyms(people - {wanted}), wanted: wanted}, wanted
    names = pseudonyms(people)
    if wanted not in people and wanted not in names.values():
        if judge in judges:
            return pseudonyms(people, letter), None
        known = ", ".join(sorted(names.values(), key=lambda name: (len(name), name))[:20])
        raise ConfigError(
            f"no annotator is called {scrub(judge)!r}; expected a name as the files have it, or "
            f"one of its pseudonyms: {known or 'none, as the files have no annotators'}"
            + (f"; or the run's judge: {', '.join(sorted(judges))}" if judges else "")
        )
    return names, names.get(wanted, wanted)


def _given_key(path: Path) -> Key:
    key = key_in(path / KEY_NAME if path.is_dir() else path)
    if key is None:
        raise ConfigError(
            f"{scrub(str(path))} is no key of an export; give its {KEY_NAME}, or the folder with it"
        )
    return key


def _texts(path: Path) -> Iterator[tuple[Path, str]]:
    """Yield a file with its text, or for a folder the files that hold its labels."""
    if not path.is_dir():
        yield path, _decoded(path, _raw(path))
        return
    if (path / EXPORTED_CSV).is_file() and key_in(path / KEY_NAME):
        raw = {one: _raw(one) for one in sorted(path.glob("*.csv"))}
        sheets = {one: _decoded(one, it) for one, it in raw.items() if not saving.is_saved(it)}
        own = path / EXPORTED_CSV
        if len(sheets) > 1 and own in sheets and not _is_filled(own, sheets[own]):
            del sheets[own]
        yield from (sheets or {own: _decoded(own, raw[own])}).items()
        return
    stores = _stores_in(path)
    if not stores:
        inside = ", ".join(sorted(child.name for child in path.iterdir())[:8]) or "nothing"
        raise ConfigError(
            scrub(f"{path} holds no annotator's labels in Potato's format (it has: {inside}); ")
            + "give a label file, or the folder of a project that was annotated"
        )
    for store in stores:
        yield store, _decoded(store, _raw(store))


def _is_filled(path: Path, text: str) -> bool:
    table = read_table(path, text)
    names = [field.name for field in FIELDS if field.name in table.header]
    return any(row[name].strip() for _, row in table.rows for name in names)


def _raw(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {scrub(str(path))}: {error.strerror}") from None


def _decoded(path: Path, raw: bytes) -> str:
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
        return
    table = read_table(path, text)
    yield from table.broken
    if not table.rows:
        yield Unusable(Place(path), "no rows under the header")
    yield from _first(tool.from_table(path, table, field) for tool in TOOLS.values()) or ()


def _first(found: Iterable[Found | None]) -> Found | None:
    """Return what the first tool found that knows a file for its own."""
    return next((one for one in found if one is not None), None)


def _stores_in(folder: Path) -> list[Path]:
    return next((found for tool in TOOLS.values() if (found := tool.stores_in(folder))), [])


def _stale(path: Path) -> Found:
    """Remark on Potato's automatic exports, which may be older than its live store."""
    parents = path.absolute().parents
    if len(parents) > 2 and parents[1].name == "exports" and _stores_in(parents[2]):
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
    elif isinstance(content, dict) and content.get("format") in (KEY_FORMAT, GOLD_KEY_FORMAT):
        raise ConfigError(f"{scrub(str(path))} is the key of an export and holds no labels")
    elif isinstance(content, dict) and content.get("format") == saving.FORMAT:
        yield from saving.from_saved(path, content)
    else:
        found = _first(tool.from_json(path, content) for tool in TOOLS.values())
        lines = [] if found else _json_lines(text)
        found = found or _first(tool.from_lines(path, lines) for tool in TOOLS.values())
        if found is None:
            names = ", ".join(next((sorted(one) for _, one in lines if one), []))[:200]
            has = names or error or "no records"
            raise ConfigError(scrub(f"{path} is in no known format ({has}); expected {_EXPECTED}"))
        yield from found


def _json_lines(text: str) -> Lines:
    """Return the objects of a JSON Lines file with their line numbers; None for a broken line."""
    records: Lines = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        records.append((number, record if isinstance(record, dict) else None))
    return records


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


def _joined(
    files: Sequence[_File],
    names: dict[str, str],
    known: Mapping[Path, tuple[Place, str]],
    field: str | None,
    more: Sequence[str],
) -> LabelSet:
    """Return labels, dropped rows and remarks, with ``more`` remarks, without names."""
    labels: list[Label] = []
    dropped: list[Dropped] = []
    remarks: list[str] = []
    for file in files:
        for found in file.found:
            where = safe_path(found.place.path, known)
            if isinstance(found, Remark):
                remarks.append(scrub(f"{where}: {found.text}"))
                continue
            annotator = names[person(found.user)] if found.user else ""
            if found.place.at:
                where = scrub(f"{where}: {found.place.at}")
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
    labels, mixed = _one_scale_each(labels)
    whole = without_duplicates(labels, [*dropped, *mixed], [*remarks, *more])
    wanted = {label.item_id for label in whole.labels}
    origins = {name: one for file in files for name, one in file.origins() if name in wanted}
    return replace(whole, origins=origins)


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
