"""Asking an OpenAI-compatible endpoint one prompt: tries, waits, pace and money.

Knows nothing of judge prompts, parsing or the store. The openai client sends; trying again is
done here, because refusals set the pace of all requests, and every try has its price.
"""

from __future__ import annotations

import asyncio
import functools
import random
import re
import time
from dataclasses import replace
from datetime import date
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from eft_eval.errors import ConfigError
from eft_eval.judging.cost.budget import Budget
from eft_eval.judging.judges.adapting import Form, adapted, form_at, remember
from eft_eval.judging.judges.base import Failure, Judge, Outcome, Reply
from eft_eval.judging.judges.client import (
    Chat,
    explain,
    http_library,
    mask,
    without_echo,
)
from eft_eval.judging.judges.direct import AnswerLost, ConnectFailed
from eft_eval.judging.judges.endpoint_errors import EndpointError
from eft_eval.judging.judges.heads import Answer, Redirected, TooLarge
from eft_eval.judging.judges.lookup import look_up
from eft_eval.judging.judges.rate_limit import Pacer
from eft_eval.judging.judges.structured import response_format
from eft_eval.judging.judges.tries import Try, not_taken, read, refused
from eft_eval.judging.settings import OPENAI_URL, JudgeSettings
from eft_eval.streams import logger

__all__ = ["EndpointJudge"]

_log = logger("eft_eval.judging")

_FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 8.0
_TYPICAL_TOKENS_PER_BYTE = 0.3
_MOST_FORMS = 12  # that one try may take until nothing in it is refused
_KINDS_TOLD = 10
_REASONING = re.compile(r"(o[1-9]|gpt-([5-9]|[12][0-9]))(?![0-9])")
_TAKES_SCHEMA = re.compile(r"(o[1-9]|gpt-(4o|4\.[1-9]|([5-9]|[12][0-9])(?![0-9])))")
_TAKES_NO_SCHEMA = ("gpt-4o-2024-05-13", "o1-mini", "o1-preview")


