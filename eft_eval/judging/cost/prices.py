"""What a judge's tokens cost, by a dated price table that a file of one's own may extend."""

from __future__ import annotations

import functools
import json
import os
from dataclasses import dataclass
from datetime import date
from importlib import resources
from pathlib import Path
from typing import Any

from eft_eval.errors import ConfigError, nearest
from eft_eval.files import check_readable, user_path
from eft_eval.records import finite_number

__all__ = ["FREE", "PRICES_VARIABLE", "Price", "cost_usd", "price_of"]

PRICES_VARIABLE = "EFT_JUDGE_PRICES"

_TOKENS_PER_PRICE = 1_000_000
_TABLE_KEYS = ("date", "source", "batch_factor", "models")
_PRICE_KEYS = ("input", "output")


@dataclass(frozen=True)
class Price:
    """The price of one model.

    Attributes:
        input: US dollars per million tokens sent, not cached.
        output: US dollars per million tokens received, hidden reasoning included.
        batch_factor: What the Batch API charges as a share of that, in (0, 1].
        table: Date of the price table (ISO 8601); None for judges that cost nothing.
    """

    input: float
    output: float
    batch_factor: float
    table: str | None

    def cost_usd(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Return US dollars, >= 0."""
        return (prompt_tokens * self.input + completion_tokens * self.output) / _TOKENS_PER_PRICE

    def batch(self) -> Price:
        """Return the Batch API's price of the same model."""
        factor = self.batch_factor
        return Price(self.input * factor, self.output * factor, 1.0, self.table)


FREE = Price(0.0, 0.0, 1.0, None)
"""The price of judges that cost nothing."""


def price_of(model: str) -> Price | None:
    """Return a model's list price; None for a model that the tables lack.

    The file named by ``EFT_JUDGE_PRICES``, of the same layout as the shipped table, comes first.

    Args:
        model: The judge's full name, with its snapshot date (an alias has no fixed price).

    Raises:
        ConfigError: The file of ``EFT_JUDGE_PRICES`` cannot be read or is wrong.
    """
    own = os.environ.get(PRICES_VARIABLE, "").strip()
    for table in ([_own_table(own)] if own else []) + [_shipped_table()]:
        if model in table["models"]:
            price = table["models"][model]
            return Price(price["input"], price["output"], table["batch_factor"], table["date"])
    return None


def cost_usd(
    model: str, prompt_tokens: int | None, completion_tokens: int | None, *, batch: bool = False
) -> tuple[float | None, str | None]:
    """Return the list price of one call and the date of the price table.

    Args:
        model: The judge's full name, with its snapshot date (an alias has no fixed price).
        prompt_tokens: Tokens sent, as the endpoint counted them.
        completion_tokens: Tokens received, hidden reasoning included.
        batch: Whether the Batch API was used.

    Returns:
        US dollars (>= 0) and the table's date (ISO 8601), or ``(None, None)`` for a model that
        the table lacks or a call without a token count. Discounts for cached input are not
        considered.
    """
    price = price_of(model)
    if price is None or prompt_tokens is None or completion_tokens is None:
        return None, None
    return (price.batch() if batch else price).cost_usd(
        prompt_tokens, completion_tokens
    ), price.table


@functools.cache
def _shipped_table() -> dict[str, Any]:
    text = resources.files(__package__).joinpath("prices.json").read_text("utf-8")
    return _checked(text, "the shipped price table")


def _own_table(path: str) -> dict[str, Any]:
    where = f"{PRICES_VARIABLE}={path}"
    check_readable(user_path(path))
    try:
        file = user_path(path)
        stamp = file.stat()
        return _read_own(file, where, stamp.st_mtime_ns, stamp.st_size)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{where}: cannot be read: {error}") from error


@functools.lru_cache(maxsize=4)
def _read_own(file: Path, where: str, _changed: int, _size: int) -> dict[str, Any]:
    return _checked(file.read_text("utf-8"), where)


def _checked(text: str, where: str) -> dict[str, Any]:
    try:
        table = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where}: is no JSON: {error}") from error
    if not isinstance(table, dict) or not isinstance(table.get("models"), dict):
        raise ConfigError(f'{where}: must be {{"date": ..., "models": {{NAME: prices}}}}')
    for key in table:
        if key not in _TABLE_KEYS:
            hint = nearest(str(key), _TABLE_KEYS)
            raise ConfigError(
                f"{where}: unknown key {key!r}{hint}; known: {', '.join(_TABLE_KEYS)}"
            )
    try:
        date.fromisoformat(table["date"])
    except (KeyError, TypeError, ValueError):
        raise ConfigError(
            f"{where}: needs a date, YYYY-MM-DD; it has {table.get('date')!r}"
        ) from None
    factor = table.setdefault("batch_factor", 0.5)
    if not _is_number(factor) or not 0 < factor <= 1:
        raise ConfigError(f"{where}: batch_factor is {factor!r}; it must be in (0, 1]")
    for name, price in table["models"].items():
        if not isinstance(price, dict) or set(price) != set(_PRICE_KEYS):
            raise ConfigError(
                f"{where}: the prices of {name!r} must be {_PRICE_KEYS}, not {price!r}"
            )
        for key in _PRICE_KEYS:
            if not _is_number(price[key]) or price[key] < 0:
                raise ConfigError(
                    f"{where}: {key} of {name!r} is {price[key]!r}; it must be US dollars per "
                    "million tokens, at least 0"
                )
    return table


def _is_number(value: object) -> bool:
    return finite_number(value) is not None and not isinstance(value, bool)
