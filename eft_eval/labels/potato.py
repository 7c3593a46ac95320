"""Potato: labels out of 2.x exports and live store and the files of 1.x, and 2.x projects."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from eft_eval.labels.entries import (
    Asked,
    Found,
    Lines,
    Place,
    Remark,
    Row,
    Table,
    Unusable,
    answers,
    shown_in,
)
from eft_eval.labels.potato_values import ENTRIES, SCALE_POINT, Answered, Schemas
from eft_eval.labels.project import Exported, Tool, new_export
from eft_eval.labels.records import Item
from eft_eval.labels.scheme import QUESTIONS, Field, Questions

__all__ = ["TOOL", "export_potato", "stores_in"]

_Line: TypeAlias = tuple[int, dict[str, str]]
_STORE = "user_state.json"
_OURS = {"instance_id", "user_id", "user", "displayed_text"}
_ORIGIN = "annotator_origin"


def stores_in(folder: Path) -> list[Path]:
    """Return the files that hold the annotators' answers in a project or its output folder.

    These are the live store of Potato 2.x, else the per-user files of 1.x.
    """
    for name in (_STORE, "annotated_instances.jsonl"):
        found = [path for depth in ("", "*/", "*/*/") for path in folder.glob(f"{depth}{name}")]
        if found:
            return sorted(found)
    return []


def _from_json(path: Path, content: Any, asked: Asked) -> Found | None:
    is_state = isinstance(content, dict) and "instance_id_to_label_to_value" in content
    return _from_state(path, content, asked) if is_state else None


def _from_state(path: Path, state: Mapping[str, Any], asked: Asked) -> Found:
    """Yield what a user_state.json of the live store holds."""
    named = str(state.get("user_id") or path.absolute().parent.name)
    user = asked.who(named)
    place = Place(path, personal=True)
    if machine := _machine(state.get("origin")):
        yield Unusable(place, "annotations by a machine", machine, user)
        return
    stored = state["instance_id_to_label_to_value"]
    if not isinstance(stored, dict) or not stored:
        yield Unusable(place, "no answer", "", user)
        return
    read = {str(item_id): _answered(given) for item_id, given in stored.items()}
    schemas = Schemas(path, (one for one in read.values() if one is not None))
    for item_id, given in read.items():
        here = place._replace(at=f"item {item_id}")
        if given is None:
            yield Unusable(here, "not in Potato's format", "", user)
        else:
            yield from answers(Row(here, item_id, user), schemas.values(given))
    yield from _unread(path, schemas)


def _unread(path: Path, schemas: Schemas) -> Found:
    if schemas.unread:
        text = f"not read, as no answers: {', '.join(sorted(schemas.unread))}"
        yield Remark(Place(path, personal=path.name == _STORE), text)


def _answered(given: Any) -> Answered | None:
    """Return a store's answers to one item; None where they are not in Potato's format."""
    try:
        found = _as_mapping(given)
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
    return found if all(isinstance(one, dict) for one in found.values()) else None


def _as_mapping(given: Any) -> dict[str, dict[str, object]]:
    """Return ``{schema: {name: value}}`` from the store's list ``[[{schema, name}, value], …]``."""
    if isinstance(given, dict):
        return given
    schemas: dict[str, dict[str, object]] = {}
    for key, value in given:
        schemas.setdefault(str(key["schema"]), {})[str(key["name"])] = value
    return schemas


def _from_lines(path: Path, records: Lines, asked: Asked) -> Found | None:
    ours = any(_is_record(one) for _, one in records if one)
    return _from_records(path, records, asked) if ours else None


def _is_record(record: Mapping[str, Any]) -> bool:
    return {"instance_id", "labels"} <= record.keys() or "label_annotations" in record


