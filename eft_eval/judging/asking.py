"""Asking many prompts at once: workers, the breaker, and event loops.

Knows nothing of judge prompts, parsing or the store; how one prompt is asked is the judge's.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, Protocol

from eft_eval.errors import EftEvalError
from eft_eval.judging.cost.budget import Budget
from eft_eval.judging.judges.base import Failure, Outcome
from eft_eval.judging.judges.registry import judge_for
from eft_eval.judging.patience import Patience
from eft_eval.judging.settings import JudgeSettings

__all__ = ["Source", "ask_all", "cancel_asking"]

_LEAST_FAILURES = 3
_LONGEST_ERROR = 300
_LOOK_SECONDS = 0.1
_START_SECONDS = 10.0

_under_way: set[Callable[[], None]] = set()
_lock = threading.Lock()

OnOutcome = Callable[[int, Outcome], "Future[None] | None"]
"""Takes a prompt's number and its outcome; what it returns is done when that is in safety."""


class Source(Protocol):
    """Hands out the numbers of the prompts to ask."""

    async def take(self) -> int | None:
        """Return the next prompt's number; None when there is no more."""

    async def watch(self) -> None:
        """Run beside the asking, until cancelled."""


class _All:
    """Every prompt, in order."""

    def __init__(self, count: int) -> None:
        self._numbers = iter(range(count))

    async def take(self) -> int | None:
        return next(self._numbers, None)

    async def watch(self) -> None:
        return


def ask_all(
    prompts: Sequence[str],
    settings: JudgeSettings,
    on_outcome: OnOutcome,
    *,
    source: Source | None = None,
    budget: Budget | None = None,
) -> str | None:
    """Send prompts as a user's messages, and report each outcome as it arrives.

    At most ``settings.concurrency`` requests are under way at once. Once the key is refused or
    the budget used up, or after as many failures in a row as there are requests at once (at
    least 3), nothing more is sent and the rest fail with ``not sent: ...``. Where a reply cannot
    be brought in safety, or nobody tells what to ask next, what is under way is waited for, and
    that is all.

    Args:
        prompts: The texts.
        settings: The judge.
        on_outcome: Called with the prompt's number and its outcome, one call at a time, though
            perhaps in another thread: where an event loop already runs, a second one is started
            beside it. What it raises ends the whole call. Where it returns a future, the next
            prompt in this one's place is sent when that is done.
        source: Which of the prompts to ask, and when; None is all of them, in order.
        budget: What may be spent; None is any sum.

    Returns:
        Why not all prompts have an outcome; None where they have.
    """
    if not prompts:
        return None

    def main() -> Coroutine[Any, Any, str | None]:
        return _ask_all(prompts, settings, on_outcome, source or _All(len(prompts)), budget)

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(_cancellable(main))
    return _run_beside(main)


def cancel_asking() -> None:
    """Cancel whatever is asked in any thread of this process, as Ctrl-C does in the first."""
    with _lock:
        stops = [*_under_way]
    for stop in stops:
        with contextlib.suppress(RuntimeError):  # it ended by itself, and its loop is closed
            stop()


async def _cancellable(main: Callable[[], Coroutine[Any, Any, str | None]]) -> str | None:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def stop() -> None:
        loop.call_soon_threadsafe(task.cancel)

    with _lock:
        _under_way.add(stop)
    try:
        return await main()
    finally:
        with _lock:
            _under_way.discard(stop)


class _Breaker:
    """Stops the sending when the endpoint, the key or the budget, not the item, is at fault."""

    def __init__(self, limit: int) -> None:
        self.tripped: str | None = None
        self.ended: str | None = None
        self.sent = False
        self._limit = limit
        self._failures = 0

    def note(self, outcome: Outcome) -> None:
        if not isinstance(outcome, Failure):
            self._failures = 0
        elif outcome.blame == "key":
            self._trip(f"the key was refused ({outcome.error})")
        elif outcome.blame in ("budget", "all"):
            self._trip(outcome.error)
        elif outcome.blame == "endpoint":
            self._failures += 1
            if self._failures >= self._limit:
                self._trip(f"{self._failures} failures in a row, the last: {outcome.error}")

    def end(self, why: str) -> None:
        """Stop everything, for no verdict could be kept."""
        self.ended = self.ended or why
        self._trip(why)

    def _trip(self, why: str) -> None:
        self.tripped = self.tripped or why


