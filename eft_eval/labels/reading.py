"""Reading label files: of any known format, with names replaced, joined to the items."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from eft_eval.errors import ConfigError, nearest
from eft_eval.labels.contents import found_in, texts_of
from eft_eval.labels.entries import NO_ANNOTATOR, Asked, Entry, Found, Place, Remark, Unusable
from eft_eval.labels.joining import Known, OneText
from eft_eval.labels.meanings import Classes, Meanings
from eft_eval.labels.people import (
    is_mixed,
    known_by_file,
    owners,
    person,
    pseudonyms,
    renamed,
    safe_path,
    safe_source,
    scrub,
    short_names,
)
from eft_eval.labels.project import KEY_NAME, Key, key_in, read_key
from eft_eval.labels.records import Dropped, Item, Label, LabelSet, Origin, without_duplicates
from eft_eval.labels.scheme import AS_WRITTEN, Unreadable, is_written_number

__all__ = ["FileReading", "labels_in", "read_labels"]

_MIXED = (
    "pseudonyms (A1, …) and names of annotators are mixed: if a person has both, that person "
    "counts as two; give the files that the pseudonyms were made from, or only these"
)


@dataclass(frozen=True)
class FileReading:
    """What a user says of label files that they do not say themselves.

    Attributes:
        item: The column of tables, or the field of a task's data, that holds the items' ids.
        person_per_file: Whether each file is one person's, whatever its annotators are called, as
            two people may have one number in two instances of a tool.
        answer: A column that holds answers, where a file does not show which of its columns do.
        meanings: What labels that are words or sentences stand for.
        letter: What pseudonyms begin with; G for adjudicators, who are other people.
    """

    item: str | None = None
    person_per_file: bool = False
    answer: str | None = None
    meanings: Meanings = Meanings()
    letter: str = "A"


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
    reading: FileReading = FileReading(),
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
        reading: What the files do not say themselves.

    Raises:
        ConfigError: A file cannot be read, its format is not known, no label is of ``field``,
            nobody is called ``judge``, or the files are not as ``reading`` says.
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
    texts = (pair for path in several for pair in texts_of(Path(path)))
    about = None if by_id is None else Known.of(by_id)
    files = _by_short_names(
        _read(path, text, about, given, (field, reading)) for path, text in texts
    )
    judges = {item.judge for item in (by_id or {}).values() if item.judge is not None}
    names, named_judge = _names(files, judge, reading.letter, judges)
    personal = owners((found for file in files for found in file.found), names)
    mixed = [*([_MIXED] if is_mixed(set(names) - {judge}) else []), *_alike(names)]
    found = _joined(
        files,
        (names, personal),
        _checked(field, files),
        reading.meanings,
        (*mixed, *_numbers(files)),
    )
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
    return replace(_joined(files, (names, {}), None, Meanings(), ()), judge=named_judge)


def _read(
    path: Path,
    text: str,
    about: Known | None,
    given: Key | None,
    asked: tuple[str | None, FileReading],
) -> _File:
    """Return what a file holds.

    Raises:
        ConfigError: It is none that can be read, or that of several people where it may not be.
    """
    key = given or read_key(path)
    known = about or Known(key.hashes if key else None)
    field, reading = asked
    person = known_by_file(path) if reading.person_per_file else None
    one = Asked(field, reading.item, answer=reading.answer, person=person)
    found = list(found_in(path, text, one))
    if person is None:
        return _File([*found, *_nameless(path, found)], known, key)
    if len(one.names) > 1:
        raise ConfigError(
            f"{scrub(str(path))} has labels under the names of {len(one.names)} annotators; "
            "--person-per-file is for files of one person each"
        )
    return _File([_of_one(record) for record in found], known, key)


def _nameless(path: Path, found: Sequence[Entry | Unusable | Remark]) -> Iterator[Remark]:
    """Remark on a file whose rows all name nobody."""
    entries = any(isinstance(one, Entry) for one in found)
    if not entries and any(getattr(one, "reason", "") == NO_ANNOTATOR for one in found):
        text = "names no annotator; --person-per-file takes it for one person's"
        yield Remark(Place(path), text)


def _of_one(record: Entry | Unusable | Remark) -> Entry | Unusable | Remark:
    """Return a record of a file that is one person's, and may be named after that person."""
    return record._replace(place=record.place._replace(named=True))


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


