"""Spending no more than a given sum: the worst case of every request under way is reserved."""

from __future__ import annotations

import threading

from eft_eval.errors import ConfigError
from eft_eval.judging.cost.prices import Price
from eft_eval.judging.settings import JudgeSettings

__all__ = ["Budget", "Purse", "most_prompt_tokens"]

_MOST_ENVELOPE_TOKENS = 64  # what an endpoint may add around one user message


def most_prompt_tokens(text: str) -> int:
    """Return a bound that no tokenizer of bytes exceeds: one token per UTF-8 byte, and a rim."""
    return len(text.encode("utf-8", "surrogatepass")) + _MOST_ENVELOPE_TOKENS


class Purse:
    """The sum that one command may spend, over all its judges.

    Args:
        limit_usd: US dollars, above 0.

    Raises:
        ConfigError: The sum is not above 0.
    """

    def __init__(self, limit_usd: float) -> None:
        if not 0 < limit_usd < float("inf"):
            raise ConfigError(f"--budget is {limit_usd}; it must be US dollars above 0")
        self.limit_usd = limit_usd
        self.spent_usd = 0.0
        self.reserved_usd = 0.0
        self.under_way = 0
        self.lock = threading.Lock()  # judges of a panel are asked in threads of their own


class Budget:
    """What one judge may spend of a command's sum.

    ``spent_usd + reserved_usd`` never exceeds ``limit_usd``, as long as the price table is right,
    also where several judges share a purse. ``under_way`` are this judge's requests.

    Args:
        purse: The sum.
        settings: The judge.
        price: What its tokens cost.

    Raises:
        ConfigError: The model has no known price.
    """

    def __init__(self, purse: Purse, settings: JudgeSettings, price: Price | None) -> None:
        if price is None:
            raise ConfigError(
                f"--budget needs the price of {settings.model!r}, which the price table lacks; "
                "name a file that has it by EFT_JUDGE_PRICES, in US dollars per million tokens: "
                f'{{"date": "YYYY-MM-DD", "models": {{"{settings.model}": '
                '{"input": 2.0, "output": 8.0}}}'
            )
        self.under_way = 0
        self._purse = purse
        self._price: Price = price
        self._most_reply_tokens = settings.max_tokens

    @property
    def limit_usd(self) -> float:
        """What may be spent."""
        return self._purse.limit_usd

    @property
    def spent_usd(self) -> float:
        """What is spent, by all judges."""
        return self._purse.spent_usd

    @property
    def reserved_usd(self) -> float:
        """What is set aside for requests under way, of all judges."""
        return self._purse.reserved_usd

    def worst_usd(self, prompt: str) -> float:
        """Return the most that one try of this prompt can cost."""
        return self._price.cost_usd(most_prompt_tokens(prompt), self._most_reply_tokens)

    def reserve(self, prompt: str) -> float | None:
        """Set aside the worst case of one try and return it; None where it does not fit."""
        worst, purse = self.worst_usd(prompt), self._purse
        with purse.lock:
            if purse.spent_usd + purse.reserved_usd + worst > purse.limit_usd:
                return None
            purse.reserved_usd += worst
            purse.under_way += 1
        self.under_way += 1
        return worst

    def settle(
        self, reserved_usd: float, prompt_tokens: int | None, reply_tokens: int | None
    ) -> None:
        """Replace a reservation by what the try cost; where nobody knows, by the reservation."""
        spent = reserved_usd
        if prompt_tokens is not None and reply_tokens is not None:
            spent = self._price.cost_usd(prompt_tokens, reply_tokens)
        self._end(reserved_usd, spent)

    def release(self, reserved_usd: float) -> None:
        """Give a reservation back: the endpoint did not answer with a reply, so nothing is due."""
        self._end(reserved_usd, 0.0)

    def _end(self, reserved_usd: float, spent_usd: float) -> None:
        self.under_way -= 1
        purse = self._purse
        with purse.lock:
            purse.under_way -= 1
            # sums of floats leave a rest that is not 0
            purse.reserved_usd = purse.reserved_usd - reserved_usd if purse.under_way else 0.0
            purse.spent_usd += spent_usd

    @property
    def exhausted(self) -> str:
        """The reason why nothing more is sent, for people."""
        return (
            f"the budget of {self.limit_usd:g} USD is used up "
            f"({self.spent_usd:.4f} USD spent; a further request might pass it)"
        )
