"""Imported labels in one file of ours, as JSON with all that is known or as a long CSV table."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from eft_eval.errors import ConfigError
from eft_eval.files import write_json, write_lines
from eft_eval.labels.entries import Entry, Found, Place, Remark, Shown, Unusable
from eft_eval.labels.records import Item, LabelSet, Origin
from eft_eval.labels.texts import text_hash, to_cell

__all__ = [
    "FORMAT",
    "GOLD_KEY_FORMAT",
    "KEY_FORMAT",
    "KEY_NAME",
    "Exported",
    "Key",
    "from_saved",
    "key_in",
    "new_export",
    "read_key",
    "save_labels",
]

FORMAT = "eft-eval labels"
_COLUMNS = ("item_id", "annotator", "field", "value")
_MORE = ("text_sha256", "stratum", "cluster", "random_sample")
_DROPPED = ("where", "reason", "detail")
_UNKNOWN = Origin("", "", None)


def save_labels(labels: LabelSet, out: Path | str) -> tuple[Path, ...]:
    """Write labels into one file, which `read_labels` reads again.

    Args:
        labels: Imported labels.
        out: A ``.json`` file, which holds the dropped rows and remarks too, or a ``.csv`` file in
            long form: one row per item, annotator and field. Dropped rows of a CSV go into a
            second file beside it, ``NAME.dropped.csv``. Older files that were written so are
            replaced.

    Returns:
        The files written.

    Raises:
        ConfigError: The name ends otherwise, is that of a file that was not written so, or cannot
            be written.
    """
    out = Path(out)
    _check_free(out)
    if out.suffix == ".json":
        write_json(out, _as_dict(labels))
        return (out,)
    if out.suffix != ".csv":
        raise ConfigError(f"{out}: expected a name that ends in .csv or .json")
    rows = []
    for label in labels.labels:
        origin = labels.origins.get(label.item_id, _UNKNOWN)
        value = to_cell(label.value) if isinstance(label.value, str) else f"{label.value:g}"
        if not isinstance(label.value, str) and float(value) != label.value:
            value = repr(label.value)  # more digits than :g has
        random = {True: "yes", False: "no", None: ""}[origin.random]
        digest = label.text_sha256 or ""
        known = (label.item_id, label.annotator, label.field, value)
        rows.append([*known, digest, origin.stratum, origin.cluster, random])
    write_lines(out, _csv([*_COLUMNS, *_MORE], rows))
    beside = out.with_name(f"{out.stem}.dropped.csv")
    if not labels.dropped:
        beside.unlink(missing_ok=True)
        return (out,)
    texts = [[to_cell(text) for text in asdict(one).values()] for one in labels.dropped]
    write_lines(beside, _csv(list(_DROPPED), texts))
    return out, beside


def _check_free(out: Path) -> None:
    """Raise if a file would be replaced that was not written here, such as an annotator's."""
    try:
        with out.open(encoding="utf-8") as file:
            start = file.read(200)
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError):
        start = ""
    ours = (",".join((*_COLUMNS, *_MORE)), f'{{\n "format": "{FORMAT}"')
    if not start.startswith(ours):
        raise ConfigError(f"{out} exists and is no file of imported labels; choose another name")


def is_saved(path: Path) -> bool:
    """Whether `save_labels` wrote this CSV file: labels, or the rows that gave none."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        first = file.readline().strip()
    return first in (",".join((*_COLUMNS, *_MORE)), ",".join(_DROPPED))


def _csv(header: list[str], rows: list[list[str]]) -> list[str]:
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerows([header, *rows])
    return [stream.getvalue()]


def _as_dict(labels: LabelSet) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "labels": [asdict(label) for label in labels.labels],
        "dropped": [asdict(one) for one in labels.dropped],
        "remarks": list(labels.remarks),
        "origins": {name: origin._asdict() for name, origin in labels.origins.items()},
    }


def from_saved(path: Path, content: Mapping[str, Any]) -> Found:
    """Yield what `save_labels` wrote as JSON; what was dropped then stays dropped.

    Raises:
        ConfigError: The file was changed since into something else.
    """
    try:
        origins = {name: Origin(**one) for name, one in content.get("origins", {}).items()}
        for number, one in enumerate(content["labels"], start=1):
            digest = one["text_sha256"]
            yield Entry(
                Place(path, f"label {number}"),
                str(one["item_id"]),
                str(one["annotator"]),
                str(one["field"]),
                one["value"],
                isinstance(one["value"], str),
                Shown(digest) if digest else None,
                origins.get(one["item_id"]),
            )
        for one in content.get("dropped", ()):
            yield Unusable(Place(path, one["where"]), one["reason"], one["detail"])
        for text in content.get("remarks", ()):
            yield Remark(Place(path), text)
    except (AttributeError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} is a damaged file of labels: {error!r}") from None


KEY_NAME = "key.json"
KEY_FORMAT = "eft-eval label key"
GOLD_KEY_FORMAT = "eft-eval gold key"
"""Of the key to a gold project, which says more of each item and lies elsewhere."""
_SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,199}", re.ASCII)


class Exported(NamedTuple):
    """What was written, and what to do next (for Potato: the one command that starts it)."""

    folder: Path
    next_step: str


class Key(NamedTuple):
    """What an export's key says of its items, by id."""

    hashes: dict[str, str]
    origins: dict[str, Origin]


