"""How texts of studies are read: lists, grids and closed schemas, whose errors are worded here."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from eft_eval.errors import ConfigError, nearest
from eft_eval.secrets import without_secrets

__all__ = ["Closed", "grid", "listed", "problems_of"]

_MOST = 1000  # points of a grid


class Closed(BaseModel):
    """A mapping of known keys alone, with hyphens for underscores."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, alias_generator=lambda name: name.replace("_", "-")
    )


def listed(value: Any) -> Any:
    """Return a text with commas as a list; everything else as it is."""
    if not isinstance(value, str):
        return value
    return [part.strip() for part in value.split(",") if part.strip()]


def grid(text: str, name: str) -> list[float]:
    """Return ``0:1:0.25`` (both ends included), or ``0,0.5,1``, as numbers.

    Raises:
        ConfigError: It is neither.
    """
    expected = f"{name}: got {text!r}, expected FROM:TO:STEP such as 0:1:0.25, or 0,0.5,1"
    try:
        parts = [Decimal(part) for part in (text.split(":") if ":" in text else listed(text))]
    except InvalidOperation:
        raise ConfigError(expected) from None
    if not parts or not all(part.is_finite() for part in parts):
        raise ConfigError(expected)
    if ":" not in text:
        return [float(part) for part in parts]
    if len(parts) != 3 or parts[2] <= 0 or parts[1] < parts[0]:
        raise ConfigError(expected)
    start, stop, step = parts
    if (stop - start) / step > _MOST:
        raise ConfigError(f"{name}: {text} has more than {_MOST} points")
    return [float(start + step * place) for place in range(int((stop - start) / step) + 1)]


def problems_of(error: ValidationError, keys: Iterable[str]) -> str:
    """Return what is wrong with a mapping, in one line: where, what was given, what is expected."""
    found = {}
    for item in error.errors():
        where = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            found[where] = f"unknown key {where!r}{nearest(str(item['loc'][-1]), keys)}"
        elif item["type"] == "missing":
            found[where] = f"{where!r} is missing"
        else:
            message = str(item["msg"]).removeprefix("Value error, ")
            given = without_secrets(item["input"])
            said = f"{message[0].lower()}{message[1:]}"
            found[where] = said if isinstance(given, dict) else f"{where}: got {given!r}: {said}"
            if isinstance(given, dict) and where:
                found[where] = f"{where}: {said}"
    return "; ".join(found.values())