async def _ask_all(
    prompts: Sequence[str],
    settings: JudgeSettings,
    on_outcome: OnOutcome,
    source: Source,
    budget: Budget | None,
) -> str | None:
    judge = judge_for(settings, budget)
    limit = max(_LEAST_FAILURES, judge.at_once)
    breaker, patience = _Breaker(limit), Patience(judge, limit)
    watches = [asyncio.ensure_future(one.watch()) for one in (source, patience)]
    workers = [
        asyncio.ensure_future(_work(prompts, patience, breaker, on_outcome, source))
        for _ in range(min(judge.at_once, len(prompts)))
    ]
    try:
        await asyncio.gather(*workers)
    finally:
        for task in (*workers, *watches):
            task.cancel()
        await asyncio.gather(*workers, *watches, return_exceptions=True)
        patience.close()
        await judge.close()
    return breaker.ended


async def _work(
    prompts: Sequence[str],
    patience: Patience,
    breaker: _Breaker,
    on_outcome: OnOutcome,
    source: Source,
) -> None:
    while not breaker.ended:
        try:
            number = await source.take()
        except EftEvalError as error:
            if not breaker.sent:
                raise  # nothing is lost yet
            breaker.end(str(error))
            return
        if number is None:
            return
        if breaker.tripped:
            on_outcome(number, Failure(f"not sent: {breaker.tripped}"))
            continue
        breaker.sent = True
        outcome = await _send(patience, prompts[number])
        breaker.note(outcome)
        if isinstance(outcome, Failure) and outcome.blame == "budget":
            outcome = Failure(f"not sent: {outcome.error}")
        kept = on_outcome(number, outcome)
        if kept is not None:
            # A worker that sent its next request now could lose two paid replies in one crash.
            try:
                await asyncio.wrap_future(kept)
            except EftEvalError as error:
                breaker.end(str(error))


async def _send(patience: Patience, prompt: str) -> Outcome:
    try:
        return await patience.send(prompt)
    except EftEvalError:
        raise
    except Exception as error:  # noqa: BLE001  # one odd reply must not cost the others
        return Failure(" ".join(f"{type(error).__name__}: {error}".split())[:_LONGEST_ERROR])


def _run_beside(main: Callable[[], Coroutine[Any, Any, str | None]]) -> str | None:
    """Run ``main`` in a fresh thread's event loop; an interrupt here cancels it there."""
    started = threading.Event()
    cancel: list[Callable[[], object]] = []

    async def tracked() -> str | None:
        loop = asyncio.get_running_loop()
        task = asyncio.ensure_future(main())
        cancel.append(lambda: loop.call_soon_threadsafe(task.cancel))
        started.set()
        return await task

    cancelled_before = _times_cancelled()
    with ThreadPoolExecutor(1, thread_name_prefix="eft-judge") as pool:
        future = pool.submit(lambda: asyncio.run(tracked()))
        try:
            # From Python 3.11 on, Ctrl-C under asyncio.run raises nothing here: it asks the
            # caller's task to be cancelled, which that task, blocked by us, would never see.
            while not wait([future], timeout=_LOOK_SECONDS).done:
                if _times_cancelled() > cancelled_before:
                    raise asyncio.CancelledError
        except BaseException:
            started.wait(_START_SECONDS)
            with contextlib.suppress(RuntimeError):  # it ended by itself, and its loop is closed
                for stop in cancel:
                    stop()
            raise
        return future.result()


def _times_cancelled() -> int:
    count = getattr(asyncio.current_task(), "cancelling", None)  # new in Python 3.11
    return int(count()) if count is not None else 0
