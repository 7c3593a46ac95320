"""Tables: labels out of long and wide CSV and filled-in sheets of ours, and the sheet itself."""

from __future__ import annotations

import ast
import csv
import io
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from eft_eval.characters import one_line
from eft_eval.errors import ConfigError
from eft_eval.labels.entries import (
    TEXTS,
    Asked,
    Entry,
    Found,
    Lines,
    Place,
    Remark,
    Row,
    Shown,
    Table,
    Unusable,
    Values,
    answers,
    numbered,
    shown_in,
)
from eft_eval.labels.people import known_by_file, scrub
from eft_eval.labels.project import Exported, Tool, new_export
from eft_eval.labels.records import Item, Origin
from eft_eval.labels.scheme import ALL_FIELDS, NO_ANSWER, QUESTIONS, Absent, Questions, is_blank
from eft_eval.labels.texts import from_cell, text_hash, to_cell

__all__ = ["EXPORTED_CSV", "SAVED", "TOOL", "export_csv", "read_table", "several_in"]

SAVED = ("text_sha256", "stratum", "cluster", "random_sample")
"""Columns of a long table that tell more of the item; only these names are read."""

_ITEM = ("item_id", "instance_id", "id")
_ANNOTATOR = (
    *("annotator", "annotator_id", "annotator_name", "user", "user_id", "rater", "rater_id"),
    *("coder", "coder_id", "labeler", "labeller", "worker", "worker_id"),
)
_VALUE = ("value", "label", "score", "rating")
_ABOUT = re.compile(  # columns beside the labels that are no annotator's
    r"unnamed: \d+|index|row|(annotation|doc|prompt|task|batch)_?(id|number)?|model|system|source"
    r"|split|stratum|cluster|(lead_|duration_)?time|duration|(time)?stamp|date"
    r"|(created|updated|submitted|started|finished)(_?at)?|comments?|notes?|remarks?"
    r"|std(ev)?|variance|sum|total|count|n_?(labels|ratings|votes)|agreement|confidence"
    r"|.+[ _.:-](comments?|notes?|remarks?|reason(s|ing)?|rationale|explanation|(time)?stamp|time"
    r"|duration|seconds|confidence)",
    re.IGNORECASE,
)
_OF_ALL = re.compile(  # made of several people's labels
    r"(mean|average|avg|median|mode|majority|consensus|agreed|aggregated?|adjudicated|gold|final"
    r"|ground[ _]?truth)([ _-]?(labels?|scores?|ratings?|values?|votes?|answers?))?",
    re.IGNORECASE,
)
_BESIDE_IT = re.compile(r"sd|n", re.IGNORECASE)  # alone they are initials
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}.*)?|\d{1,2}[./]\d{1,2}[./]\d{4}.*")
_SEVERAL = re.compile(r"\s*[;|]\s*")
_AT_THE_FIRST = re.compile(r"([^\s_.:/-]+)[\s_.:/-]+(.+)")
_AT_THE_LAST = re.compile(r"(.+?)[\s_.:/-]+([^\s_.:/-]+)")
_KINDS = {
    *(*_ANNOTATOR, "ann", "expert", "crowd", "human", "person", "student", "novice", "turker"),
    *("reviewer", "evaluator", "author", "judge", "llm", "model"),
}
"""What people are called in numbers, as ``expert_1``."""
_OURS = tuple(field.name for field in ALL_FIELDS)
_ANSWERS = tuple(field.name for field in ALL_FIELDS if field.kind != "text")
_EXPECTED = (
    "item_id, annotator, value (long); item_id and one column per annotator (wide); "
    "item_id, annotator, error_count, has_error, notes (our own export); or Potato's instance_id, "
    "user_id, schema.option …"
)
_CHOICE = "has_error"
_LONGEST_CELL = 2**31 - 1


