"""Results as plain JSON types: what `to_dict` of every result gives, and what files hold."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from eft_eval.atomic import write_json
from eft_eval.errors import ConfigError

__all__ = ["check_report_path", "plain", "write_report"]


def plain(value: Any) -> Any:
    """Return records as dicts, tuples as lists, and None for a number that does not exist.

    JSON knows neither NaN nor infinity; each becomes None.

    Raises:
        TypeError: Something in it is neither a record, a collection, a number, a text nor None.
    """
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {name: plain(one) for name, one in value._asdict().items()}
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, (tuple, list)):
        return [plain(one) for one in value]
    raise TypeError(f"{type(value).__name__} has no plain form")


def check_report_path(path: Path, kind: str) -> None:
    """Check that a report can be written there, before what goes into it is computed.

    Raises:
        ConfigError: There is no such folder, or the file exists and is no report of this kind.
    """
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"there is no folder {path.parent} to write {path.name} into")
    if not path.exists():
        return
    try:
        known = str(json.loads(path.read_text("utf-8")).get("format", ""))
    except (OSError, ValueError, AttributeError):
        known = ""
    if known != kind:
        raise ConfigError(f"{path} exists and is no report {kind!r}; choose another name")


def write_report(path: Path, report: Mapping[str, Any]) -> None:
    """Write a result's `to_dict` as JSON; an older report of its kind is replaced.

    Raises:
        ConfigError: See `check_report_path`, or it cannot be written.
    """
    check_report_path(path, report["format"])
    write_json(path, report)