class EndpointJudge(Judge):
    """A model at an OpenAI-compatible endpoint.

    Tries per prompt are at most ``settings.max_retries + 1``; where the endpoint refuses a field
    of the request, the same try goes out once more without, and all others after it.

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
        self._schema_taken = False
        self._answered = False
        self._anomalies: dict[str, tuple[int, str]] = {}

    @functools.cached_property
    def _chat(self) -> Chat:
        return Chat(self.settings)

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
            usual: dict[str, Any] = {"max_completion_tokens": self.settings.max_tokens}
        else:
            usual = {"temperature": 0, "max_tokens": self.settings.max_tokens}
        # a field that is set to null is not sent; the key says so
        return {**usual, **self.settings.params}

    def check(self, today: date) -> str | None:
        """Look the model up; an endpoint without look-ups, or a busy one, is taken on trust."""
        return look_up(self.settings, self.place, today)

    def body(self, prompt: str, form: Form | None = None) -> dict[str, Any]:
        """Return a chat request's JSON, live or in a batch.

        Args:
            prompt: The user's message.
            form: How it differs from what is asked; None is as the endpoint is known to take it.
        """
        form = form_at(self.place, self.name) if form is None else form
        given = self.key().items()
        wished = {
            **{name: value for name, value in given if value is not None},
            **({"response_format": response_format()} if self.asks_for_json else {}),
        }
        return {
            "model": self.name,
            "messages": [{"role": "user", "content": prompt}],
            **form.apply(wished),
        }

    @property
    def sent_now(self) -> dict[str, Any] | None:
        """See `sent`, in the form that the endpoint is known to take."""
        return self.sent(form_at(self.place, self.name))

    def sent(self, form: Form) -> dict[str, Any] | None:
        """Return the sampling parameters as they are sent, None where they are those asked for."""
        asked = {name: value for name, value in self.key().items() if value is not None}
        sent = form.apply(asked)
        return None if sent == asked else sent

    @property
    def _is_openai(self) -> bool:
        url = self.settings.base_url or OPENAI_URL
        return urlsplit(url).hostname == urlsplit(OPENAI_URL).hostname

    async def send(self, prompt: str) -> Outcome:
        """Return the reply, or why there is none after the last try."""
        for number in range(self.settings.max_retries + 1):
            done = await self._paced(prompt)
            if done.anomaly is not None:
                count, words = self._anomalies.get(done.anomaly, (0, ""))
                if isinstance(done.outcome, Failure):
                    words = words or done.outcome.error
                self._anomalies[done.anomaly] = (count + 1, words)
            if not done.again or number == self.settings.max_retries:
                break
            await asyncio.sleep(_backoff_s(number) if done.wait_s is None else done.wait_s)
        return done.outcome

    async def close(self) -> None:
        """Close the connections; log one line per kind of failure that was met on the way."""
        told = sorted(self._anomalies.items(), key=lambda one: -one[1][0])
        for anomaly, (count, words) in told[:_KINDS_TOLD]:
            times = "once" if count == 1 else f"{count} times"
            said = words if words.startswith(anomaly) or not words else f"{anomaly}: {words}"
            _log.warning("%s, %s: %s", self.place, times, said or anomaly)
        if len(told) > _KINDS_TOLD:
            _log.warning("%s: %d more kinds of failures", self.place, len(told) - _KINDS_TOLD)
        self._anomalies.clear()
        if "_chat" in vars(self):
            await self._chat.close()

    async def _paced(self, prompt: str) -> Try:
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
                    return Try(Failure(self.budget.exhausted, "budget"))
                await self._change(None)  # a reply under way may cost less than its reservation
            ticket = self._pacer.sent(time.monotonic(), tokens)
        done = Try(Failure("interrupted"), billed=True)
        try:
            done = await self._try(prompt)
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

    def _note(self, done: Try, ticket: int, reserved_usd: float) -> None:
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

    async def _try(self, prompt: str) -> Try:
        """Try once; a request of which the endpoint refuses a field goes out again without it."""
        form = form_at(self.place, self.name)
        for _ in range(_MOST_FORMS):
            body = self.body(prompt, form)
            if self.budget and not {"max_tokens", "max_completion_tokens"} & body.keys():
                why = f"{self.place} takes no limit of tokens, which --budget needs"
                return Try(Failure(why, "all"))
            stream = {} if "stream" in self.settings.params else {"stream": False}
            done, error = await self._ask({**form.apply(stream), **body}, form)
            if error is None:
                self._taken(form, done)
                return done
            known = form_at(self.place, self.name)
            guess = "response_format" in body and not self._schema_taken
            better = adapted(form, {**body, "stream": False}, error)
            if known != form and better is not None:
                form = known  # another request has met it before
            elif better is not None:
                self._adapt(form, better, error)
                form = better
            elif guess and error.kind == "request" and error.status in (400, 422):
                form = form.without("response_format")  # remembered if that helps
            else:
                return done
        return done

    def _adapt(self, before: Form, form: Form, error: EndpointError) -> None:
        if form_at(self.place, self.name) == before:
            remember(self.place, self.name, form)
            self._tell(form.told(before), error.words)

    def _tell(self, changes: str, why: str) -> None:
        _log.warning("%s: asked %s from now on (%s)", self.place, changes, mask(why, self.settings))

    def _taken(self, form: Form, done: Try) -> None:
        """Note that a form is taken where it was a guess that it might be."""
        if not isinstance(done.outcome, Reply):
            return
        self._schema_taken = self._schema_taken or done.outcome.structured
        known = form_at(self.place, self.name)
        if form == known.without("response_format") != known:
            remember(self.place, self.name, form)
            self._tell(form.told(known), "takes no JSON schema; text it is")

    async def _ask(self, body: dict[str, Any], form: Form) -> tuple[Try, EndpointError | None]:
        """Send a request; where the endpoint refuses it, return its error beside."""
        library = http_library()
        try:
            answer = await asyncio.wait_for(self._chat.send(body), self.settings.timeout_s)
        except (TooLarge, Redirected) as error:
            return not_taken(error), None
        except (asyncio.TimeoutError, library.TimeoutException):
            why = f"no whole reply within {self.settings.timeout_s:g} s"
            return Try(Failure(why), anomaly=why, again=True, billed=True), None
        except (ConnectFailed, AnswerLost, library.TransportError) as error:
            lost = not type(error).__name__.startswith(("Connect", "Proxy", "Unsupported"))
            why = explain(error, self.settings)
            anomaly = "connection lost" if lost else "no connection"
            why = f"{anomaly}: {why}"
            return Try(Failure(why), anomaly=anomaly, again=True, billed=lost), None
        except UnicodeError as error:
            return Try(Failure(explain(error, self.settings), "item")), None
        found = read(answer, structured="response_format" in body)
        if isinstance(found, EndpointError):
            return self._refused(found, answer)
        found = replace(found, sent=self.sent(form))
        return Try(without_echo(found, self.settings), answer.headers), None

    def _refused(self, error: EndpointError, answer: Answer) -> tuple[Try, EndpointError | None]:
        done = refused(error, answer, self.place, answered=self._answered)
        done = done._replace(outcome=without_echo(done.outcome, self.settings))
        return done, None if error.kind == "moderated" else error


def _family(model: str) -> str:
    return model.lower().removeprefix("ft:").rpartition("/")[2]


def _takes_schema(model: str) -> bool:
    name = _family(model)
    return bool(_TAKES_SCHEMA.match(name)) and not name.startswith(_TAKES_NO_SCHEMA)


def _backoff_s(number: int) -> float:
    """Return the wait after try ``number`` (0 is the first); spread, so that not all come back."""
    return min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2.0**number) * random.uniform(0.5, 1.0)
