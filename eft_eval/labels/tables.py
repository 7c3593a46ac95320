"""Tables: labels out of long and wide CSV and filled-in sheets of ours, and the sheet itself."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from eft_eval.errors import ConfigError
from eft_eval.labels.entries import (
    Entry,
    Found,
    Place,
    Remark,
    Row,
    Shown,
    Table,
    Unusable,
    Values,
    answers,
    shown_in,
)
from eft_eval.labels.people import known_by_file, scrub
from eft_eval.labels.project import Exported, Tool, new_export
from eft_eval.labels.records import Item, Origin
from eft_eval.labels.scheme import FIELDS, is_blank
from eft_eval.labels.texts import from_cell, text_hash, to_cell

__all__ = ["EXPORTED_CSV", "SAVED", "TOOL", "export_csv", "read_table"]

SAVED = ("text_sha256", "stratum", "cluster", "random_sample")
"""Columns of a long table that tell more of the item; only these names are read."""

_ITEM = ("item_id", "instance_id", "id")
_ANNOTATOR = ("annotator", "annotator_id", "user", "user_id", "rater")
_VALUE = ("value", "label", "score", "rating")
_TEXTS = ("question", "response", "text", "displayed_text")
_OURS = tuple(field.name for field in FIELDS)
_EXPECTED = (
    "item_id, annotator, value (long); item_id and one column per annotator (wide); "
    f"item_id, annotator, {', '.join(_OURS)} (our own export); or Potato's instance_id, user_id, "
    "schema.option …"
)
_LONGEST_CELL = 2**31 - 1


def read_table(path: Path, text: str) -> Table:
    """Read comma, semicolon or tab separated values.

    Raises:
        ConfigError: The quoting is broken, or the header is none that we know.
    """
    first, _, rest = text.partition("\n")
    hint = bool(re.fullmatch(r"\s*sep=.?\s*", first, re.IGNORECASE))  # for Excel
    text = rest if hint else text
    header, delimiter = _header(text)
    if not header:
        found = ", ".join(next(_parse(path, text, ","), []))
        raise ConfigError(scrub(f"{path}: unknown columns: {found[:200]}; expected {_EXPECTED}"))
    if twice := sorted({name for name in header if name and header.count(name) > 1}):
        raise ConfigError(scrub(f"{path}: columns occur twice: {', '.join(twice)}"))
    table = Table(header, [], [])
    lines = _parse(path, text, delimiter)
    next(lines)
    for number, cells in enumerate(lines, start=3 if hint else 2):
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(header):
            detail = f"{len(cells)} cells, but the header has {len(header)}"
            table.broken.append(Unusable(Place(path, f"row {number}"), "another width", detail))
        else:
            table.rows.append((number, dict(zip(header, cells, strict=True))))
    return table


def _header(text: str) -> tuple[tuple[str, ...], str]:
    """Return the header and the delimiter that makes the most columns with an item id in them."""
    best: tuple[tuple[str, ...], str] = ((), ",")
    start = io.StringIO(text[:65536], newline="")
    for delimiter in ",;\t":
        start.seek(0)
        try:
            cells = next(csv.reader(start, delimiter=delimiter), [])
        except csv.Error:
            continue
        names = tuple(cell.strip() for cell in cells)
        if len(names) > max(1, len(best[0])) and _first(names, _ITEM):
            best = names, delimiter
    return best


def _parse(path: Path, text: str, delimiter: str) -> Iterator[list[str]]:
    """Yield the rows, with cells of any length; csv's limit is global, so it is put back."""
    limit = csv.field_size_limit(_LONGEST_CELL)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        yield from reader
    except csv.Error as error:
        where = f"{path}, line {reader.line_num}"
        raise ConfigError(scrub(f"{where}: broken quoting of cells ({error})")) from error
    finally:
        csv.field_size_limit(limit)


def _first(header: Sequence[str], names: Sequence[str]) -> str | None:
    """Return the column that has the first of these names, in any case."""
    by_name = {column.casefold(): column for column in reversed(header)}
    return next((by_name[name] for name in names if name in by_name), None)


def _from_table(path: Path, table: Table, field: str | None) -> Found:
    """Yield what a table holds; ``field`` is what the values of a table that names none are.

    Raises:
        ConfigError: The header is none that we know.
    """
    header = table.header
    item = _first(header, _ITEM)
    annotator, value = _first(header, _ANNOTATOR), _first(header, _VALUE)
    if item and annotator and value:
        yield from _long(path, table, (item, annotator, value), field or "value")
    elif item and any(name in header for name in _OURS):
        yield from _ours(path, table, item, annotator)
    elif item and len(_columns(header, item, *SAVED)) > 0 and not annotator and not value:
        yield from _wide(path, table, item, field or "value")
    else:
        found = scrub(", ".join(header))
        raise ConfigError(f"{scrub(str(path))}: columns {found}; expected {_EXPECTED}")


