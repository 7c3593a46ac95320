"""Argilla: labels out of its records, as its client and the datasets made of them write these.

Read are JSON and JSON Lines of 2.x, nested or flat, by record or by column, and those of 1.x, where
a question's responses lie under its name. Suggestions, drafts and discarded responses are none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from eft_eval.errors import ConfigError
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
from eft_eval.labels.project import Tool
from eft_eval.labels.scheme import is_blank

__all__ = ["TOOL"]

_RESPONSES, _USERS, _STATUS = ".responses", ".responses.users", ".responses.status"
_ABOUT = {"id", "external_id", "status", "_server_id", "vectors", "metadata"}


class _Response(NamedTuple):
    question: str
    user: str
    value: object
    status: str | None


def _from_json(path: Path, content: Any, asked: Asked) -> Found | None:
    if isinstance(content, dict):
        users = [one for name, one in content.items() if name.endswith(_USERS)]
        if not users:
            return None
        content = _by_record(content) if all(map(_is_column, users)) else [content]
    if not isinstance(content, list):
        return None
    return _from_records(path, [(f"record {i}", one) for i, one in enumerate(content, 1)], asked)


def _is_column(users: object) -> bool:
    """Whether these are the users of several records, not those of one."""
    return isinstance(users, list) and all(one is None or isinstance(one, list) for one in users)


def _by_record(columns: Mapping[str, Any]) -> list[dict[str, Any]]:
    lists = {name: one for name, one in columns.items() if isinstance(one, list)}
    count = max(map(len, lists.values()))
    return [{name: one[i] for name, one in lists.items() if i < len(one)} for i in range(count)]


def _from_lines(path: Path, lines: Lines, asked: Asked) -> Found | None:
    return _from_records(path, [(f"line {number}", one) for number, one in lines], asked)


def _from_table(path: Path, table: Table, _: Asked) -> Found | None:
    if not any(name.endswith(_USERS) for name in table.header):
        return None
    raise ConfigError(
        f"{path} is a CSV of Argilla's records, which cannot hold their lists; write JSON instead, "
        "such as dataset.records.to_datasets().to_json(FILE)"
    )


def _from_records(path: Path, rows: Sequence[tuple[str, Any]], asked: Asked) -> Found | None:
    records = [one for _, one in rows if isinstance(one, dict)]
    ours = records and all(_is_record(one) for one in records)
    return _answers(path, rows, asked) if ours else None


def _is_record(record: Mapping[str, Any]) -> bool:
    nested = isinstance(record.get("fields"), dict) and isinstance(record.get("responses"), dict)
    return nested or any(one.endswith((_USERS, "-suggestion")) for one in record)


def _answers(path: Path, rows: Sequence[tuple[str, Any]], asked: Asked) -> Found:
    records = [one for _, one in rows if isinstance(one, dict)]
    item = asked.column(path, dict.fromkeys(name for one in records for name in _data(one)))
    unread: set[str] = set()
    unsaid = False
    for at, one in rows:
        place = Place(path, at)
        if not isinstance(one, dict):
            yield Unusable(place, "no JSON object")
            continue
        data = _data(one)
        own = data.get(item) if item else one.get("external_id") or one.get("id")
        texts = {name: text for name, text in data.items() if name not in {*_ABOUT, item}}
        row = Row(place, "" if own is None else str(own), "", shown_in(data, texts))
        found = list(_responses(one))
        if not found:
            yield Unusable(place, "not annotated", row.item_id)
        for given in found:
            user = asked.who("" if given.user == "None" else given.user)
            unsaid |= given.status is None
            if given.status not in (None, "submitted"):
                yield Unusable(
                    place, f"{given.status}, not submitted", row.item_id, user, given.question
                )
            elif isinstance(given.value, dict) or (
                isinstance(given.value, list) and any(isinstance(v, dict) for v in given.value)
            ):
                unread.add(given.question)
            elif not is_blank(given.value):
                listed = given.value if isinstance(given.value, list) else [given.value]
                values = {given.question: [(value, False) for value in listed]}
                yield from answers(row._replace(user=user), values)
    if unread:
        yield Remark(Place(path), f"not read, as no answers: {', '.join(sorted(unread))}")
    if unsaid:
        text = "does not say which responses are drafts or discarded: all are taken"
        yield Remark(Place(path), f"{text} (a flat export says it)")


def _data(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record's fields and metadata, beside its own names."""
    inside = [record.get("metadata"), record.get("fields")]
    found = {name: one for name, one in record.items() if name not in ("metadata", "fields")}
    for one in inside:
        found |= one if isinstance(one, dict) else {}
    others = (_RESPONSES, _USERS, _STATUS, ".suggestion", ".suggestion.agent", "-suggestion")
    return {name: one for name, one in found.items() if not name.endswith(others)}


def _responses(record: Mapping[str, Any]) -> Iterator[_Response]:
    nested = record.get("responses")
    if isinstance(nested, dict):
        for question, given in nested.items():
            yield from _listed(question, given)
        return
    for name, given in record.items():
        question = name.removesuffix(_RESPONSES)
        if name.endswith(_RESPONSES) and isinstance(given, list):
            users = _for_each(record.get(f"{question}{_USERS}"), len(given))
            statuses = _for_each(record.get(f"{question}{_STATUS}"), len(given))
            for value, user, status in zip(given, users, statuses, strict=True):
                yield _Response(question, str(user), value, None if status is None else str(status))
        elif f"{name}-suggestion" in record:  # 1.x
            yield from _listed(name, given)


def _for_each(values: object, count: int) -> list[Any]:
    """Return what is said of each response; None for each where it is not said of as many."""
    return values if isinstance(values, list) and len(values) == count else [None] * count


def _listed(question: str, given: object) -> Iterator[_Response]:
    for one in given if isinstance(given, list) else ():
        if isinstance(one, dict):
            status = one.get("status")
            said = None if status is None else str(status)
            yield _Response(question, str(one.get("user_id")), one.get("value"), said)


TOOL = Tool(from_json=_from_json, from_lines=_from_lines, from_table=_from_table)
