"""How texts of studies are read: lists, grids and closed schemas, whose errors are worded here."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from eft_eval.errors import ConfigError, nearest
from eft_eval.secrets import without_secrets

__all__ = ["Closed", "grid", "listed", "no_flag", "problems_of"]

_MOST = 1000  # points of a grid
_NEAR = Decimal("1e-6")  # of a step: how far its multiples may miss the end by rounding
_WITHIN = ("function-", "[key]")  # pydantic's, of how a value is read
_KINDS = ("int", "float", "str", "constrained-int", "constrained-str")  # pydantic's, of unions


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


def no_flag(value: Any) -> Any:
    """Return a value that is to be a number, or a list of some; true and false are none."""
    flags = [one for one in (value if isinstance(value, (list, tuple)) else [value])
             if isinstance(one, bool)]  # fmt: skip
    if flags:
        raise ValueError(f"{str(flags[0]).lower()} is no number")
    return value


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
    points = [start + step * place for place in range(round((stop - start) / step) + 1)]
    if abs(points[-1] - stop) > _NEAR * step:
        raise ConfigError(
            f"{name}: steps of {parts[2]} from {start} do not reach {stop}: give a step that does, "
            "or the values with commas"
        )
    return [float(point) for point in (*points[:-1], stop)]


def problems_of(error: ValidationError, keys: Iterable[str]) -> str:
    """Return what is wrong with a mapping, in one line: where, what was given, what is expected."""
    found = {}
    for item in error.errors():
        loc = item["loc"]
        if loc and (loc[-1] in _KINDS or str(loc[-1]).startswith("literal[")):
            loc = loc[:-1]
        named = [str(part) for part in loc if not str(part).startswith(_WITHIN)]
        where = ".".join(named)
        if item["type"] == "extra_forbidden":
            found[where] = f"unknown key {where!r}{nearest(str(item['loc'][-1]), keys)}"
        elif item["type"] == "missing":
            found[where] = f"{where!r} is missing"
        else:
            message = str(item["msg"]).removeprefix("Value error, ")
            given = without_secrets(item["input"])
            said = f"{message[0].lower()}{message[1:]}"
            before = found.get(where)
            if isinstance(given, dict):
                text = f"{where}: {said}" if where else said
            else:
                shown = "" if said.startswith(("got ", "steps ")) else f" got {given!r}:"
                text = f"{where}:{shown} {said}"
            found[where] = f"{before}, or {said}" if before else text
    inner = tuple(f"{where}." for where in found)
    return "; ".join(
        text
        for where, text in found.items()  # what is wrong within says it
        if not any(other.startswith(f"{where}.") for other in inner if other != f"{where}.")
    )
