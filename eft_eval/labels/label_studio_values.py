"""What Label Studio's values say, and its flat forms, where answers stand beside a task's data.

In JSON-MIN the controls follow the task's number, before or after what is said of the annotation;
the columns of CSV and TSV are in alphabetical order. Where neither that nor its content shows a
column to be a control, it is not read: data is never an answer.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from eft_eval.labels.entries import (
    Asked,
    Found,
    Place,
    Remark,
    Row,
    Unusable,
    Values,
    answers,
    shown_in,
)
from eft_eval.labels.scheme import ALL_FIELDS, is_blank

__all__ = [
    "addresses",
    "answers_in",
    "flat_answers",
    "is_flat",
    "plain_id",
    "texts_of",
    "unfolded",
    "user_of",
]

_ABOUT = ("annotator", "annotation_id", "created_at", "updated_at", "lead_time")
_MORE = ("agreement", "history")  # the same, of some versions
_KINDS = {"number", "rating", "choices", "taxonomy", "selected", "ranker", "datetime", "labels"}
_PARTS = {"start", "end", "x", "labels"}  # of answers about a part of the text
_OURS = {field.name for field in ALL_FIELDS}


def answers_in(value: Mapping[str, Any]) -> list[tuple[object, bool]] | None:
    """Return the answers in a result's value, each with whether it is free text.

    None stands for a value of another kind: spans and boxes, and rankings.
    """
    if value.keys() & _PARTS:
        return None
    for kind in ("number", "rating"):
        if isinstance(value.get(kind), (int, float)):
            return [(value[kind], False)]
    for kind in ("choices", "taxonomy"):
        if isinstance(value.get(kind), list):
            return [(_path(choice), False) for choice in value[kind]]
    for kind in ("selected", "datetime"):
        if isinstance(value.get(kind), str):
            return [(value[kind], False)]
    if "text" in value:
        text = value["text"]
        lines = text if isinstance(text, list) else [text]
        joined = "\n".join(str(line) for line in lines)
        return [] if is_blank(joined) else [(joined, True)]
    return None


def _path(choice: object) -> object:
    """Return a choice; one that is nested in others with these before it."""
    return " / ".join(str(one) for one in choice) if isinstance(choice, list) else choice


def plain_id(given: object) -> str:
    """Return an item's id; a whole number has no decimals."""
    if given is None or isinstance(given, (dict, list)):
        return ""
    return str(int(given)) if isinstance(given, float) and given.is_integer() else str(given)


def user_of(given: object) -> str:
    """Return who annotated: an id, or of an object the address, as Label Studio's CSV has it."""
    if isinstance(given, dict):
        given = next((given[key] for key in ("email", "id", "username") if given.get(key)), None)
    return "" if given is None else str(given)


