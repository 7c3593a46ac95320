"""What a judge's tokens cost, by a dated price table."""

from __future__ import annotations

import functools
import json
from importlib import resources
from typing import Any

__all__ = ["cost_usd"]

_TOKENS_PER_PRICE = 1_000_000


@functools.cache
def _table() -> dict[str, Any]:
    text = resources.files("eft_eval.judging").joinpath("prices.json").read_text("utf-8")
    table: dict[str, Any] = json.loads(text)
    return table


def cost_usd(
    model: str, prompt_tokens: int | None, completion_tokens: int | None
) -> tuple[float | None, str | None]:
    """Return the list price of one call and the date of the price table.

    Args:
        model: The judge's full name, with its snapshot date (an alias has no fixed price).
        prompt_tokens: Tokens sent, as the endpoint counted them.
        completion_tokens: Tokens received, hidden reasoning included.

    Returns:
        US dollars (>= 0) and the table's date (ISO 8601), or ``(None, None)`` for a model that
        the table lacks or a call without a token count. Discounts are not considered.
    """
    price = _table()["models"].get(model)
    if price is None or prompt_tokens is None or completion_tokens is None:
        return None, None
    dollars = prompt_tokens * price["input"] + completion_tokens * price["output"]
    return dollars / _TOKENS_PER_PRICE, str(_table()["date"])
