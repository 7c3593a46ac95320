"""Imported labels in one file of ours, as JSON with all that is known or as a long CSV table."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from eft_eval.errors import ConfigError
from eft_eval.files import check_output, text_kind, write_json, write_lines
from eft_eval.labels.entries import Entry, Found, Place, Remark, Shown, Unusable
from eft_eval.labels.records import UNKNOWN, LabelSet, Origin
from eft_eval.labels.tables import SAVED
from eft_eval.labels.texts import to_cell

__all__ = ["FORMAT", "check_saved", "from_saved", "is_saved", "save_labels"]

FORMAT = "eft-eval labels"
_COLUMNS = ("item_id", "annotator", "field", "value")
_DROPPED = ("where", "reason", "detail")
_SAVED = text_kind(
    "file of imported labels",
    rf'{",".join((*_COLUMNS, *SAVED))}\n|{{\n "format": "{FORMAT}"',
)
_LEFT_OUT = text_kind("file of dropped rows", rf"{','.join(_DROPPED)}\n")


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
    check_saved(out)
    if out.suffix == ".json":
        write_json(out, _as_dict(labels))
        return (out,)
    rows = []
    for label in labels.labels:
        origin = labels.origins.get(label.item_id, UNKNOWN)
        value = to_cell(label.value) if isinstance(label.value, str) else f"{label.value:g}"
        if not isinstance(label.value, str) and float(value) != label.value:
            value = repr(label.value)  # more digits than :g has
        random = {True: "yes", False: "no", None: ""}[origin.random]
        digest = label.text_sha256 or ""
        known = (label.item_id, label.annotator, label.field, value)
        rows.append([*known, digest, origin.stratum, origin.cluster, random])
    write_lines(out, _csv([*_COLUMNS, *SAVED], rows))
    beside = _beside(out)
    if not labels.dropped:
        beside.unlink(missing_ok=True)
        return (out,)
    texts = [[to_cell(getattr(one, name)) for name in _DROPPED] for one in labels.dropped]
    write_lines(beside, _csv(list(_DROPPED), texts))
    return out, beside


def check_saved(out: Path) -> None:
    """Check before anything is read that `save_labels` may write there.

    Raises:
        ConfigError: The name ends otherwise, is that of a file that was not written so, such as an
            annotator's, or cannot be written.
    """
    if out.suffix not in (".csv", ".json"):
        raise ConfigError(f"{out}: expected a name that ends in .csv or .json")
    check_output(out, _SAVED)
    if out.suffix == ".csv":
        check_output(_beside(out), _LEFT_OUT)


def _beside(out: Path) -> Path:
    return out.with_name(f"{out.stem}.dropped.csv")


def is_saved(raw: bytes) -> bool:
    """Whether `save_labels` wrote this CSV file: labels, or the rows that gave none."""
    first = raw.partition(b"\n")[0].decode("utf-8-sig", "replace").strip()
    return first in (",".join((*_COLUMNS, *SAVED)), ",".join(_DROPPED))


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
                Shown.marked(digest) if digest else None,
                origins.get(one["item_id"]),
            )
        for one in content.get("dropped", ()):
            place, of = Place(path, one["where"]), str(one.get("field", ""))
            yield Unusable(place, one["reason"], one["detail"], field=of)
        for text in content.get("remarks", ()):
            yield Remark(Place(path), text)
    except (AttributeError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} is a damaged file of labels: {error!r}") from None
