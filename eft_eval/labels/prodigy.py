"""Prodigy: labels out of the JSON Lines that ``db-out`` writes.

A task that was ignored has no answer, and of choices neither has one that was rejected. Without
choices or a text of the annotator's, the answer is accept or reject, of the task's label if it has
one. Spans are none.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eft_eval.labels.entries import (
    Asked,
    Found,
    Lines,
    Place,
    Row,
    Unusable,
    Values,
    answers,
    numbered,
    shown_in,
)
from eft_eval.labels.project import Tool

__all__ = ["TOOL"]

_ANSWERS = ("accept", "reject", "ignore")  # no set: a damaged answer may be a list
_NO_TEXTS = {"answer", "label", "user_input", "item_id"}


def _from_json(path: Path, content: Any, asked: Asked) -> Found | None:
    return _from_lines(path, numbered(content), asked) if isinstance(content, list) else None


def _from_lines(path: Path, lines: Lines, asked: Asked) -> Found | None:
    ours = any(one and "_input_hash" in one and one.get("answer") in _ANSWERS for _, one in lines)
    return _from_tasks(path, lines, asked) if ours else None


def _from_tasks(path: Path, lines: Lines, asked: Asked) -> Found:
    known = (name for _, one in lines if one for name in _data(one))
    item = asked.column(path, dict.fromkeys(known))
    for number, task in lines:
        place = Place(path, f"line {number}")
        if task is None:
            yield Unusable(place, "no JSON object")
            continue
        data = _data(task)
        own = data.get(item) if item else data.get("item_id", task.get("_input_hash"))
        named = task.get("_annotator_id") or task.get("_session_id") or ""
        user = asked.who(str(named))
        texts = {
            name: one
            for name, one in task.items()
            if not name.startswith("_") and name not in {*_NO_TEXTS, item}
        }
        row = Row(place, "" if own is None else str(own), user, shown_in(task, texts))
        values = _values(task)
        if isinstance(values, str):
            yield Unusable(place, values, row.item_id, user or None)
        else:
            yield from answers(row, values)


def _data(task: Mapping[str, Any]) -> dict[str, Any]:
    meta = task.get("meta")
    return {**(meta if isinstance(meta, dict) else {}), **task}


def _values(task: Mapping[str, Any]) -> Values | str:
    """Return the answers of a task by field; or why it has none."""
    answer = task.get("answer")
    if answer not in ("accept", "reject"):
        return "ignored" if answer == "ignore" else "no answer"
    values: Values = {}
    chosen, text = task.get("accept"), task.get("user_input")
    if isinstance(chosen, list):
        if answer == "reject":
            return "rejected"
        if chosen:
            values["accept"] = [(one, False) for one in chosen]
    if isinstance(text, str) and text.strip() and answer == "accept":
        values["user_input"] = [(text, True)]
    if not values and "accept" not in task and "user_input" not in task:
        label = task.get("label")
        values[label if isinstance(label, str) and label else "answer"] = [(answer, False)]
    return values


TOOL = Tool(from_json=_from_json, from_lines=_from_lines)
