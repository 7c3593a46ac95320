"""Asking an OpenAI-compatible endpoint one prompt: tries, waits, pace and money.

Knows nothing of judge prompts, parsing or the store. The openai client sends; trying again is
done here, because refusals set the pace of all requests, and every try has its price.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import random
import re
import time
from collections import Counter
from collections.abc import Mapping
from datetime import date
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

from eft_eval.errors import ConfigError
from eft_eval.judging.cost.budget import Budget
from eft_eval.judging.judges.base import Failure, Judge, Outcome, Reply, load_json, read_completion
from eft_eval.judging.judges.client import (
    MOST_BYTES,
    Redirected,
    TooLarge,
    explain,
    make_client,
    without_secrets,
)
from eft_eval.judging.judges.lookup import look_up
from eft_eval.judging.judges.rate_limit import Pacer, retry_after_s
from eft_eval.judging.judges.structured import response_format
from eft_eval.judging.settings import OPENAI_URL, JudgeSettings

if TYPE_CHECKING:
    import openai

__all__ = ["EndpointJudge"]

_log = logging.getLogger("eft_eval.judging")

_LONGEST_PAUSE_S = 300.0
_FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 8.0
_TYPICAL_TOKENS_PER_BYTE = 0.3
_TRY_AGAIN = (408, 409, 429)
_OVERLOADED = (429, 503, 529)
_ITEMS_OWN = (400, 413, 422)
_REASONING = re.compile(r"(o[1-9]|gpt-([5-9]|[12][0-9]))(?![0-9])")
_TAKES_SCHEMA = re.compile(r"(o[1-9]|gpt-(4o|4\.[1-9]|([5-9]|[12][0-9])(?![0-9])))")
_TAKES_NO_SCHEMA = ("gpt-4o-2024-05-13", "o1-mini", "o1-preview")


class _Try(NamedTuple):
    """How one try ended."""

    outcome: Outcome
    headers: Mapping[str, str] | None = None  # None where no response came
    anomaly: str | None = None  # its kind, for one line at the end
    again: bool = False
    wait_s: float | None = None  # before the next try, as the endpoint asks
    refused: bool = False  # for the pace, not for the text
    billed: bool = False  # perhaps, though no usage came


class EndpointJudge(Judge):
    """A model at an OpenAI-compatible endpoint.

    Tries per prompt are at most ``settings.max_retries + 1``; where the endpoint answers 400 to a
    JSON schema, the same try goes out once more without.

    Raises:
        ConfigError: There is neither a key nor a base URL.
    """

    priced = True

    def __init__(self, settings: JudgeSettings, budget: Budget | None = None) -> None:
        super().__init__(settings, budget)
        if settings.api_key is None and settings.base_url is None:
            raise ConfigError(
                "no judge to ask: set OPENAI_API_KEY; or set EFT_JUDGE_BASE_URL (and "
                "EFT_JUDGE_MODEL) to any OpenAI-compatible endpoint; or EFT_JUDGE_MODEL=hf:MODEL "
                "for a judge in this process; or run with --predict_only and judge later with "
                "`eft-eval judge RUN_DIR`"
            )
        self.name = settings.model
        self._pacer = Pacer(settings.concurrency)
        self._changed = asyncio.Condition()
        self._schema = self.asks_for_json
        self._schema_taken = False
        self._answered = False
        self._anomalies: Counter[str] = Counter()

    @functools.cached_property
    def _client(self) -> openai.AsyncOpenAI:
        return make_client(self.settings)

    @property
    def place(self) -> str:
        """The endpoint's address without user, password and query."""
        parts = urlsplit(self.settings.base_url or OPENAI_URL)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))

    @property
    def max_wait_s(self) -> float:
        """The longest silence; no shorter than one try may take."""
        return max(self.settings.max_wait_s, self.settings.timeout_s)

    @property
    def asks_for_json(self) -> bool:
        """Whether requests carry a JSON schema: where the endpoint is known to take it."""
        if self.settings.structured == "auto":
            return self._is_openai and _takes_schema(self.name)
        return self.settings.structured == "on"

    def key(self) -> dict[str, Any]:
        """Return the sampling parameters.

        Reasoning models (o1, o3-mini, gpt-5 and later, by name) refuse a temperature and count
        their tokens in ``max_completion_tokens``; others are asked at temperature 0.
        """
        if _REASONING.match(_family(self.name)):
            return {"max_completion_tokens": self.settings.max_tokens}
        return {"temperature": 0, "max_tokens": self.settings.max_tokens}

    def check(self, today: date) -> str | None:
        """Look the model up; an endpoint without look-ups, or a busy one, is taken on trust."""
        return look_up(self.settings, self.place, today)

    def body(self, prompt: str, *, schema: bool) -> dict[str, Any]:
        """Return a chat request's JSON, live or in a batch.

        Args:
            prompt: The user's message.
            schema: Whether to ask for JSON.
        """
        return {
            "model": self.name,
            "messages": [{"role": "user", "content": prompt}],
            **self.key(),
            **({"response_format": response_format()} if schema else {}),
        }

    @property
    def _is_openai(self) -> bool:
        url = self.settings.base_url or OPENAI_URL
        return urlsplit(url).hostname == urlsplit(OPENAI_URL).hostname

    async def send(self, prompt: str) -> Outcome:
        """Return the reply, or why there is none after the last try."""
        for number in range(self.settings.max_retries + 1):
            done = await self._paced(prompt)
            if done.anomaly is not None:
                self._anomalies[done.anomaly] += 1
            if not done.again or number == self.settings.max_retries:
                break
            await asyncio.sleep(_backoff_s(number) if done.wait_s is None else done.wait_s)
        return done.outcome

    async def close(self) -> None:
        """Close the connections; log one line per kind of failure that was met on the way."""
        for anomaly, count in self._anomalies.most_common():
            times = "once" if count == 1 else f"{count} times"
            _log.warning("%s, %s: %s", self.place, times, anomaly)
        self._anomalies.clear()
        if "_client" in vars(self):
            await self._client.close()

    async def _paced(self, prompt: str) -> _Try:
        """Try once, as soon as the pace and the budget have room."""
        typical = int(len(prompt.encode("utf-8", "surrogatepass")) * _TYPICAL_TOKENS_PER_BYTE)
        tokens = typical + self.settings.max_tokens
        async with self._changed:
            while True:
                wait = self._pacer.wait_s(time.monotonic(), tokens)
                if wait != 0:
                    await self._change(wait)
                    continue
                reserved = self.budget.reserve(prompt) if self.budget else 0.0
                if reserved is not None:
                    break
                if self.budget and not self.budget.under_way:
                    return _Try(Failure(self.budget.exhausted, "budget"))
                await self._change(None)  # a reply under way may cost less than its reservation
            ticket = self._pacer.sent(time.monotonic(), tokens)
        done = _Try(Failure("interrupted"), billed=True)
        try:
            done = await self._try(prompt, self._schema)
        finally:
            self._note(done, ticket, reserved)
            async with self._changed:
                self._changed.notify_all()
        return done

    async def _change(self, seconds: float | None) -> None:
        try:
            await asyncio.wait_for(self._changed.wait(), seconds)
        except asyncio.TimeoutError:
            return

    def _note(self, done: _Try, ticket: int, reserved_usd: float) -> None:
        now = time.monotonic()
        if done.refused:
            self._pacer.refused(ticket, now, done.headers or {}, done.wait_s)
        elif isinstance(done.outcome, Reply):
            self._answered = True
            self._pacer.answered(ticket, now, done.headers or {})
            self.on_try(None)
        else:
            self._pacer.failed(ticket)
            if done.again:
                self.on_try(done.outcome.error)
        if self.budget is None:
            return
        if isinstance(done.outcome, Reply):
            used = done.outcome
            self.budget.settle(reserved_usd, used.prompt_tokens, used.completion_tokens)
        elif done.billed:
            self.budget.settle(reserved_usd, None, None)
        else:
            self.budget.release(reserved_usd)

    async def _try(self, prompt: str, schema: bool) -> _Try:
        import openai

        try:
            content, headers = await asyncio.wait_for(
                self._request(prompt, schema), self.settings.timeout_s
            )
            completion = load_json(content)
        except RecursionError:  # JSON, but so deep that nobody reads it; asking again is no use
            return _Try(Reply(None, None), headers)
        except (TooLarge, Redirected) as error:
            return _not_taken(error)
        except openai.APIStatusError as error:
            if schema and error.status_code in (400, 422) and not self._schema_taken:
                done = await self._try(prompt, False)
                if self._schema and isinstance(done.outcome, Reply):
                    self._schema = False
                    _log.warning("%s takes no JSON schema; text it is", self.place)
                return done
            return self._status(error)
        except (asyncio.TimeoutError, openai.APITimeoutError):
            why = f"no whole reply within {self.settings.timeout_s:g} s"
            return _Try(Failure(why), anomaly=why, again=True, billed=True)
        except openai.APIConnectionError as error:
            if isinstance(error.__cause__, (TooLarge, Redirected)):
                return _not_taken(error.__cause__)
            lost = not type(error.__cause__).__name__.startswith("Connect")
            why = explain(error, self.settings)
            anomaly = "connection lost" if lost else "no connection"
            return _Try(Failure(why), anomaly=anomaly, again=True, billed=lost)
        except UnicodeError as error:
            return _Try(Failure(explain(error, self.settings), "item"))
        except (openai.OpenAIError, ValueError) as error:
            why = f"the endpoint's reply is no JSON: {explain(error, self.settings)}"
            return _Try(Failure(why), anomaly="reply is no JSON", again=True, billed=True)
        outcome = read_completion(
            completion if isinstance(completion, dict) else {}, structured=schema
        )
        if isinstance(outcome, Failure):
            return _Try(outcome, anomaly=outcome.error, again=True, billed=True)
        self._schema_taken = self._schema_taken or schema
        return _Try(without_secrets(outcome, self.settings), headers)

    async def _request(self, prompt: str, schema: bool) -> tuple[bytes, Mapping[str, str]]:
        import openai

        # What is in extra_body is sent as it is. The typed arguments say the same, but walking
        # through their types takes the client longer than all else that it does.
        body = self.body(prompt, schema=schema)
        content = bytearray()
        async with self._client.chat.completions.with_streaming_response.create(
            model=self.name, messages=[], extra_body=body
        ) as response:
            try:
                async for part in response.iter_bytes():
                    content += part
                    if len(content) > MOST_BYTES:
                        raise TooLarge(f"the answer has more than {MOST_BYTES:,} bytes")
            except TooLarge:
                raise
            except Exception as error:  # the HTTP library's, which the client wraps elsewhere
                raise openai.APIConnectionError(request=response.http_request) from error
            return bytes(content), response.headers

    def _status(self, error: openai.APIStatusError) -> _Try:
        """Return what follows from an HTTP status other than 200."""
        status, headers = error.status_code, error.response.headers
        why = explain(error, self.settings)
        if status in _ITEMS_OWN:
            # The endpoint is up and dislikes this one text.
            return _Try(Failure(why, "item"), headers)
        # Some endpoints answer 403 to a text that their moderation flags: then, and only then,
        # other texts got their replies with the same key.
        no_quota = status == 429 and getattr(error, "code", None) == "insufficient_quota"
        if status == 401 or no_quota or (status == 403 and not self._answered):
            return _Try(Failure(why, "key"), headers)
        anomaly = f"HTTP status {status}"
        wait = retry_after_s(headers, time.time())
        again = {"true": True, "false": False}.get(
            headers.get("x-should-retry", ""), status in _TRY_AGAIN or status >= 500
        )
        if wait is not None and wait > _LONGEST_PAUSE_S:
            why = f"the endpoint asks to wait {wait:.0f} s, which is too long ({why})"
            again = False
        refused = status in _OVERLOADED and again
        return _Try(Failure(why), headers, anomaly, again=again, wait_s=wait, refused=refused)


def _not_taken(error: TooLarge | Redirected) -> _Try:
    """Return the end of a try whose answer was not read: unreadable, or nobody's we asked."""
    if isinstance(error, TooLarge):
        return _Try(Reply(None, None), anomaly=str(error))
    return _Try(Failure(str(error), "all"))


def _family(model: str) -> str:
    return model.lower().removeprefix("ft:").rpartition("/")[2]


def _takes_schema(model: str) -> bool:
    name = _family(model)
    return bool(_TAKES_SCHEMA.match(name)) and not name.startswith(_TAKES_NO_SCHEMA)


def _backoff_s(number: int) -> float:
    """Return the wait after try ``number`` (0 is the first); spread, so that not all come back."""
    return min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2.0**number) * random.uniform(0.5, 1.0)
