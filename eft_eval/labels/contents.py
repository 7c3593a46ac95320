"""Which files hold labels, and what each yields: its content tells which tool wrote it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from eft_eval.errors import ConfigError
from eft_eval.files import check_readable, described_start
from eft_eval.labels import saving
from eft_eval.labels.entries import Asked, Found, Lines, Place, Remark, Unusable
from eft_eval.labels.people import scrub
from eft_eval.labels.project import GOLD_KEY_FORMAT, KEY_FORMAT, KEY_NAME, key_in
from eft_eval.labels.scheme import ALL_FIELDS
from eft_eval.labels.tables import EXPORTED_CSV, read_table
from eft_eval.labels.tools import TOOLS

__all__ = ["found_in", "texts_of"]

_EXPECTED = (
    "Potato's project folder, user_state.json, CSV, TSV or JSONL (2.x), annotated_instances.tsv or "
    ".jsonl (1.x); Label Studio's JSON, JSON-MIN, CSV or TSV; Argilla's "
    "JSON; Prodigy's JSONL; or a table (CSV, JSON, JSONL) with item_id in its header"
)


def texts_of(path: Path) -> Iterator[tuple[Path, str]]:
    """Yield a file with its text, or for a folder the files that hold its labels."""
    if not path.is_dir():
        yield path, _decoded(path, _raw(path))
        return
    if (path / EXPORTED_CSV).is_file() and key_in(path / KEY_NAME):
        raw = {one: _raw(one) for one in sorted(path.glob("*.csv"))}
        sheets = {one: _decoded(one, it) for one, it in raw.items() if not saving.is_saved(it)}
        own = path / EXPORTED_CSV
        if len(sheets) > 1 and own in sheets and not _is_filled(own, sheets[own]):
            del sheets[own]
        yield from (sheets or {own: _decoded(own, raw[own])}).items()
        return
    stores = _stores_in(path)
    if not stores:
        inside = ", ".join(sorted(child.name for child in path.iterdir())[:8]) or "nothing"
        raise ConfigError(
            scrub(f"{path} holds no annotator's labels in Potato's format (it has: {inside}); ")
            + "give a label file, or the folder of a project that was annotated"
        )
    for store in stores:
        yield store, _decoded(store, _raw(store))


def _is_filled(path: Path, text: str) -> bool:
    table = read_table(path, text)
    names = [field.name for field in ALL_FIELDS if field.name in table.header]
    return any(row[name].strip() for _, row in table.rows for name in names)


def _raw(path: Path) -> bytes:
    check_readable(path, pipes=True)
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {scrub(str(path))}: {error.strerror}") from None


def _decoded(path: Path, raw: bytes) -> str:
    if words := described_start(raw):
        raise ConfigError(f"{scrub(str(path))} is {words}")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        hint = "save it as UTF-8 (in Excel: CSV UTF-8)"
        where = f"byte {error.start + 1}"
        raise ConfigError(f"{scrub(str(path))} is not UTF-8 text ({where}); {hint}") from None


def found_in(path: Path, text: str, asked: Asked) -> Found:
    """Yield what a file holds; its first sign tells JSON from tables."""
    start = text.lstrip()[:1]
    if not start:
        yield Unusable(Place(path), "empty file")
        return
    yield from _stale(path)
    if start in "[{":
        yield from _json(path, text, asked)
        return
    table = read_table(path, text, asked.item)
    yield from table.broken
    if not table.rows:
        yield Unusable(Place(path), "no rows under the header")
    yield from _first(tool.from_table(path, table, asked) for tool in TOOLS.values()) or ()


def _first(found: Iterable[Found | None]) -> Found | None:
    """Return what the first tool found that knows a file for its own."""
    return next((one for one in found if one is not None), None)


def _stores_in(folder: Path) -> list[Path]:
    return next((found for tool in TOOLS.values() if (found := tool.stores_in(folder))), [])


def _stale(path: Path) -> Found:
    """Remark on Potato's automatic exports, which may be older than its live store."""
    parents = path.absolute().parents
    if len(parents) > 2 and parents[1].name == "exports" and _stores_in(parents[2]):
        text = "an automatic export, which may lack the newest labels; give the project's folder"
        yield Remark(Place(path), text)


def _json(path: Path, text: str, asked: Asked) -> Found:
    content: Any = None
    error = ""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as problem:
        error = f"broken JSON, {problem}"
    if content in ([], {}):
        yield Unusable(Place(path), "empty file")
    elif isinstance(content, dict) and content.get("format") in (KEY_FORMAT, GOLD_KEY_FORMAT):
        raise ConfigError(f"{scrub(str(path))} is the key of an export and holds no labels")
    elif isinstance(content, dict) and content.get("format") == saving.FORMAT:
        yield from saving.from_saved(path, content)
    else:
        found = _first(tool.from_json(path, content, asked) for tool in TOOLS.values())
        lines = [] if found else _json_lines(text)
        found = found or _first(tool.from_lines(path, lines, asked) for tool in TOOLS.values())
        if found is None:
            records = [
                *(content if isinstance(content, list) else [content]),
                *dict(lines).values(),
            ]
            names = ", ".join(next((sorted(one) for one in records if isinstance(one, dict)), []))
            names = names[:200]
            has = names or error or "no records"
            raise ConfigError(scrub(f"{path} is in no known format ({has}); expected {_EXPECTED}"))
        yield from found


def _json_lines(text: str) -> Lines:
    """Return the objects of a JSON Lines file with their line numbers; None for a broken line."""
    records: Lines = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        records.append((number, record if isinstance(record, dict) else None))
    return records
