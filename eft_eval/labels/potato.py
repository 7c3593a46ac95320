"""Potato: labels out of 2.x exports and live store and the files of 1.x, and 2.x projects.

A stored answer is ``{schema: {name: value}}``. Schemas with options store one entry per chosen
option; the value is the option's text (2.x), ``true`` or the key to press (1.x).
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from eft_eval.labels.entries import (
    Found,
    Lines,
    Place,
    Remark,
    Row,
    Table,
    Unusable,
    Values,
    answers,
    shown_in,
)
from eft_eval.labels.project import Exported, Tool, new_export
from eft_eval.labels.records import Item
from eft_eval.labels.scheme import FIELDS, INSTRUCTIONS, TITLE, Field, is_blank

__all__ = ["TOOL", "export_potato", "stores_in"]

_Line: TypeAlias = tuple[int, Mapping[str, str]]
_FREE_TEXT = {"text_box", "free_response"}
_ENTRIES = {"", "number", "slider", "scale", "select-one", "confidence_level", *_FREE_TEXT}
_SCALE_POINT = re.compile(r"scale_(\d+)", re.ASCII)  # Potato 1.x
_OURS = {"instance_id", "user_id", "user", "displayed_text"}
_ORIGIN = "annotator_origin"


def stores_in(folder: Path) -> list[Path]:
    """Return the files that hold the annotators' answers in a project or its output folder.

    These are the live store of Potato 2.x, else the per-user files of 1.x.
    """
    for name in ("user_state.json", "annotated_instances.jsonl"):
        found = [path for depth in ("", "*/", "*/*/") for path in folder.glob(f"{depth}{name}")]
        if found:
            return sorted(found)
    return []


def _from_json(path: Path, content: Any) -> Found | None:
    is_state = isinstance(content, dict) and "instance_id_to_label_to_value" in content
    return _from_state(path, content) if is_state else None


def _from_state(path: Path, state: Mapping[str, Any]) -> Found:
    """Yield what a user_state.json of the live store holds."""
    user = str(state.get("user_id") or path.absolute().parent.name)
    place = Place(path, personal=True)
    if machine := _machine(state.get("origin")):
        yield Unusable(place, "annotations by a machine", machine, user)
        return
    stored = state["instance_id_to_label_to_value"]
    if not isinstance(stored, dict) or not stored:
        yield Unusable(place, "no answer", "", user)
        return
    for item_id, given in stored.items():
        here = place._replace(at=f"item {item_id}")
        try:
            values = _values(_as_mapping(given))
        except (AttributeError, KeyError, TypeError, ValueError):
            yield Unusable(here, "not in Potato's format", "", user)
            continue
        yield from answers(Row(here, str(item_id), user), values)


def _as_mapping(given: Any) -> dict[str, dict[str, object]]:
    """Return ``{schema: {name: value}}`` from the store's list ``[[{schema, name}, value], …]``."""
    if isinstance(given, dict):
        return given
    schemas: dict[str, dict[str, object]] = {}
    for key, value in given:
        schemas.setdefault(str(key["schema"]), {})[str(key["name"])] = value
    return schemas


def _from_lines(path: Path, records: Lines) -> Found | None:
    ours = any(_is_record(one) for _, one in records if one)
    return _from_records(path, records) if ours else None


def _is_record(record: Mapping[str, Any]) -> bool:
    return {"instance_id", "labels"} <= record.keys() or "label_annotations" in record


def _from_records(path: Path, records: Lines) -> Found:
    """Yield what a JSON Lines file holds: an export of 2.x, or a file of 1.x.

    Where a line names no user, as in the per-user files of 1.x, the file's folder does.
    """
    folder = path.absolute().parent.name
    users = [str(one.get("user_id") or one.get("user") or folder) for _, one in records if one]
    owner = folder if folder in users else ""  # whose folder it is
    for number, record in records:
        place = Place(path, f"line {number}", personal=bool(owner))
        if record is None:
            yield Unusable(place, "no JSON object", "", owner or None)
        else:
            user = str(record.get("user_id") or record.get("user") or folder)
            yield from _from_record(place._replace(personal=user == owner), user, record)


def _from_record(place: Place, user: str, record: dict[str, Any]) -> Found:
    labels = record.get("labels", record.get("label_annotations"))
    item_id = record.get("instance_id", record.get("id"))
    if machine := _machine(record.get(_ORIGIN)):
        yield Unusable(place, "annotations by a machine", machine, user)
        return
    if not isinstance(labels, dict) or not all(isinstance(one, dict) for one in labels.values()):
        yield Unusable(place, "not in Potato's format", "", user)
        return
    name = "" if item_id is None else str(item_id)
    yield from answers(Row(place, name, user, shown_in(record)), _values(labels))


