"""Results back from their JSON form: the inverse of `eft_eval.agreement.plain.plain`."""

from __future__ import annotations

import json
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from eft_eval.errors import ConfigError

__all__ = ["read_record_file", "restored"]

_Record = TypeVar("_Record")


def read_record_file(path: Path, what: str) -> Mapping[str, Any]:
    """Return a JSON file that holds one object.

    Args:
        path: The file.
        what: What it should be, for the error: "the JSON of `eft-eval agree --json`".

    Raises:
        ConfigError: It cannot be read, is no JSON, or holds something else.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
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
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        _checked(value, number or value is None, "a number", where)
        return math.nan if value is None else float(value)
    if kind is int:
        whole = isinstance(value, int) and not isinstance(value, bool)
        return _checked(value, whole, "a whole number", where)
    names = {str: "a text", bool: "true or false"}
    return _checked(value, isinstance(value, kind), names.get(kind, str(kind)), where)


def _fields(kind: Any, value: Any, where: str) -> Any:
    _checked(value, isinstance(value, dict), "an object", where)
    hints = typing.get_type_hints(kind)
    if is_dataclass(kind):
        needed = [f.name for f in fields(kind) if f.default is MISSING]
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
