"""How long a judge may keep silent: one line after a minute, an end after the longest wait.

Silence is remembered for as long as the process lives, so that the next judge prompt does not wait
for the same dead endpoint all over again.
"""

from __future__ import annotations

import asyncio
import time
from typing import NamedTuple

from eft_eval.judging.judges.base import Failure, Judge, Outcome, Reply
from eft_eval.streams import logger

__all__ = ["Patience"]

_log = logger("eft_eval.judging")

_TELL_SECONDS = 60.0
_LOOK_SECONDS = 0.25
_SHORT_OUTAGE_SECONDS = 30.0  # a server that starts anew is no reason to end a run
_REMEMBERED_SECONDS = 300.0
_WORTH_REMEMBERING_SECONDS = 10.0
_LONGEST_ERROR = 300


class _Silence(NamedTuple):
    seconds: float
    ended: float


_silences: dict[str, _Silence] = {}


class Patience:
    """Sends prompts to one judge, and gives it up when nothing but silence and failures comes.

    It is given up after `Judge.max_wait_s` without a reply, and when so many tries in a row have
    failed as prompts are sent at once, over more than half a minute. Who was given up a moment ago
    has one try only.

    Args:
        judge: The judge.
        limit: Failed tries in a row that are too many.
    """

    def __init__(self, judge: Judge, limit: int) -> None:
        self.given_up: str | None = None
        self._judge = judge
        self._name = f"{judge.settings.model} at {judge.place}"
        self._under_way: set[asyncio.Task[Outcome]] = set()
        self._last = time.monotonic()
        self._failures = 0
        self._first_failure = 0.0
        self._told = False
        before = _silences.pop(self._name, _Silence(0.0, 0.0))
        recent = self._last - before.ended < _REMEMBERED_SECONDS
        self._carried = before.seconds if recent else 0.0
        self._limit = 1 if self._carried else limit
        judge.on_try = self._on_try

    async def send(self, prompt: str) -> Outcome:
        """Return the judge's outcome; what it raises that is no error of ours is a failure."""
        if not self._under_way:
            self._last = time.monotonic()
        task = asyncio.ensure_future(self._judge.send(prompt))
        self._under_way.add(task)
        try:
            outcome = await task
        except asyncio.CancelledError:
            if self.given_up is None:
                raise
            return Failure(self.given_up, "all")
        finally:
            self._under_way.discard(task)
        if isinstance(outcome, Reply):
            self._on_try(None)
        return outcome

    async def watch(self) -> None:
        """Look at the clock until cancelled."""
        while True:
            self._look()
            await asyncio.sleep(_LOOK_SECONDS)

    def close(self) -> None:
        """Remember a silence that has not ended."""
        seconds = self._carried + self._silent_s()
        if self._failures and seconds > _WORTH_REMEMBERING_SECONDS:
            _silences[self._name] = _Silence(seconds, time.monotonic())

    def _silent_s(self) -> float:
        return time.monotonic() - self._last

    def _look(self) -> None:
        if not self._under_way:
            return
        silent, most = self._silent_s(), self._judge.max_wait_s
        if silent >= _TELL_SECONDS and not self._told:
            self._told = True
            end = (
                ""
                if most is None
                else f"; given up after {most:.0f} s without one (EFT_JUDGE_MAX_WAIT)"
            )
            _log.warning("%s: no reply for %.0f s%s", self._name, silent, end)
        if most is not None and self._carried + silent >= most:
            self._give_up(f"no reply from {self._name} for {self._carried + silent:.0f} s")

    def _on_try(self, failure: str | None) -> None:
        """Note how a try ended: None is a reply."""
        now = time.monotonic()
        if failure is None:
            self._last, self._carried, self._failures, self._told = now, 0.0, 0, False
            return
        self._failures += 1
        if self._failures == 1:
            self._first_failure = self._last
        lasted = self._carried + now - self._first_failure
        if self._failures >= self._limit and lasted >= _SHORT_OUTAGE_SECONDS:
            self._give_up(f"{self._failures} tries in a row failed, the last: {failure}")

    def _give_up(self, why: str) -> None:
        if self.given_up is None:
            self.given_up = why[:_LONGEST_ERROR]
            self._failures = max(1, self._failures)
            for task in self._under_way:
                task.cancel()