def _from_records(path: Path, records: Lines, asked: Asked) -> Found:
    """Yield what a JSON Lines file holds: an export of 2.x, or a file of 1.x.

    Where a line names no user, as in the per-user files of 1.x, the file's folder does.
    """
    folder = path.absolute().parent.name
    users = [str(one.get("user_id") or one.get("user") or folder) for _, one in records if one]
    owner = folder if folder in users else ""  # whose folder it is
    read = [(number, one, _labels(one)) for number, one in records]
    older = any(one and "label_annotations" in one for _, one, _ in read)
    schemas = Schemas(path, (labels for _, _, labels in read if labels), first=older)
    for number, record, labels in read:
        place = Place(path, f"line {number}", personal=bool(owner))
        if record is None:
            yield Unusable(place, "no JSON object", "", owner or None)
            continue
        named = str(record.get("user_id") or record.get("user") or folder)
        user, place = asked.who(named), place._replace(personal=named == owner)
        if machine := _machine(record.get(_ORIGIN)):
            yield Unusable(place, "annotations by a machine", machine, user)
        elif labels is None:
            yield Unusable(place, "not in Potato's format", "", user)
        else:
            given = record.get("instance_id", record.get("id"))
            item_id = "" if given is None else str(given)
            row = Row(place, item_id, user, shown_in(record))
            yield from answers(row, schemas.values(labels))
    yield from _unread(path, schemas)


def _labels(record: Mapping[str, Any] | None) -> Answered | None:
    labels = record.get("labels", record.get("label_annotations")) if record else None
    good = isinstance(labels, dict) and all(isinstance(one, dict) for one in labels.values())
    return labels if good else None


def _from_table(path: Path, table: Table, asked: Asked) -> Found | None:
    names = set(table.header)
    exported = {"instance_id", "user_id"} <= names and any("." in name for name in names)
    older = {"instance_id", "user"} <= names and any(":::" in name for name in names)
    return _from_rows(path, table, asked) if exported or older else None


def _from_rows(path: Path, table: Table, asked: Asked) -> Found:
    """Yield what a table holds: CSV or TSV of 2.x, or annotated_instances.tsv of 1.x."""
    rows = table.rows
    item = asked.column(path, table.header) or "instance_id"
    columns = {
        name: _schema_and_name(name, rows) for name in table.header if name not in {*_OURS, item}
    }
    unread = [name for name, split in columns.items() if split is None]
    if others := [name for name in unread if not name.startswith(_ORIGIN)]:
        yield Remark(Place(path), f"columns that are not read: {', '.join(others)}")
    read: list[tuple[int, dict[str, str], dict[str, dict[str, object]]]] = []
    for number, row in rows:
        labels: dict[str, dict[str, object]] = {}
        for column, split in columns.items():
            if split is not None:
                labels.setdefault(split[0], {})[split[1]] = row[column]
        read.append((number, row, labels))
    schemas = Schemas(path, (one for _, _, one in read), first="user" in table.header)
    for number, row, labels in read:
        place = Place(path, f"row {number}")
        user = asked.who(row.get("user_id", row.get("user", "")).strip())
        if (machine := row.get(_ORIGIN, "")) not in ("", "human"):
            yield Unusable(place, "annotations by a machine", machine, user)
            continue
        whole = Row(place, row[item].strip(), user, shown_in(row))
        yield from answers(whole, schemas.values(labels))
    yield from _unread(path, schemas)


def _schema_and_name(column: str, rows: Sequence[_Line]) -> tuple[str, str] | None:
    """Return a column's schema and name; None for a column without answers.

    Schemas and options may have dots in them, so the values, which for options are the option's
    text, tell where ``schema.option`` is to be cut.
    """
    if ":::" in column:
        schema, _, name = column.partition(":::")
        return None if schema == "span_annotation" else (schema, name)
    schema, dot, name = column.rpartition(".")
    if not dot or name in ("_spans", "_room", "_room_id"):
        return None
    values = {row[column] for _, row in rows} - {""}
    for value in values if len(values) == 1 else ():
        if column.endswith(f".{value}"):
            return column.removesuffix(f".{value}"), value
    if name in ENTRIES or SCALE_POINT.fullmatch(name):
        return schema, name
    schema, _, name = column.partition(".")
    return schema, name