@contextlib.contextmanager
def new_export(items: Sequence[Item], out: Path, about: Mapping[str, Any] | None) -> Iterator[Path]:
    """Yield a folder to write an export into; at the end it becomes ``out``, with its key.

    The key, `KEY_NAME`, maps item ids to where the items are from and to the hashes of their
    texts. No verdict is in it.

    Raises:
        ConfigError: There is nothing to export, an id or a text is not what it should be, or
            ``out`` holds something already or cannot be written.
    """
    _check(items)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} exists and is not empty; choose another folder")
    temporary = out.parent / f".{out.name}.{os.getpid()}.tmp"
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        _write_key(temporary, items, about)
        yield temporary
        if out.exists():
            out.rmdir()
        temporary.rename(out)
    except OSError as error:
        raise ConfigError(f"cannot write {out}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _check(items: Sequence[Item]) -> None:
    if not items:
        raise ConfigError("there are no items to export")
    counts = Counter(item.item_id for item in items)
    if twice := [name for name, count in counts.items() if count > 1]:
        raise ConfigError(f"{len(twice)} item ids occur twice, such as {twice[0]!r}")
    for item in items:
        if not _SAFE_ID.fullmatch(item.item_id):
            raise ConfigError(
                f"item id {item.item_id!r} is not safe in files and web pages; use up to 200 of "
                "A-Z a-z 0-9 _ . : - and begin with a letter or digit"
            )
        if item.text_sha256 != text_hash(item.question, item.response):
            raise ConfigError(f"item {item.item_id}: text_sha256 is not the hash of its texts")


def _write_key(folder: Path, items: Sequence[Item], about: Mapping[str, Any] | None) -> None:
    entries = {
        item.item_id: {
            "source": item.source,
            "stratum": item.stratum,
            "cluster": item.cluster,
            "text_sha256": item.text_sha256,
        }
        for item in sorted(items, key=lambda item: item.item_id)
    }
    key = {"format": KEY_FORMAT, "about": dict(about or {}), "items": entries}
    (folder / KEY_NAME).write_text(json.dumps(key, indent=1, ensure_ascii=True) + "\n", "utf-8")


def read_key(path: Path) -> Key | None:
    """Return the key of the export that a file lies in, or None.

    Looked for is the key in the file's folder and in the three above: Potato writes its own
    exports three folders below the project.

    Raises:
        ConfigError: There is a key of ours that cannot be read.
    """
    for folder in list(path.absolute().parents)[:4]:
        key = key_in(folder / KEY_NAME)
        if key is not None:
            return key
    return None


def key_in(path: Path) -> Key | None:
    """Return what a key says; None where there is no key of ours.

    Raises:
        ConfigError: There is a key of ours that cannot be read.
    """
    try:
        key = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None  # somebody else's key.json, if any
    if not isinstance(key, dict) or key.get("format") not in (KEY_FORMAT, GOLD_KEY_FORMAT):
        return None
    try:
        random = key.get("about", {}).get("random_sample")
        entries = {str(name): dict(entry) for name, entry in key["items"].items()}
        return Key(
            {name: str(entry["text_sha256"]) for name, entry in entries.items()},
            {
                name: Origin(str(entry["stratum"]), str(entry["cluster"]), random)
                for name, entry in entries.items()
            },
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        raise ConfigError(f"{path} is a damaged key; take the one that was exported") from None
