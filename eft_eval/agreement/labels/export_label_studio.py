"""Export for Label Studio: tasks to import and the labeling interface to paste."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from eft_eval.agreement.labels.folder import Exported, new_export
from eft_eval.agreement.labels.records import Item
from eft_eval.agreement.labels.scheme import FIELDS, INSTRUCTIONS, Field

__all__ = ["export_label_studio"]

_TASKS = "tasks.json"
_INTERFACE = "labeling_interface.xml"


def export_label_studio(
    items: Sequence[Item], out: Path | str, *, about: Mapping[str, Any] | None = None
) -> Exported:
    """Write a Label Studio import in the order of the items, and its key.

    Args:
        items: What to label. The judge's verdicts are not written.
        out: A new or empty folder.
        about: What to note in the key, such as run, sample size and seed.

    Raises:
        ConfigError: The items or the folder cannot be used.
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
