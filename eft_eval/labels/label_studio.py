"""Label Studio: labels out of its exports (JSON, JSON-MIN, CSV, TSV), and projects for it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from eft_eval.labels.entries import (
    Asked,
    Found,
    Place,
    Remark,
    Row,
    Table,
    Unusable,
    Values,
    answers,
    shown_in,
)
from eft_eval.labels.label_studio_values import (
    addresses,
    answers_in,
    flat_answers,
    is_flat,
    plain_id,
    texts_of,
    unfolded,
    user_of,
)
from eft_eval.labels.project import Exported, Tool, new_export
from eft_eval.labels.records import Item
from eft_eval.labels.scheme import QUESTIONS, Field, Questions

__all__ = ["TOOL", "export_label_studio"]


def _from_json(path: Path, content: Any, asked: Asked) -> Found | None:
    """Read an export: a list of tasks, or of flat annotations; one task stands for a list."""
    listed = content if isinstance(content, list) else [content]
    tasks = [task for task in listed if isinstance(task, dict)]
    if not tasks:
        return None
    if all("data" in task and _ANSWERED & task.keys() for task in tasks):
        return _from_tasks(path, listed, asked)
    if all("annotation_id" in task for task in tasks):
        return flat_answers([(f"task {i}", one) for i, one in enumerate(listed, 1)], path, asked)
    return None


def _from_table(path: Path, table: Table, asked: Asked) -> Found | None:
    if not is_flat(table.header):
        return None
    rows = [(f"row {number}", unfolded(row)) for number, row in table.rows]
    return flat_answers(rows, path, asked)


_ANSWERED = {"annotations", "completions"}  # the latter before 1.0


def _from_tasks(path: Path, tasks: Sequence[Any], asked: Asked) -> Found:
    """Yield what an export holds. Cancelled annotations, drafts and predictions are not used."""
    unread: set[str] = set()
    usable = [task for task in tasks if isinstance(task, dict) and isinstance(task["data"], dict)]
    item = asked.column(path, dict.fromkeys(name for task in usable for name in task["data"]))
    known = addresses(usable)
    for number, task in enumerate(tasks, start=1):
        place = Place(path, f"task {number}")
        if not isinstance(task, dict) or not isinstance(task["data"], dict):
            yield Unusable(place, "not in Label Studio's format")
            continue
        data = task["data"]
        own = data.get(item) if item else data.get("item_id", task.get("id"))
        row = Row(place, plain_id(own), "", shown_in(data, texts_of(data, item)))
        yield from _from_task(row, task, (unread, known), asked)
    if unread:
        yield Remark(Place(path), f"not read, as no answers: {', '.join(sorted(unread))}")


def _from_task(
    row: Row,
    task: Mapping[str, Any],
    seen: tuple[set[str], Mapping[str, str]],
    asked: Asked,
) -> Found:
    unread, known = seen
    annotations = task.get("annotations", task.get("completions"))
    if not isinstance(annotations, list) or not annotations:
        yield Unusable(row.place, "not annotated", row.item_id)
        return
    for number, annotation in enumerate(annotations, start=1):
        here = row.place._replace(at=f"{row.place.at}, annotation {number}")
        if not isinstance(annotation, dict) or not isinstance(annotation.get("result"), list):
            yield Unusable(here, "not in Label Studio's format")
            continue
        named = user_of(annotation.get("completed_by"))
        user = asked.who(known.get(named, named))
        if annotation.get("was_cancelled") or annotation.get("skipped"):
            yield Unusable(here, "cancelled", row.item_id, user or None)
            continue
        values, others = _values(annotation["result"])
        unread |= others
        yield from answers(row._replace(place=here, user=user), values)


def _values(results: Sequence[Any]) -> tuple[Values, set[str]]:
    """Return the answers by field, and the names of results that are none, such as spans."""
    values: Values = {}
    unread = set()
    for result in results:
        name = str(result.get("from_name", "")) if isinstance(result, dict) else ""
        value = result.get("value") if name else None
        found = answers_in(value) if isinstance(value, dict) else None
        if found is None:
            unread.add(name or "(nameless)")
        elif found:
            values.setdefault(name, []).extend(found)
    return values, unread


_TASKS = "tasks.json"
_INTERFACE = "labeling_interface.xml"


def export_label_studio(
    items: Sequence[Item],
    out: Path | str,
    *,
    about: Mapping[str, Any] | None = None,
    questions: Questions = QUESTIONS["factuality"],
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
        (folder / _INTERFACE).write_text(_interface(questions), "utf-8")
    step = (
        f"create a project in Label Studio, paste {out / _INTERFACE} into Labeling Interface / "
        f"Code, import {out / _TASKS}; export as JSON, JSON-MIN, CSV or TSV"
    )
    return Exported(out, step)


def _interface(questions: Questions) -> str:
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Header", value=questions.instructions, size="5")
    for name in ("question", "response"):
        ElementTree.SubElement(view, "Header", value=name.capitalize(), size="5")
        # Label Studio in secure mode would else take the text for an address
        attributes = {"name": name, "value": f"${name}", "valueType": "text"}
        ElementTree.SubElement(view, "Text", {**attributes, "selectionEnabled": "false"})
    for field in questions.fields:
        ElementTree.SubElement(view, "Header", value=field.asks, size="5")
        view.append(_control(field))
    ElementTree.indent(view)
    return ElementTree.tostring(view, encoding="unicode") + "\n"


def _control(field: Field) -> ElementTree.Element:
    common = {"name": field.name, "toName": "response"}
    if field.kind == "percent":
        return ElementTree.Element("Number", {**common, "min": "0", "max": "100"})
    if field.kind == "count":
        return ElementTree.Element("Number", {**common, "min": "0", "step": "1"})
    if field.kind == "text":
        return ElementTree.Element("TextArea", {**common, "rows": "3", "maxSubmissions": "1"})
    options = {"choice": "single-radio", "required": "true"}
    choices = ElementTree.Element("Choices", {**common, **options})
    for option in field.options:
        ElementTree.SubElement(choices, "Choice", value=option)
    return choices


TOOL = Tool(
    export_label_studio, returned="EXPORT.json", from_json=_from_json, from_table=_from_table
)
