"""Typed records to and from plain JSON types, and the files that hold them."""

from __future__ import annotations

import importlib
import json
import math
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from eft_eval.errors import ConfigError
from eft_eval.files import Kind, check_output, check_readable, json_kind, write_json

__all__ = [
    "check_report_path",
    "data_frame",
    "finite_number",
    "plain",
    "read_record_file",
    "restored",
    "write_report",
]

_Record = TypeVar("_Record")


def finite_number(value: Any) -> float | None:
    """Return a parsed value as a number; None for a text, NaN, infinity or more than a float has.

    JSON has integers of any length; true and false are 1 and 0.
    """
    if not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def data_frame(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> Any:
    """Return records as a pandas data frame, one row each; what a record lacks is missing.

    pandas is loaded here and nowhere else.

    Args:
        rows: The records.
        columns: The frame's columns, in this order; they stand without any record, too.

    Raises:
        ConfigError: pandas is not installed.
    """
    try:
        pandas = importlib.import_module("pandas")
    except ImportError:
        raise ConfigError("to_frame() needs pandas: pip install pandas") from None
    return pandas.DataFrame(list(rows), columns=list(columns))


def read_record_file(path: Path, what: str) -> Mapping[str, Any]:
    """Return a JSON file that holds one object.

    Args:
        path: The file.
        what: What it should be, for the error: "the JSON of `eft-eval agree --json`".

    Raises:
        ConfigError: It cannot be read, is no JSON, or holds something else.
    """
    check_readable(path)
    try:
        content = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is no JSON ({error}); expected {what}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds no JSON object; expected {what}")
    return content


def restored(kind: type[_Record], value: Any, where: str) -> _Record:
    """Return the record whose plain form ``value`` is.

    None becomes NaN where a number is due. Keys that the record does not have are ignored: plain
    forms also say what program wrote them.

    Args:
        kind: A dataclass or NamedTuple of numbers, texts, mappings, tuples and further records.
        value: Parsed JSON.
        where: The file, for the error.

    Raises:
        ConfigError: A field is missing, or is not of its type.
    """
    found: _Record = _restored(kind, value, where)
    return found


def _restored(kind: Any, value: Any, where: str) -> Any:
    if kind is Any:
        return value
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in inner:
            return None
        (only,) = (one for one in inner if one is not type(None))
        return _restored(only, value, where)
    if origin is typing.Literal:
        return _checked(value, value in inner, f"one of {', '.join(map(str, inner))}", where)
    if origin is tuple:
        _checked(value, isinstance(value, list), "a list", where)
        each = [inner[0]] * len(value) if inner[-1] is ... else list(inner)
        _checked(value, len(each) == len(value), f"{len(each)} values", where)
        pairs = enumerate(zip(each, value, strict=True))
        return tuple(_restored(one, part, f"{where}[{i}]") for i, (one, part) in pairs)
    if origin is not None and issubclass(origin, Mapping):
        _checked(value, isinstance(value, dict), "an object", where)
        return {key: _restored(inner[1], one, f"{where}.{key}") for key, one in value.items()}
    return _single(kind, value, where)


def _single(kind: Any, value: Any, where: str) -> Any:
    if is_dataclass(kind) or hasattr(kind, "_fields"):
        return _fields(kind, value, where)
    if kind is float:
        number = None if isinstance(value, bool) else finite_number(value)
        _checked(value, number is not None or value is None, "a number", where)
        return math.nan if number is None else number
    if kind is int:
        whole = isinstance(value, int) and not isinstance(value, bool)
        good = whole and finite_number(value) is not None
        return _checked(value, good, "a whole number", where)
    names = {str: "a text", bool: "true or false"}
    return _checked(value, isinstance(value, kind), names.get(kind, str(kind)), where)


def _fields(kind: Any, value: Any, where: str) -> Any:
    _checked(value, isinstance(value, dict), "an object", where)
    hints = typing.get_type_hints(kind)
    if is_dataclass(kind):
        needed = [
            f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING
        ]
        names = [f.name for f in fields(kind)]
    else:
        names = list(kind._fields)
        needed = [name for name in names if name not in kind._field_defaults]
    if lacking := [name for name in needed if name not in value]:
        raise ConfigError(
            f"{where} lacks {', '.join(lacking)}; it was written by another version of eft-eval, "
            "or is damaged: write it anew"
        )
    given = {
        name: _restored(hints[name], value[name], f"{where}.{name}")
        for name in names
        if name in value
    }
    return kind(**given)


def _checked(value: Any, good: bool, expected: str, where: str) -> Any:
    if not good:
        shown = repr(value)[:60]
        raise ConfigError(f"{where} is {shown}; expected {expected}: the file is damaged, or other")
    return value


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
    check_output(path, _report(kind))


def _report(kind: str) -> Kind:
    return json_kind(f"report {kind!r}", lambda content: content.get("format") == kind)


def write_report(path: Path, report: Mapping[str, Any]) -> None:
    """Write a result's `to_dict` as JSON; an older report of its kind is replaced.

    Raises:
        ConfigError: See `check_report_path`, or it cannot be written.
    """
    check_report_path(path, report["format"])
    write_json(path, report)