def _alike(names: Mapping[str, str]) -> Iterator[str]:
    """Remark on names that may be one person's: they differ in case or white space alone."""
    folded: dict[str, list[str]] = {}
    for name, shown in names.items():
        folded.setdefault("".join(name.split()).casefold(), []).append(shown)
    if alike := sorted(", ".join(sorted(one)) for one in folded.values() if len(one) > 1):
        yield (
            "annotators whose names differ in capitals or blanks alone, each taken as a person "
            f"of its own: {'; '.join(alike)}"
        )


def _given_key(path: Path) -> Key:
    key = key_in(path / KEY_NAME if path.is_dir() else path)
    if key is None:
        raise ConfigError(
            f"{scrub(str(path))} is no key of an export; give its {KEY_NAME}, or the folder with it"
        )
    return key


def _numbers(files: Sequence[_File]) -> Iterator[str]:
    """Remark on people who are known by a bare number in several files of different annotators."""
    whose = [{one.user for one in file.found if isinstance(one, Entry)} for file in files]
    count = Counter(name for names in whose for name in names if name.isdecimal())
    if shared := [name for name, files_of in count.items() if files_of > 1]:
        yield (
            f"annotators with the same number in several files, each taken as one person: "
            f"{len(shared)}; if the files are of several instances of the tool, a person each, "
            "give --person-per-file"
        )


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
    people: tuple[Mapping[str, str], Mapping[Path, tuple[Place, str]]],
    field: str | None,
    meanings: Meanings,
    more: Sequence[str],
) -> LabelSet:
    """Return labels, dropped rows and remarks, with ``more`` remarks, without names."""
    names, known = people
    entries = [[one for one in file.found if isinstance(one, Entry)] for file in files]
    texts = OneText(
        [one for one in of_file if not file.known.problem(one.item_id, one.shown)]
        for file, of_file in zip(files, entries, strict=True)
    )
    given = (one for of_file in entries for one in of_file if field in (None, one.field))
    classes = meanings.of(given)
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
                detail, of = scrub(found.detail), scrub(found.field)
                dropped.append(Dropped(where, found.reason, detail, of))
                continue
            if field is not None and found.field != field:
                continue
            reason = file.known.problem(found.item_id, found.shown)
            reason = reason or texts.problem(found.item_id, found.shown)
            outcome = _label(found, annotator, where, reason or classes)
            if isinstance(outcome, Label):
                labels.append(outcome)
            else:
                dropped.append(outcome)
    labels, mixed = _one_scale_each(labels)
    whole = without_duplicates(labels, [*dropped, *mixed], [*remarks, *more])
    wanted = {label.item_id for label in whole.labels}
    origins = {name: one for file in files for name, one in file.origins() if name in wanted}
    return replace(whole, origins=origins)


def _label(entry: Entry, annotator: str, where: str, classes: Classes | str) -> Label | Dropped:
    """Return the label that an entry is, by its class; or why it is none, which may be given."""
    reason = classes if isinstance(classes, str) else ""
    try:
        value = "" if isinstance(classes, str) else classes.value(entry)
    except Unreadable as error:
        reason = scrub(str(error))
    if reason:
        detail = f"{entry.item_id}, {entry.field}: {entry.value}"[:200]
        return Dropped(where, reason, scrub(detail), scrub(entry.field))
    digest = entry.shown.mark() if entry.shown else None
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
        why = f"not on the scale of the field's other labels, which are {expected}"
        if is_word and is_written_number(str(label.value)):
            why = AS_WRITTEN
        detail = f"{label.item_id}: {label.value}"[:200]
        dropped.append(Dropped(label.where, f"{label.field}: {why}", detail, label.field))
    return kept, dropped
