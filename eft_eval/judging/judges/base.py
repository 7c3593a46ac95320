"""A judge, and what comes back from it: a reply, or a failure with who is to blame for it.

A new kind of judge is a subclass of `Judge` and a line in the registry, or an entry point.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, ClassVar, Literal

from eft_eval.judging.cost.budget import Budget
from eft_eval.judging.cost.prices import FREE, Price, price_of
from eft_eval.judging.settings import JudgeSettings

__all__ = ["Blame", "Failure", "Judge", "Outcome", "Reply", "load_json"]

Blame = Literal["item", "endpoint", "key", "budget", "all"]
"""``item``: this text only; ``endpoint``: perhaps all; the others: all that follow."""


@dataclass(frozen=True)
class Reply:
    """What the judge answered, unread.

    Attributes:
        text: The content, None where there is none.
        finish_reason: ``stop``, ``length``, ``content_filter``, or the endpoint's own word; only
            a known good end (`eft_eval.judging.prompts.endings`) makes it a whole reply.
        refusal: The refusal field, where the endpoint has one.
        model: The model that the endpoint says answered.
        prompt_tokens: As the endpoint counted.
        completion_tokens: As the endpoint counted.
        structured: Whether JSON was asked for in place of text.
        sent: The sampling parameters that were sent, where they differ from those of the key.
    """

    text: str | None
    finish_reason: str | None
    refusal: str | None = None
    model: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    structured: bool = False
    sent: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Failure:
    """Why there is no reply, in one line without the key."""

    error: str
    blame: Blame = "endpoint"


Outcome = Reply | Failure

_MOST_DIGITS = 400  # Python reads up to 4,300


class Judge(ABC):
    """Who answers judge prompts. Making one is cheap: files, models and connections wait.

    Args:
        settings: The judge's settings; what follows the prefix in their model is `name`.
        budget: What may be spent; None is any sum. For a judge that is priced.
    """

    priced: ClassVar[bool] = False
    """Whether its tokens cost money: the price table then tells how much, else nothing."""

    def __init__(self, settings: JudgeSettings, budget: Budget | None = None) -> None:
        self.settings = settings
        self.budget = budget
        self.name = settings.model.partition(":")[2]
        self.on_try: Callable[[str | None], None] = lambda failure: None
        """To be called after each try where several are made: with None, or why it failed."""

    @property
    def price(self) -> Price | None:
        """What its tokens cost, None where nobody knows."""
        return price_of(self.settings.model) if self.priced else FREE

    @property
    def place(self) -> str:
        """Where it is asked, for people, without any secret."""
        return "this process"

    @property
    def at_once(self) -> int:
        """How many prompts it is worth to hand over at once, at least 1."""
        return self.settings.concurrency

    @property
    def max_wait_s(self) -> float | None:
        """After how long without any reply it is given up; None for one that only computes."""
        return None

    def key(self) -> dict[str, Any]:
        """Return all that its replies depend on besides name and prompt, as plain JSON values.

        Part of a verdict's key: another value is another call.

        Raises:
            ConfigError: A file that answers cannot be read.
        """
        return {}

    def check(self, today: date) -> str | None:
        """Look before the first prompt whether it can be asked, at no cost; return a warning.

        Raises:
            ConfigError: It cannot.
        """
        return None

    @abstractmethod
    async def send(self, prompt: str) -> Outcome:
        """Return the outcome on a prompt; many may be under way at once, in one event loop.

        Raises nothing that concerns one prompt only.
        """

    async def close(self) -> None:
        """Let go of connections and models, and say what went wrong on the way."""
        return


def load_json(text: str | bytes) -> Any:
    """Read an endpoint's JSON; a number of hundreds of digits, which is no count, is infinite.

    Raises:
        ValueError: It is no JSON.
        RecursionError: It is too deep.
    """
    return json.loads(text, parse_int=_whole)


def _whole(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MOST_DIGITS else float("inf")