def read_table(path: Path, text: str, item: str | None = None) -> Table:
    """Read comma, semicolon or tab separated values.

    Args:
        path: The file.
        text: What it holds.
        item: The column of the items' ids, where it has a name of its own.

    Raises:
        ConfigError: The quoting is broken, or the header is none that we know.
    """
    first, _, rest = text.partition("\n")
    hint = bool(re.fullmatch(r"\s*sep=.?\s*", first, re.IGNORECASE))  # for Excel
    text = rest if hint else text
    named = () if item is None else (item.casefold(), item.removeprefix("data.").casefold())
    header, delimiter = _header(text, (*_ITEM, *named))
    if not header:
        found = one_line(", ".join(next(_parse(path, text, ","), [])))
        raise ConfigError(scrub(f"{path}: unknown columns: {found[:200]}; expected {_EXPECTED}"))
    if twice := sorted({name for name in header if name and header.count(name) > 1}):
        found = one_line(", ".join(twice))
        raise ConfigError(scrub(f"{path}: columns occur twice: {found}"))
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


def _header(text: str, items: Sequence[str]) -> tuple[tuple[str, ...], str]:
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
        if len(names) > max(1, len(best[0])) and _first(names, items):
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
    """Return the column that has the first of these names, in any case, as ``Item ID``."""
    by_name = {_plain(column): column for column in reversed(header)}
    by_name |= {column.casefold(): column for column in reversed(header)}
    known = (by_name.get(name) or by_name.get(_plain(name)) for name in names)
    return next((column for column in known if column), None)


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.casefold())


def _from_table(path: Path, table: Table, asked: Asked) -> Found:
    """Yield what a table holds.

    Raises:
        ConfigError: The header is none that we know.
    """
    header = table.header
    item = asked.column(path, header) or _first(header, _ITEM)
    annotator, value = _first(header, _ANNOTATOR), _first(header, _VALUE)
    if asked.answer in header and asked.answer not in (item, annotator, *_OURS):
        value = asked.answer
    alone = asked.person is not None and value is not None
    if item and value and (annotator or alone):
        yield from _long(path, table, (item, annotator, value), asked)
    elif item and any(name in header for name in (_OURS if annotator else _ANSWERS)):
        yield from _ours(path, table, (item, annotator), asked)
    elif item and not annotator and not value and _people(table, item):
        _check_wide(path, table, item)
        yield from _wide(path, table, item, asked)
    else:
        found = one_line(scrub(", ".join(header)))
        others = [name for name in _columns(header, item, annotator, *SAVED) if name]
        if item and (annotator or asked.person is not None) and others:
            listed = one_line(scrub(", ".join(others)))
            raise ConfigError(
                f"{scrub(str(path))}: no column is called value, label, score or rating; name the "
                f"one that holds the labels with --field: {listed}"
            )
        raise ConfigError(f"{scrub(str(path))}: columns {found}; expected {_EXPECTED}")


def _columns(header: Sequence[str], *others: str | None) -> list[str]:
    """Return the columns that are neither texts nor among the others."""
    known = {*others, *TEXTS}
    return [name for name in header if name not in known]


def _people(table: Table, item: str) -> list[str]:
    """Return the columns of a wide table that may be annotators: no texts, times, or numbering."""
    names = [name for name in _columns(table.header, item, *SAVED) if name]
    found = [
        name
        for name in names
        if not _ABOUT.fullmatch(name)
        and _first([name], _ITEM) is None
        and not _describes_items([row[name].strip() for _, row in table.rows])
        and not any(row[name].lstrip().startswith(("{", "[{")) for _, row in table.rows)  # spans
    ]
    of_all = {name for name in found if _OF_ALL.fullmatch(name)}
    if not of_all:
        return found
    found = [name for name in found if not _BESIDE_IT.fullmatch(name)]
    people = [name for name in found if name not in of_all]
    return people if len(people) > 1 else found  # one person's and the gold label, or that alone


def _check_wide(path: Path, table: Table, item: str) -> None:
    """Raise if a table with a column per annotator is none.

    Raises:
        ConfigError: Most items have several rows, or the columns are of annotators and questions.
    """
    rows = Counter(row[item].strip() for _, row in table.rows if row[item].strip())
    if sum(count for count in rows.values() if count > 1) > rows.total() / 2:
        raise ConfigError(
            f"{scrub(str(path))}: no column is called annotator, and most items have several rows: "
            "no wide table, which has one row per item and one column per annotator"
        )
    people = _people(table, item)
    for split in (_AT_THE_FIRST, _AT_THE_LAST):
        parts = [found.groups() for name in people if (found := split.fullmatch(name))]
        firsts, seconds = ({one[i] for one in parts} for i in (0, 1))
        grid = len(firsts) * len(seconds) == len(people) and min(len(firsts), len(seconds)) > 1
        if grid and not (all(map(str.isdecimal, seconds)) and _are_people(firsts, split)):
            raise ConfigError(
                f"{scrub(str(path))}: its {len(people)} columns look like {len(firsts)} times "
                f"{len(seconds)}, as of annotators and questions; give one question a file, or one "
                "row per item and annotator"
            )