def _from_table(path: Path, table: Table, _: str | None) -> Found | None:
    names = set(table.header)
    exported = {"instance_id", "user_id"} <= names and any("." in name for name in names)
    older = {"instance_id", "user"} <= names and any(":::" in name for name in names)
    return _from_rows(path, table.header, table.rows) if exported or older else None


def _from_rows(path: Path, header: Sequence[str], rows: Sequence[_Line]) -> Found:
    """Yield what a table holds: CSV or TSV of 2.x, or annotated_instances.tsv of 1.x."""
    columns = {name: _schema_and_name(name, rows) for name in header if name not in _OURS}
    unread = [name for name, split in columns.items() if split is None]
    if others := [name for name in unread if not name.startswith(_ORIGIN)]:
        yield Remark(Place(path), f"columns that are not read: {', '.join(others)}")
    for number, row in rows:
        place = Place(path, f"row {number}")
        user = row.get("user_id", row.get("user", "")).strip()
        if (machine := row.get(_ORIGIN, "")) not in ("", "human"):
            yield Unusable(place, "annotations by a machine", machine, user)
            continue
        labels: dict[str, dict[str, object]] = {}
        for column, split in columns.items():
            if split is not None:
                labels.setdefault(split[0], {})[split[1]] = row[column]
        item_id = row["instance_id"].strip()
        yield from answers(Row(place, item_id, user, shown_in({**row})), _values(labels))


def _schema_and_name(column: str, rows: Sequence[_Line]) -> tuple[str, str] | None:
    """Return a column's schema and name; None for a column without answers.

    Schemas and options may have dots in them, so the values, which for options are the option's
    text, tell where ``schema.option`` is to be cut.
    """
    if ":::" in column:
        schema, _, name = column.partition(":::")
        return schema, name
    schema, dot, name = column.rpartition(".")
    if not dot or name in ("_spans", "_room", "_room_id"):
        return None
    values = {row[column] for _, row in rows} - {""}
    for value in values if len(values) == 1 else ():
        if column.endswith(f".{value}"):
            return column.removesuffix(f".{value}"), value
    if name in _ENTRIES or _SCALE_POINT.fullmatch(name):
        return schema, name
    schema, _, name = column.partition(".")
    return schema, name


def _values(labels: Mapping[str, Mapping[str, object]]) -> Values:
    """Return the answers by field, each with whether it is free text."""
    values: Values = {}
    for schema, given in labels.items():
        for name, value in given.items():
            if is_blank(value) or (name not in _ENTRIES and _is_unset(name, value)):
                continue
            field, answer = _answer(schema, name, value)
            values.setdefault(field, []).append((answer, name in _FREE_TEXT))
    return values


def _is_unset(name: str, value: object) -> bool:
    """Whether an option was not chosen, or what is stored are spans, no labels of a response."""
    text = str(value).casefold()
    return (text == "false" != name.casefold()) or text.startswith(("[]", "[{"))


def _answer(schema: str, name: str, value: object) -> tuple[str, object]:
    """Return field and answer of one stored entry."""
    if name == "free_response":
        return f"{schema}.{name}", value
    if name in _ENTRIES or name == schema:
        return schema, value
    if point := _SCALE_POINT.fullmatch(name):
        return schema, point[1]
    if value is True or str(value).casefold() in ("true", name.casefold()):
        return schema, name
    return f"{schema}.{name}", value  # a labelled box, or an option stored as the key to press


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
        text = yaml.safe_dump(_config(port), sort_keys=False, allow_unicode=True)
        (folder / "config.yaml").write_text(text, "utf-8")
    start = f"potato start config.yaml --host 127.0.0.1 -p {port}"
    people = f"people open http://127.0.0.1:{port} and log in with any name"
    return Exported(out, f"(cd {shlex.quote(str(out))} && {start})", people)


def to_html(text: str) -> str:
    """Return HTML that shows a text as it is, line ends and indentation included."""
    escaped = _UNSAFE.sub(lambda match: f"&#{ord(match[0])};", text.replace("\t", "    "))
    escaped = re.sub(r"(?m)^ | (?= )", "&nbsp;", escaped)
    return escaped.replace("\n", "<br>")


def _config(port: int) -> dict[str, Any]:
    return {
        "annotation_task_name": TITLE,
        "annotation_instructions": INSTRUCTIONS,
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
        "annotation_schemes": [_scheme(field) for field in FIELDS],
    }


def _scheme(field: Field) -> dict[str, Any]:
    common = {"name": field.name, "description": field.asks}
    if field.kind == "count":
        return {"annotation_type": "number", **common, "min_value": 0, "step": 1}
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