def _machine(origin: object) -> str:
    """Return what kind of machine annotated; "" for a person."""
    kind = origin.get("kind") if isinstance(origin, dict) else origin
    return "" if kind in (None, "", "human") else str(kind)


_ITEMS = "data/items.jsonl"
# Potato 2.12.1 writes item texts into a <script> element as they are, and its sanitizer deletes
# words such as "data:". As character references all ASCII signs but these survive both.
_UNSAFE = re.compile(r"[\x21-\x7e](?<![A-Za-z0-9.,?!-])", re.ASCII)


def export_potato(
    items: Sequence[Item],
    out: Path | str,
    *,
    about: Mapping[str, Any] | None = None,
    questions: Questions = QUESTIONS["factuality"],
    port: int = 8000,
) -> Exported:
    """Write a Potato 2.x project with the items in their order, and its key.

    Every annotator logs in with a name and no password, from this computer only, and is given all
    items. Answers are kept in the project's ``annotation_output``, which can be imported as it is.

    See `Exporter`.

    Args:
        port: Where the printed command lets Potato listen.

    Raises:
        ConfigError: The items or the folder cannot be used.
    """
    import yaml

    out = Path(out)
    with new_export(items, out, about) as folder:
        (folder / _ITEMS).parent.mkdir()
        with (folder / _ITEMS).open("w", encoding="utf-8") as file:
            for item in items:
                texts = {"question": to_html(item.question), "response": to_html(item.response)}
                file.write(json.dumps({"id": item.item_id, **texts}) + "\n")
        text = yaml.safe_dump(_config(questions, port), sort_keys=False, allow_unicode=True)
        (folder / "config.yaml").write_text(text, "utf-8")
    start = f"potato start config.yaml --host 127.0.0.1 -p {port}"
    people = f"people open http://127.0.0.1:{port} and log in with any name"
    return Exported(out, f"(cd {shlex.quote(str(out))} && {start})", people)


def to_html(text: str) -> str:
    """Return HTML that shows a text as it is, line ends and indentation included."""
    escaped = _UNSAFE.sub(lambda match: f"&#{ord(match[0])};", text.replace("\t", "    "))
    escaped = re.sub(r"(?m)^ | (?= )", "&nbsp;", escaped)
    return escaped.replace("\n", "<br>")


def _config(questions: Questions, port: int) -> dict[str, Any]:
    return {
        "annotation_task_name": questions.title,
        "annotation_instructions": questions.instructions,
        "task_dir": ".",
        "output_annotation_dir": "annotation_output",
        "host": "127.0.0.1",
        "port": port,
        "data_files": [_ITEMS],
        "item_properties": {"id_key": "id", "text_key": "response"},
        "user_config": {"allow_all_users": True, "users": []},
        "require_password": False,
        "assignment_strategy": "fixed_order",
        "instance_display": {
            "layout": {"direction": "vertical"},
            "fields": [
                {"key": name, "type": "html", "label": name.capitalize()}
                for name in ("question", "response")
            ],
        },
        "annotation_schemes": [_scheme(field) for field in questions.fields],
    }


def _scheme(field: Field) -> dict[str, Any]:
    common = {"name": field.name, "description": field.asks}
    if field.kind == "count":
        return {"annotation_type": "number", **common, "min_value": 0, "step": 1}
    if field.kind == "percent":
        return {"annotation_type": "number", **common, "min_value": 0, "max_value": 100}
    if field.kind == "text":
        return {"annotation_type": "text", **common, "multiline": True}
    required = {"label_requirement": {"required": True}}
    return {"annotation_type": "radio", **common, "labels": list(field.options), **required}


TOOL = Tool(
    export_potato,
    listens=True,
    from_json=_from_json,
    from_lines=_from_lines,
    from_table=_from_table,
    stores_in=stores_in,
)