def _are_people(names: Iterable[str], split: re.Pattern[str]) -> bool:
    """Whether what stands before numbers is people, as in ``expert_1`` and ``team_a_1``."""
    kinds = {name.casefold().removesuffix("s") for name in names}
    return split is _AT_THE_LAST or kinds <= _KINDS


def _describes_items(cells: Sequence[str]) -> bool:
    """Whether a column holds times, or a text of its own for most of the rows."""
    given = [cell for cell in cells if cell]
    if given and all(_DATE.fullmatch(cell) for cell in given):
        return True
    words = [len(cell.split()) for cell in given]
    return len(given) > 2 and sum(words) > 4 * len(given) and len({*given}) > len(given) / 2


def _unread(path: Path, names: Sequence[str]) -> Found:
    if names:
        yield Remark(Place(path), f"columns that are not read: {', '.join(map(repr, names))}")


def _long(path: Path, table: Table, named: tuple[str, str | None, str], asked: Asked) -> Found:
    item, annotator, value = named
    field = value if value == asked.answer else asked.field or "value"
    yield from _unread(path, _columns(table.header, *named, "field", *SAVED))
    saved = "text_sha256" in table.header  # by `saving`, with safe cells
    people = {row[annotator].strip() for _, row in table.rows} if annotator else set()
    for number, row in table.rows:
        place = Place(path, f"row {number}")
        name = row.get("field", "").strip() or field
        values: Values = {}
        if not is_blank(row[value]):
            given = from_cell(row[value]) if saved else row[value]
            listed = [given] if saved else [_cell_of(one) for one in several_in(given)]
            values[name] = [(one, False) for one in listed]
        digest = row.get("text_sha256", "").strip()
        shown = Shown.marked(digest) if digest else shown_in(_without(row, named))
        user = row[annotator].strip() if annotator else ""
        if len(parts := _SEVERAL.split(user)) > 1 and people & {*parts}:
            yield Unusable(place, "several annotators in one cell", row[item].strip())
            continue
        whole = Row(place, row[item].strip(), asked.who(user), shown, _origin(row))
        yield from answers(whole, values)


def _cell_of(text: str) -> str:
    """Return a cell's text, marked where it is a word for an empty one."""
    return Absent(text) if text.strip().casefold() in NO_ANSWER else text


def several_in(cell: str) -> list[str]:
    """Return the answers in a cell, which may hold a list of them as JSON or Python write it."""
    text = cell.strip()
    if not (text.startswith("[") and text.endswith("]")):
        return [cell]
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return [cell]
    if not isinstance(found, list) or not all(isinstance(one, (str, int, float)) for one in found):
        return [cell]
    return [str(one) for one in found]


def _without(row: Mapping[str, str], names: Sequence[str | None]) -> dict[str, str]:
    return {name: cell for name, cell in row.items() if name not in names}


def _origin(row: Mapping[str, str]) -> Origin | None:
    """Return where an item is from, if the table has a column for it."""
    stratum, cluster, random = (row.get(name, "").strip() for name in SAVED[1:])
    if not (stratum or cluster or random):
        return None
    return Origin(stratum, cluster, {"yes": True, "no": False}.get(random))


def _wide(path: Path, table: Table, item: str, asked: Asked) -> Found:
    people, field = _people(table, item), asked.field or "value"
    others = len([name for name in _columns(table.header, item, *SAVED) if name]) - len(people)
    beside = f"; {others} are not read: times, texts, numbering, means" if others else ""
    text = f"taken as annotators, one column each: {len(people)} columns{beside}"
    yield Remark(Place(path), text)
    for number, row in table.rows:
        place = Place(path, f"row {number}")
        given = {name: row[name] for name in people if not is_blank(row[name])}
        if not given or not row[item].strip():
            yield Unusable(place, "no answer" if row[item].strip() else "no item id")
            continue
        for name, value in given.items():
            shown, origin = shown_in(_without(row, (item, *people))), _origin(row)
            who = asked.who(name)
            said = _cell_of(value)
            yield Entry(place, row[item].strip(), who, field, said, shown=shown, origin=origin)