def _columns(header: Sequence[str], *others: str | None) -> list[str]:
    """Return the columns that are neither texts nor among the others."""
    known = {*others, *_TEXTS}
    return [name for name in header if name not in known]


def _unread(path: Path, names: Sequence[str]) -> Found:
    if names:
        yield Remark(Place(path), f"columns that are not read: {', '.join(map(repr, names))}")


def _long(path: Path, table: Table, named: tuple[str, str, str], field: str) -> Found:
    item, annotator, value = named
    yield from _unread(path, _columns(table.header, *named, "field", *SAVED))
    saved = "text_sha256" in table.header  # by `saving`, with safe cells
    for number, row in table.rows:
        place = Place(path, f"row {number}")
        name = row.get("field", "").strip() or field
        values: Values = {}
        if not is_blank(row[value]):
            values[name] = [(from_cell(row[value]) if saved else row[value], False)]
        digest = row.get("text_sha256", "").strip()
        shown = Shown(digest) if digest else shown_in({**row})
        user = row[annotator].strip()
        whole = Row(place, row[item].strip(), user, shown, _origin(row))
        yield from answers(whole, values)


def _origin(row: Mapping[str, str]) -> Origin | None:
    """Return where an item is from, if the table has a column for it."""
    stratum, cluster, random = (row.get(name, "").strip() for name in SAVED[1:])
    if not (stratum or cluster or random):
        return None
    return Origin(stratum, cluster, {"yes": True, "no": False}.get(random))


def _wide(path: Path, table: Table, item: str, field: str) -> Found:
    people = [name for name in _columns(table.header, item, *SAVED) if name]
    yield Remark(Place(path), f"taken as annotators, one column each: {len(people)} columns")
    for number, row in table.rows:
        place = Place(path, f"row {number}")
        given = {name: row[name] for name in people if not is_blank(row[name])}
        if not given or not row[item].strip():
            yield Unusable(place, "no answer" if row[item].strip() else "no item id")
            continue
        for name, value in given.items():
            shown, origin = shown_in({**row}), _origin(row)
            yield Entry(place, row[item].strip(), name, field, value, shown=shown, origin=origin)


def _ours(path: Path, table: Table, item: str, annotator: str | None) -> Found:
    """Yield our own export's answers; a file without any annotator's name is one annotator's."""
    named = [name for name in _OURS if name in table.header]
    yield from _unread(path, _columns(table.header, item, annotator, *named))
    people = {row[annotator].strip() for _, row in table.rows} if annotator else set()
    alone = "" if people - {""} else known_by_file(path)
    if alone:
        text = "names no annotator; taken as one annotator's file"
        yield Remark(Place(path, named=True), text, alone)
    for number, row in table.rows:
        place = Place(path, f"row {number}", named=bool(alone))
        user = alone or (row[annotator].strip() if annotator else "")
        values: Values = {name: [(row[name], False)] for name in named if not is_blank(row[name])}
        yield from answers(Row(place, row[item].strip(), user, _own_texts(row)), values)


def _own_texts(row: Mapping[str, str]) -> Shown | None:
    if "question" not in row or "response" not in row:
        return None
    return Shown(text_hash(from_cell(row["question"]), from_cell(row["response"])))


EXPORTED_CSV = "labels.csv"


def export_csv(
    items: Sequence[Item], out: Path | str, *, about: Mapping[str, Any] | None = None
) -> Exported:
    """Write a CSV file to fill in, in the order of the items, and its key.

    The file begins with a byte order mark, by which Excel recognises UTF-8. A text that a
    spreadsheet would take for a formula begins with an apostrophe, which the import takes away.

    See `Exporter`.
    """
    out = Path(out)
    fields = [field.name for field in FIELDS]
    with (
        new_export(items, out, about) as folder,
        (folder / EXPORTED_CSV).open("w", encoding="utf-8-sig", newline="") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(["item_id", "annotator", "question", "response", *fields])
        for item in items:
            texts = [to_cell(item.question), to_cell(item.response)]
            writer.writerow([item.item_id, "", *texts, *[""] * len(fields)])
    options = "/".join(next(field.options for field in FIELDS if field.kind == "choice"))
    step = (
        f"give every annotator a copy of {out / EXPORTED_CSV} under a name of its own; they fill "
        f"in error_count (0, 1, 2, …), has_error ({options}) and notes, and save it as CSV UTF-8"
    )
    return Exported(out, step)


TOOL = Tool(export_csv, from_table=_from_table)
