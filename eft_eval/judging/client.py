"""Asking an OpenAI-compatible endpoint: a look beforehand, then many requests at once.

Knows nothing of prompts, parsing or the store. Retries are the openai client's own: it honours
``Retry-After``, waits longer each time, and does not repeat a refused key.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eft_eval.judging.settings import OPENAI_URL, JudgeSettings, parameters_for

if TYPE_CHECKING:
    import openai

__all__ = ["Failure", "Outcome", "Reply", "ask_all", "explain"]

_CONNECT_SECONDS = 10.0
_LONGEST_ERROR = 300
_LOOK_SECONDS = 0.1


@dataclass(frozen=True)
class Reply:
    """What the judge answered, unread.

    Attributes:
        text: The content, None where there is none.
        finish_reason: ``stop``, ``length``, ``content_filter``, or the endpoint's own word.
        refusal: The refusal field, where the endpoint has one.
        model: The model that the endpoint says answered.
        prompt_tokens: As the endpoint counted.
        completion_tokens: As the endpoint counted.
    """

    text: str | None
    finish_reason: str | None
    refusal: str | None
    model: str | None
    prompt_tokens: int | None
    completion_tokens: int | None


@dataclass(frozen=True)
class Failure:
    """Why there is no reply, in one line without the key."""

    error: str


Outcome = Reply | Failure


def ask_all(
    prompts: Sequence[str], settings: JudgeSettings, on_outcome: Callable[[int, Outcome], None]
) -> None:
    """Send every prompt as a user's message, and report each outcome as it arrives.

    At most ``settings.concurrency`` requests are under way at once. Once the key is refused, or
    after as many failures in a row as there are requests at once (at least 3), nothing more is
    sent and the rest fail with ``not sent: ...``.

    Args:
        prompts: The texts.
        settings: The judge.
        on_outcome: Called with the prompt's index and its outcome, one call at a time, though
            perhaps in another thread: where an event loop already runs, a second one is started
            beside it. What it raises ends the whole call.
    """
    if not prompts:
        return

    def main() -> Coroutine[Any, Any, None]:
        return _ask_all(prompts, settings, on_outcome)

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(main())
    else:
        _run_beside(main)


def explain(error: Exception, settings: JudgeSettings) -> str:
    """Return one line on a client's error, without the key."""
    import openai

    text = str(error)
    if isinstance(error, openai.APIConnectionError) and error.__cause__ is not None:
        text = f"{text} {error.__cause__}"
    text = " ".join(text.split()).replace(settings.api_key, "***")
    return text[:_LONGEST_ERROR] or type(error).__name__


class _Breaker:
    """Stops the sending when the endpoint, not the item, is at fault."""

    def __init__(self, limit: int) -> None:
        self.tripped: str | None = None
        self._limit = limit
        self._failures = 0
        self._answered = False

    def success(self) -> None:
        self._failures = 0
        self._answered = True

    def failure(self, status: int | None, why: str) -> None:
        self._failures += 1
        # Some endpoints answer 403 to a text that their moderation flags: then, and only then,
        # other texts got their replies with the same key.
        if status == 401 or (status == 403 and not self._answered):
            self.tripped = self.tripped or f"the key was refused ({why})"
        elif self._failures >= self._limit:
            self.tripped = self.tripped or f"{self._failures} failures in a row, the last: {why}"


async def _ask_all(
    prompts: Sequence[str], settings: JudgeSettings, on_outcome: Callable[[int, Outcome], None]
) -> None:
    import openai

    breaker = _Breaker(max(3, settings.concurrency))
    queue = iter(enumerate(prompts))
    timeout = openai.Timeout(settings.timeout_s, connect=min(_CONNECT_SECONDS, settings.timeout_s))
    async with openai.AsyncOpenAI(
        api_key=settings.api_key,
        base_url=settings.base_url or OPENAI_URL,
        max_retries=settings.max_retries,
        timeout=timeout,
    ) as client:
        workers = [
            asyncio.ensure_future(_work(queue, client, settings, breaker, on_outcome))
            for _ in range(min(settings.concurrency, len(prompts)))
        ]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)


async def _work(
    queue: Iterator[tuple[int, str]],
    client: openai.AsyncOpenAI,
    settings: JudgeSettings,
    breaker: _Breaker,
    on_outcome: Callable[[int, Outcome], None],
) -> None:
    for index, prompt in queue:
        if breaker.tripped:
            on_outcome(index, Failure(f"not sent: {breaker.tripped}"))
        else:
            on_outcome(index, await _ask(prompt, client, settings, breaker))


async def _ask(
    prompt: str, client: openai.AsyncOpenAI, settings: JudgeSettings, breaker: _Breaker
) -> Outcome:
    import openai

    parameters = parameters_for(settings.model, settings.max_tokens)
    try:
        completion = await client.chat.completions.create(
            model=settings.model, messages=[{"role": "user", "content": prompt}], **parameters
        )
    except (openai.BadRequestError, openai.UnprocessableEntityError, UnicodeError) as error:
        # The endpoint is up and dislikes this one text: no matter for the breaker.
        return Failure(explain(error, settings))
    except openai.APIStatusError as error:
        why = explain(error, settings)
        breaker.failure(error.status_code, why)
        return Failure(why)
    except (openai.OpenAIError, ValueError) as error:
        why = explain(error, settings)
        breaker.failure(None, why)
        return Failure(why)
    outcome = _read(completion)
    if isinstance(outcome, Failure):
        breaker.failure(None, outcome.error)
    else:
        breaker.success()
    return outcome


def _read(completion: Any) -> Outcome:
    # The openai client does not check replies: a web page comes as a str, a lacking field as None.
    choices = getattr(completion, "choices", None)
    if not isinstance(choices, list) or not choices:
        return Failure("the endpoint's reply is no chat completion")
    message = getattr(choices[0], "message", None)
    if message is None:
        return Failure("the endpoint's reply is no chat completion")
    usage = getattr(completion, "usage", None)
    content = getattr(message, "content", None)
    return Reply(
        text=content if isinstance(content, str) else None,
        finish_reason=getattr(choices[0], "finish_reason", None),
        refusal=getattr(message, "refusal", None),
        model=getattr(completion, "model", None),
        prompt_tokens=getattr(usage, "prompt_tokens", None),
        completion_tokens=getattr(usage, "completion_tokens", None),
    )


def _run_beside(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run ``main`` in a fresh thread's event loop; an interrupt here cancels it there."""
    started = threading.Event()
    cancel: list[Callable[[], object]] = []

    async def tracked() -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.ensure_future(main())
        cancel.append(lambda: loop.call_soon_threadsafe(task.cancel))
        started.set()
        await task

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
            started.wait(_CONNECT_SECONDS)
            with contextlib.suppress(RuntimeError):  # it ended by itself, and its loop is closed
                for stop in cancel:
                    stop()
            raise
        future.result()


def _times_cancelled() -> int:
    count = getattr(asyncio.current_task(), "cancelling", None)  # new in Python 3.11
    return int(count()) if count is not None else 0
