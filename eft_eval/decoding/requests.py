"""What goes into the generation loop and what comes out."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Literal, NamedTuple, Protocol

from eft_eval.errors import ConfigError

__all__ = [
    "Finish",
    "Generation",
    "Request",
    "SamplingRule",
    "StopTest",
    "check_rule",
    "check_whole",
    "never",
]

Finish = Literal["stop", "length"]


class SamplingRule(NamedTuple):
    """How a token is chosen; see `eft_eval.composite.mathematics.filtered_scores`.

    Attributes:
        temperature: 0 is greedy.
        top_k: Sample among this many best tokens.
        top_p: Sample within the smallest set of this mass.
        min_p: See `eft_eval.composite.mathematics.min_p_set`.
        typical_p: See `eft_eval.composite.mathematics.typical_set`.
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    typical_p: float | None = None

    @property
    def filters(self) -> bool:
        """Whether it leaves tokens out."""
        shares = (self.top_p, self.typical_p)
        return bool(self.top_k or self.min_p or any(one is not None and one < 1 for one in shares))


def check_rule(rule: SamplingRule) -> SamplingRule:
    """Return a rule as it is given; raise ConfigError where one of its numbers cannot be."""
    for name, given in rule._asdict().items():
        number = isinstance(given, Real) and not isinstance(given, bool)
        if not number and (given is not None or name == "temperature"):
            raise ConfigError(f"{name}: got {given!r}, expected a number")
    if not 0 <= rule.temperature < float("inf"):
        raise ConfigError(f"temperature: got {rule.temperature!r}, expected a number from 0 on")
    if rule.top_k is not None and (rule.top_k < 1 or rule.top_k != int(rule.top_k)):
        raise ConfigError(f"top_k: got {rule.top_k!r}, expected a whole number from 1 on, or None")
    for name, share in (("top_p", rule.top_p), ("typical_p", rule.typical_p)):
        if share is not None and not 0 < share <= 1:
            raise ConfigError(f"{name}: got {share!r}, expected a number above 0, at most 1")
    if rule.min_p is not None and not 0 <= rule.min_p <= 1:
        raise ConfigError(f"min_p: got {rule.min_p!r}, expected a number from 0 to 1")
    return rule


def check_whole(name: str, given: object, least: int) -> None:
    """Raise ConfigError unless it is a whole number of at least that."""
    if isinstance(given, bool) or not isinstance(given, Integral) or int(given) < least:
        raise ConfigError(f"{name}: got {given!r}, expected a whole number from {least} on")


class Request(NamedTuple):
    """One response to generate.

    Attributes:
        prompts: What each view of the composite reads, in the order of its views; at least one
            token each.
        seed: Seed of its noise; see `eft_eval.composite.mathematics.request_seed`.
    """

    prompts: tuple[Sequence[int], ...]
    seed: int = 0


class Generation(NamedTuple):
    """A response: its tokens (the stop token, if one ended it, included), and why it ended."""

    tokens: list[int]
    finish: Finish


class StopTest(Protocol):
    """Tells whether a stop string ends within the last ``new`` tokens."""

    def __call__(self, tokens: Sequence[int], new: int = 1) -> bool: ...


def never(tokens: Sequence[int], new: int = 1) -> bool:
    """Return False: no stop strings."""
    return False
