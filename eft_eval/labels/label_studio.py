"""Label Studio: labels out of its JSON and JSON-MIN exports, and projects to import into it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from eft_eval.labels.entries import Found, Place, Remark, Row, Unusable, Values, answers, shown_in
from eft_eval.labels.project import Exported, Tool, new_export
from eft_eval.labels.records import Item
from eft_eval.labels.scheme import FIELDS, INSTRUCTIONS, Field, is_blank

__all__ = ["TOOL", "export_label_studio"]

_NO_FIELD = {  # of JSON-MIN: what is not an answer
    *("id", "item_id", "question", "response", "text", "annotator", "annotation_id"),
    *("created_at", "updated_at", "lead_time", "agreement"),
}


def _from_json(path: Path, content: Any) -> Found | None:
    """Read an export: a list of tasks, or of flat annotations."""
    tasks = (
        [task for task in content if isinstance(task, dict)] if isinstance(content, list) else ()
    )
    full = all({"data", "annotations"} <= task.keys() for task in tasks)
    flat = all("annotation_id" in task for task in tasks)
    return _from_tasks(path, content) if tasks and (full or flat) else None


def _from_tasks(path: Path, tasks: Sequence[Any]) -> Found:
    """Yield what an export holds. Cancelled annotations are not used; predictions are not read."""
    unread: set[str] = set()
    for number, task in enumerate(tasks, start=1):
        place = Place(path, f"task {number}")
        if not isinstance(task, dict):
            yield Unusable(place, "not in Label Studio's format")
        elif "annotations" in task:
            yield from _from_task(place, task, unread)
        else:
            values, others = _flat_values(task)
            unread |= others
            user = _user(task.get("annotator"))
            row = Row(place, _item_id(task, task), user, shown_in(task))
            yield from answers(row, values)
    if unread:
        yield Remark(Place(path), f"not read, as no answers: {', '.join(sorted(unread))}")


def _from_task(place: Place, task: Mapping[str, Any], unread: set[str]) -> Found:
    data = task["data"] if isinstance(task.get("data"), dict) else {}
    item_id = _item_id(data, task)
    annotations = task["annotations"]
    if not isinstance(annotations, list) or not annotations:
        yield Unusable(place, "not annotated", item_id)
        return
    for number, annotation in enumerate(annotations, start=1):
        here = place._replace(at=f"{place.at}, annotation {number}")
        if not isinstance(annotation, dict) or not isinstance(annotation.get("result"), list):
            yield Unusable(here, "not in Label Studio's format")
            continue
        user = _user(annotation.get("completed_by"))
        if annotation.get("was_cancelled") or annotation.get("skipped"):
            yield Unusable(here, "cancelled", item_id, user or None)
            continue
        values, others = _values(annotation["result"])
        unread |= others
        yield from answers(Row(here, item_id, user, shown_in(data)), values)


def _item_id(data: Mapping[str, Any], task: Mapping[str, Any]) -> str:
    """Return our own id, else that of Label Studio's task."""
    found = data.get("item_id", task.get("id"))
    return "" if found is None else str(found)


def _user(given: object) -> str:
    """Return who annotated: an id, or an object with one."""
    if isinstance(given, dict):
        given = next((given[key] for key in ("id", "email", "username") if given.get(key)), None)
    return "" if given is None else str(given)


def _values(results: Sequence[Any]) -> tuple[Values, set[str]]:
    """Return the answers by field, and the names of results that are none, such as spans."""
    values: Values = {}
    unread = set()
    for result in results:
        name = str(result.get("from_name", "")) if isinstance(result, dict) else ""
        value = result.get("value") if name else None
        found = _answer(value) if isinstance(value, dict) else None
        if found is None:
            unread.add(name or "(nameless)")
        elif found:
            values.setdefault(name, []).extend(found)
    return values, unread


def _answer(value: Mapping[str, Any]) -> list[tuple[object, bool]] | None:
    """Return the answers in a result's value; None if it is of another kind."""
    if value.keys() & {"start", "end", "x", "labels"}:
        return None  # about a part of the text
    for kind in ("number", "rating"):
        if isinstance(value.get(kind), (int, float)):
            return [(value[kind], False)]
    if isinstance(value.get("choices"), list):
        return [(choice, False) for choice in value["choices"]]
    if "text" in value:
        text = value["text"]
        lines = text if isinstance(text, list) else [text]
        joined = "\n".join(str(line) for line in lines)
        return [] if is_blank(joined) else [(joined, True)]
    return None


def _flat_values(task: Mapping[str, Any]) -> tuple[Values, set[str]]:
    """Return the answers of a JSON-MIN record, where controls stand beside the task's data."""
    values: Values = {}
    unread = set()
    for name, value in task.items():
        if name in _NO_FIELD or is_blank(value) or value == []:
            continue
        found: list[tuple[object, bool]] | None = None
        if isinstance(value, (str, int, float)):
            found = [(value, False)]
        elif isinstance(value, dict):
            found = _answer(value)
        elif isinstance(value, list) and all(isinstance(part, dict) for part in value):
            parts = [_answer(part) for part in value]
            found = None if None in parts else [one for part in parts if part for one in part]
        elif isinstance(value, list):  # the lines of a text area
            found = [("\n".join(str(line) for line in value), True)]
        if found is None:
            unread.add(name)
        elif found:
            values[name] = found
    return values, unread


_TASKS = "tasks.json"
_INTERFACE = "labeling_interface.xml"


def export_label_studio(
    items: Sequence[Item], out: Path | str, *, about: Mapping[str, Any] | None = None
) -> Exported:
    """Write a Label Studio import in the order of the items, and its key.

    See `Exporter`.
    """
    out = Path(out)
    tasks = [
        {"data": {"item_id": one.item_id, "question": one.question, "response": one.response}}
        for one in items
    ]
    with new_export(items, out, about) as folder:
        text = json.dumps(tasks, indent=1, ensure_ascii=False)
        (folder / _TASKS).write_text(text + "\n", "utf-8")
        (folder / _INTERFACE).write_text(_interface(), "utf-8")
    step = (
        f"create a project in Label Studio, paste {out / _INTERFACE} into Labeling Interface / "
        f"Code, import {out / _TASKS}; export as JSON or JSON-MIN"
    )
    return Exported(out, step)


def _interface() -> str:
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Header", value=INSTRUCTIONS, size="5")
    for name in ("question", "response"):
        ElementTree.SubElement(view, "Header", value=name.capitalize(), size="5")
        # Label Studio in secure mode would else take the text for an address
        attributes = {"name": name, "value": f"${name}", "valueType": "text"}
        ElementTree.SubElement(view, "Text", {**attributes, "selectionEnabled": "false"})
    for field in FIELDS:
        ElementTree.SubElement(view, "Header", value=field.asks, size="5")
        view.append(_control(field))
    ElementTree.indent(view)
    return ElementTree.tostring(view, encoding="unicode") + "\n"


def _control(field: Field) -> ElementTree.Element:
    common = {"name": field.name, "toName": "response"}
    if field.kind == "count":
        return ElementTree.Element("Number", {**common, "min": "0", "step": "1"})
    if field.kind == "text":
        return ElementTree.Element("TextArea", {**common, "rows": "3", "maxSubmissions": "1"})
    options = {"choice": "single-radio", "required": "true"}
    choices = ElementTree.Element("Choices", {**common, **options})
    for option in field.options:
        ElementTree.SubElement(choices, "Choice", value=option)
    return choices


TOOL = Tool(export_label_studio, returned="EXPORT.json", from_json=_from_json)