def addresses(tasks: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return the addresses of the people that a file knows by number and address."""
    listed = (task.get("annotations") for task in tasks)
    given = (one for some in listed if isinstance(some, list) for one in some)
    people = (one.get("completed_by") for one in given if isinstance(one, dict))
    return {
        str(one["id"]): str(one["email"])
        for one in people
        if isinstance(one, dict) and one.get("id") and one.get("email")
    }


def texts_of(data: Mapping[str, Any], item: str | None) -> dict[str, str]:
    """Return the texts in a task's data, by name; ids are none."""
    ids = {"item_id", "id", item}
    return {name: one for name, one in data.items() if isinstance(one, str) and name not in ids}


def is_flat(names: Iterable[str]) -> bool:
    """Whether a table's header is that of Label Studio's CSV."""
    return {*_ABOUT} <= {*names}


def unfolded(row: Mapping[str, str]) -> dict[str, Any]:
    """Return a row of a table with the cells that hold JSON read."""
    return {name: _unfolded(cell) for name, cell in row.items()}


def _unfolded(cell: str) -> Any:
    if not cell.startswith(("[", "{")):
        return cell
    try:
        return json.loads(cell)
    except (ValueError, RecursionError):
        return cell


def flat_answers(rows: Sequence[tuple[str, Any]], path: Path, asked: Asked) -> Found:
    """Yield what flat annotations hold, each with its place in the file."""
    records = [one for _, one in rows if isinstance(one, dict)]
    names = list(dict.fromkeys(name for one in records for name in one))
    item = asked.column(path, names)
    controls = {name for name in _controls(records, item) if name != item}
    if asked.answer in names and asked.answer not in (*_ABOUT, item, "id"):
        controls.add(str(asked.answer))
    beside = [name for name in names if name not in {*controls, *_ABOUT, *_MORE, "id", item}]
    data = [name for name in beside if not name.endswith("_transcript")]
    unread: set[str] = set()
    for at, one in rows:
        place = Place(path, at)
        if not isinstance(one, dict):
            yield Unusable(place, "not in Label Studio's format")
            continue
        own = one.get(item) if item else one.get("item_id", one.get("id"))
        if is_blank(one.get("annotation_id")):
            yield Unusable(place, "not annotated", plain_id(own))
            continue
        values, others = _flat_values(one, controls)
        unread |= others
        named = user_of(one.get("annotator")).strip()
        user = asked.who("" if named in ("None", "{}") else named)
        shown = shown_in(one, texts_of({name: one.get(name) for name in data}, item))
        yield from answers(Row(place, plain_id(own), user, shown), values)
    if unread:
        yield Remark(Place(path), f"not read, as no answers: {', '.join(sorted(unread))}")
    if records and not controls:
        text = "which columns are answers cannot be told from the data; name one with --field"
        yield Remark(Place(path), f"{text}: {', '.join(data)}")
    elif doubtful := [name for name in data if name not in ("item_id", "question", "response")]:
        text = "taken as the tasks' data, not as answers (--field reads one)"
        yield Remark(Place(path), f"{text}: {', '.join(doubtful)}")


def _controls(records: Sequence[Mapping[str, Any]], item: str | None) -> set[str]:
    """Return the names of answers: by the order of the names, and by what shows in the values."""
    every = {name for one in records for name in one}
    found = every & _OURS
    found |= {name for name in every if f"_data_{name}" in every}
    found |= {name for one in records for name, value in one.items() if _is_answer(value)}
    found |= _of_one_item(records, item)
    known = {*_ABOUT, *_MORE, "id", "item_id", "question", "response", item}
    ordered = [list(one) for one in records]
    if any(names != sorted(names) for names in ordered):
        for names in ordered:
            found |= _by_place(names, found)
    return {name for name in found - known if name.strip()}  # what has no name is no answer


def _is_answer(value: object) -> bool:
    """Whether a value has the shape that only controls give."""
    parts = value if isinstance(value, list) else [value]
    return bool(parts) and all(
        isinstance(one, dict) and (one.keys() & _KINDS or one.keys() == {"text"}) for one in parts
    )


def _of_one_item(records: Sequence[Mapping[str, Any]], item: str | None) -> set[str]:
    """Return what differs between the annotations of one task: its data does not."""
    by_item: dict[str, list[Mapping[str, Any]]] = {}
    for one in records:
        if not is_blank(one.get("annotation_id")):
            own = plain_id(one.get(item or "id", one.get("item_id")))
            by_item.setdefault(own, []).append(one)
    found: set[str] = set()
    for key, group in by_item.items():
        if key and len(group) > 1:
            every = {name for one in group for name in one}
            found |= {
                name for name in every if any(one.get(name) != group[0].get(name) for one in group)
            }
    return found


def _by_place(names: Sequence[str], known: set[str]) -> set[str]:
    """Return the answers that the order of one annotation's names shows.

    They follow the data, between the task's number and what is said of the annotation, or after
    that. A number that stands first may be the data's own: then they begin at the first that is
    known for an answer.
    """
    about = [i for i, name in enumerate(names) if name in _ABOUT]
    after = [name for name in names[about[-1] + 1 :] if name not in _MORE] if about else []
    if after or not about:
        return set(after)
    first = names.index("id") if "id" in names else -1
    between = names[first + 1 : about[0]]
    if first > 0 and not {"item_id", "question", "response", "text"} & {*between}:
        return set(between)
    start = next((i for i, name in enumerate(between) if name in known), len(between))
    return set(between[start:])


def _flat_values(task: Mapping[str, Any], controls: set[str]) -> tuple[Values, set[str]]:
    """Return the answers of one flat annotation, and the names of controls that hold none."""
    values: Values = {}
    unread = set()
    for name, value in task.items():
        if name not in controls or is_blank(value) or value == []:
            continue
        found: list[tuple[object, bool]] | None = None
        if isinstance(value, (str, int, float)):
            found = [(value, False)]
        elif isinstance(value, dict):
            found = answers_in(value)
        elif isinstance(value, list) and all(isinstance(part, dict) for part in value):
            parts = [answers_in(part) for part in value]
            found = None if None in parts else [one for part in parts if part for one in part]
        elif isinstance(value, list):  # the lines of a text area
            found = [("\n".join(str(line) for line in value), True)]
        if found is None:
            unread.add(name)
        elif found:
            values[name] = found
    return values, unread
