"""Files of labels to read, and what was read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from eft_eval.labels import Item, LabelSet, clean_text, text_hash

OTHER_TEXT = "another text under the same item id (--item names another column of ids)"


def make_items(*responses: str, question: str = "Why?") -> list[Item]:
    items = []
    for number, text in enumerate(responses):
        texts = clean_text(question), clean_text(text)
        digest = text_hash(*texts)
        name = f"eli5_fact-0123456789abcdef-r{number}-{digest[:8]}"
        items.append(Item(name, *texts, digest, "eli5_fact", "c", None, f"doc {number}"))
    return items


def answers(labels: LabelSet, annotator: str) -> dict[tuple[str, str], float | str]:
    chosen = [label for label in labels.labels if label.annotator == annotator]
    return {(label.item_id, label.field): label.value for label in chosen}


def write(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content)
    path.write_bytes(text.encode())
    return path


def values(labels: LabelSet, field: str = "value") -> dict[tuple[str, str], float | str]:
    return {(one.item_id, one.annotator): one.value for one in labels.labels if one.field == field}


def state(user: str, given: dict[str, list[tuple[str, str, str]]], **other: Any) -> dict[str, Any]:
    stored = {
        item: [[{"schema": schema, "name": name}, value] for schema, name, value in entries]
        for item, entries in given.items()
    }
    return {"user_id": user, "instance_id_to_label_to_value": stored, **other}


def result(name: str, kind: str, **value: Any) -> dict[str, Any]:
    return {"from_name": name, "to_name": "response", "type": kind, "value": value}
