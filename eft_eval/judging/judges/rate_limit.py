"""How fast to ask: requests at once by AIMD, pauses that an endpoint asks for, tokens per minute.

Pure bookkeeping with the time as an argument; knows nothing of clients or event loops.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Literal

__all__ = ["Pacer", "duration_s", "retry_after_s"]

_DECREASE = 0.7
_GO = 0.0
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:ms|s|m|h|d))+")
_LEAST_WAIT_S = 0.01
_LONGEST_BELIEVED_S = 60.0
_Kind = Literal["tokens", "requests"]
_KINDS: tuple[_Kind, ...] = ("tokens", "requests")


class Pacer:
    """Decides when the next request may go.

    Requests at once: starts at the bound; a refusal (429) multiplies the limit by 0.7, and every
    answer adds 1/limit, so about 1 per round (additive increase, multiplicative decrease: Chiu
    and Jain 1989). Refusals of requests that were under way at the last decrease say nothing new.
    Tokens and requests per minute: after ``x-ratelimit-*`` headers, requests wait until the
    endpoint's buckets have room for them, as they fill at the rate that the headers tell.

    Args:
        bound: Requests at once, at most.
    """

    def __init__(self, bound: int) -> None:
        self.limit = float(bound)
        self._bound = bound
        self._numbers = itertools.count()
        self._under_way: dict[int, tuple[float, int]] = {}  # ticket: when it was sent, tokens
        self._last_decrease = -math.inf
        self._not_before = -math.inf
        self._buckets: dict[_Kind, _Bucket] = {}

    def wait_s(self, now: float, tokens: int) -> float | None:
        """Return how long a request must wait: 0 is go, None is until another one ends.

        Args:
            now: Seconds on any clock that never goes back.
            tokens: What the request may use at most, reply included.
        """
        if len(self._under_way) >= max(1, int(self.limit)):
            return None
        wait = self._not_before - now
        for kind, bucket in self._buckets.items():
            wait = max(wait, bucket.wait_s(now, _amount(kind, tokens)))
        return max(wait, _LEAST_WAIT_S) if wait > 0 else _GO

    def sent(self, now: float, tokens: int) -> int:
        """Note that a request goes out; returns its ticket."""
        ticket = next(self._numbers)
        self._under_way[ticket] = (now, tokens)
        for kind, bucket in self._buckets.items():
            bucket.take(now, _amount(kind, tokens))
        return ticket

    def answered(self, ticket: int, now: float, headers: Mapping[str, str]) -> None:
        """Note an answer, and what its headers tell of the tokens left."""
        self._look(ticket, now, headers)
        self.limit = min(float(self._bound), self.limit + 1 / self.limit)

    def refused(
        self, ticket: int, now: float, headers: Mapping[str, str], pause_s: float | None
    ) -> None:
        """Note a 429 or 503; with ``pause_s`` nothing at all goes out until that has passed."""
        sent = self._look(ticket, now, headers)
        if pause_s is not None:
            self._not_before = max(self._not_before, now + pause_s)
        if sent > self._last_decrease:
            self.limit = max(1.0, self.limit * _DECREASE)
            self._last_decrease = now

    def failed(self, ticket: int) -> None:
        """Note that a request ended in any other way."""
        self._under_way.pop(ticket)

    def _look(self, ticket: int, now: float, headers: Mapping[str, str]) -> float:
        sent, _ = self._under_way.pop(ticket)
        # The endpoint had not seen what went out after this request.
        later = [tokens for at, tokens in self._under_way.values() if at > sent]
        for kind in _KINDS:
            bucket = _Bucket.read(headers, now, kind)
            if bucket is not None:
                bucket.take(now, sum(_amount(kind, tokens) for tokens in later))
                self._buckets[kind] = bucket
        return sent


class _Bucket:
    """What is left of tokens or requests at an endpoint; fills steadily up to its limit."""

    def __init__(self, limit: float, left: float, rate: float, now: float) -> None:
        self._limit = limit
        self._left = left
        self._rate = rate
        self._at = now
        self._told = now

    @classmethod
    def read(cls, headers: Mapping[str, str], now: float, kind: _Kind) -> _Bucket | None:
        """Return the bucket that OpenAI's headers describe; None without, or with odd ones."""
        limit = _number(headers.get(f"x-ratelimit-limit-{kind}"))
        left = _number(headers.get(f"x-ratelimit-remaining-{kind}"))
        full_in = duration_s(headers.get(f"x-ratelimit-reset-{kind}"))
        if limit is None or left is None or full_in is None or not 0 <= left <= limit:
            return None
        per_minute = limit / 60
        rate = (limit - left) / full_in if full_in > 0 and left < limit else per_minute
        return cls(limit, left, rate, now)

    def take(self, now: float, amount: int) -> None:
        self._left = min(self._limit, self._left + (now - self._at) * self._rate) - amount
        self._at = now

    def wait_s(self, now: float, amount: int) -> float:
        if now - self._told > _LONGEST_BELIEVED_S:
            return _GO  # limits are per minute; who speaks of days is asked again in a minute
        self.take(now, 0)
        # more than the bucket ever holds can only be tried when it is full
        lacking = min(amount, self._limit) - self._left
        wait = lacking / self._rate if lacking > 0 and self._rate > 0 else _GO
        return min(wait, self._told + _LONGEST_BELIEVED_S + _LEAST_WAIT_S - now)


def _amount(kind: _Kind, tokens: int) -> int:
    return tokens if kind == "tokens" else 1


def duration_s(text: str | None) -> float | None:
    """Return the seconds of ``6m0s``, ``1.5s``, ``20ms``; None for anything else."""
    if text is None or not _DURATION.fullmatch(text):
        return None
    parts = re.findall(r"([0-9.]+)(ms|s|m|h|d)", text)
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def retry_after_s(headers: Mapping[str, str], unix_now: float) -> float | None:
    """Return how long an endpoint asks to wait, >= 0; None where it does not say.

    Args:
        headers: ``retry-after-ms``, or ``retry-after`` as seconds or as an HTTP date.
        unix_now: The present time, to measure a date from.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    given = headers.get("retry-after")
    seconds = _number(given)
    if seconds is not None or given is None:
        return seconds
    try:
        there = headers.get("date")  # by their clock, if they tell it: ours may be wrong
        now = unix_now if there is None else parsedate_to_datetime(there).timestamp()
        return max(0.0, parsedate_to_datetime(given).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return None


def _number(text: str | None) -> float | None:
    if text is None or not re.fullmatch(r"[0-9]{1,15}(\.[0-9]*)?", text.strip()):
        return None
    return float(text)