def _ours(path: Path, table: Table, columns: tuple[str, str | None], asked: Asked) -> Found:
    """Yield our own export's answers; a file without any annotator's name is one annotator's."""
    item, annotator = columns
    named = [name for name in _OURS if name in table.header]
    yield from _unread(path, _columns(table.header, item, annotator, *named))
    people = {row[annotator].strip() for _, row in table.rows} if annotator else set()
    alone = "" if people - {""} else known_by_file(path)
    if alone:
        text = "names no annotator; taken as one annotator's file"
        yield Remark(Place(path, named=True), text, alone)
    for number, row in table.rows:
        place = Place(path, f"row {number}", named=bool(alone))
        user = asked.who(row[annotator].strip() if annotator else "") or alone
        values: Values = {name: [(row[name], False)] for name in named if not is_blank(row[name])}
        yield from answers(Row(place, row[item].strip(), user, _own_texts(row)), values)


def _own_texts(row: Mapping[str, str]) -> Shown | None:
    if "question" not in row or "response" not in row:
        return None
    return Shown(text_hash(from_cell(row["question"]), from_cell(row["response"])))


EXPORTED_CSV = "labels.csv"


def export_csv(
    items: Sequence[Item],
    out: Path | str,
    *,
    about: Mapping[str, Any] | None = None,
    questions: Questions = QUESTIONS["factuality"],
) -> Exported:
    """Write a CSV file to fill in, in the order of the items, and its key.

    The file begins with a byte order mark, by which Excel recognises UTF-8. A text that a
    spreadsheet would take for a formula begins with an apostrophe, which the import takes away.

    See `Exporter`.
    """
    out = Path(out)
    fields = [field.name for field in questions.fields]
    with (
        new_export(items, out, about) as folder,
        (folder / EXPORTED_CSV).open("w", encoding="utf-8-sig", newline="") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(["item_id", "annotator", "question", "response", *fields])
        for item in items:
            texts = [to_cell(item.question), to_cell(item.response)]
            writer.writerow([item.item_id, "", *texts, *[""] * len(fields)])
    takes = {"count": "0, 1, 2, …", "percent": "0 to 100"}
    asked = [
        f"{field.name} ({takes.get(field.kind) or '/'.join(field.options)})"
        for field in questions.fields
        if field.kind != "text"
    ]
    step = (
        f"give every annotator a copy of {out / EXPORTED_CSV} under a name of its own; they fill "
        f"in {', '.join(asked)} and notes, and save it as CSV UTF-8"
    )
    return Exported(out, step)


def _from_json(path: Path, content: Any, asked: Asked) -> Found | None:
    """Return what a list of rows holds, as data frames are written; None for another list."""
    return _from_lines(path, numbered(content), asked) if isinstance(content, list) else None


def _from_lines(path: Path, lines: Lines, asked: Asked) -> Found | None:
    """Return what rows hold that are an object each; None where these have no item's id."""
    header = tuple(dict.fromkeys(name for _, row in lines for name in row or ()))
    named = asked.item is not None and asked.item.removeprefix("data.") in header
    if not named and _ITEM[0] not in header:
        return None
    table = Table(header, [], [])
    for number, row in lines:
        if row is None:
            table.broken.append(Unusable(Place(path, f"row {number}"), "broken JSON"))
        else:
            table.rows.append((number, {name: _cell(name, row.get(name)) for name in header}))
    return itertools.chain(table.broken, _from_table(path, table, asked))


def _cell(name: str, value: Any) -> str:
    """Return a value as a table has it."""
    if value is None or value != value:
        return ""
    if isinstance(value, bool) and name == _CHOICE:
        return "yes" if value else "no"
    return value if isinstance(value, str) else json.dumps(value)


TOOL = Tool(export_csv, from_json=_from_json, from_lines=_from_lines, from_table=_from_table)
