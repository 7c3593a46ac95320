"""One request to an OpenAI-compatible endpoint: the client, and its errors in one line."""

from __future__ import annotations

import base64
import ssl
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urljoin, urlsplit
from urllib.request import getproxies

from eft_eval.errors import ConfigError
from eft_eval.judging.judges.base import Failure, Outcome
from eft_eval.judging.settings import OPENAI_URL, JudgeSettings

if TYPE_CHECKING:
    import openai

__all__ = [
    "MOST_BYTES",
    "Redirected",
    "TooLarge",
    "explain",
    "make_blocking_client",
    "make_client",
    "masked",
    "without_secrets",
]

_CONNECT_SECONDS = 10.0
_LONGEST_ERROR = 300
_LEAST_SECRET = 8  # shorter keys (EMPTY, ollama) are words, and no secrets
MOST_BYTES = 16 * 2**20
"""The largest answer that is read; replies have kilobytes."""


class Redirected(ConfigError):
    """An endpoint sends requests on to somebody else."""


class TooLarge(ConfigError):
    """An answer is larger than any reply."""


def make_client(settings: JudgeSettings) -> openai.AsyncOpenAI:
    """Return a client that tries nothing twice."""
    import openai

    timeout = settings.timeout_s

    async def look(response: Any) -> None:
        _check(response)

    return openai.AsyncOpenAI(
        api_key=settings.api_key,
        base_url=settings.base_url or OPENAI_URL,
        max_retries=0,
        timeout=openai.Timeout(timeout, connect=min(_CONNECT_SECONDS, timeout)),
        http_client=openai.DefaultAsyncHttpxClient(
            verify=_trust(settings.base_url or OPENAI_URL), event_hooks={"response": [look]}
        ),
    )


def make_blocking_client(
    settings: JudgeSettings, timeout_s: float, *, retries: int = 0, most_bytes: int | None = None
) -> openai.OpenAI:
    """Return a client for single calls beside the asking.

    Args:
        settings: The judge.
        timeout_s: Of one try.
        retries: How often a try is repeated.
        most_bytes: The largest answer; by default that of a reply.
    """
    import openai

    def look(response: Any) -> None:
        _check(response, most_bytes or MOST_BYTES)

    return openai.OpenAI(
        api_key=settings.api_key,
        base_url=settings.base_url or OPENAI_URL,
        max_retries=retries,
        timeout=timeout_s,
        http_client=openai.DefaultHttpxClient(
            verify=_trust(settings.base_url or OPENAI_URL), event_hooks={"response": [look]}
        ),
    )


def _check(response: Any, most_bytes: int = MOST_BYTES) -> None:
    """Refuse an answer before its body is read, or its redirect followed."""
    asked = urlsplit(str(response.request.url))
    given = response.headers.get("location")
    if given is not None and 300 <= response.status_code < 400:
        target = urlsplit(urljoin(asked.geturl(), given))
        stays = target.hostname == asked.hostname and target.port == asked.port
        upgraded = target.hostname == asked.hostname and target.scheme == "https"
        if not (upgraded or (stays and target.scheme == asked.scheme)):
            raise Redirected(
                f"the endpoint sends requests on to {target.scheme}://{target.hostname}, which is "
                "not followed: prompts and key go to the address that was given alone"
            )
    size = response.headers.get("content-length", "")
    if size.isdecimal() and int(size) > most_bytes:
        raise TooLarge(f"the answer has {int(size):,} bytes; at most {most_bytes:,} are read")


def _trust(base_url: str) -> Any:
    """Return what certificates are checked against: by default what the system trusts.

    Reading that takes a while at every client. Plain HTTP needs none, and then none is trusted.
    """
    addresses = (base_url, *getproxies().values())
    secured = any(urlsplit(address).scheme == "https" for address in addresses)
    return True if secured else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def explain(error: Exception, settings: JudgeSettings) -> str:
    """Return one line on a client's error, without key, user and password."""
    import openai

    text = str(error)
    if isinstance(error, openai.APIConnectionError) and error.__cause__ is not None:
        text = f"{text} {error.__cause__}"
    text = " ".join(text.split()).replace(settings.api_key or "\n", "***")
    return masked(text, settings)[:_LONGEST_ERROR] or type(error).__name__


def masked(text: str, settings: JudgeSettings) -> str:
    """Return a text without key, user and password, however an endpoint may echo them."""
    parts = urlsplit(settings.base_url or "")
    userinfo = parts.netloc.rpartition("@")[0]
    text = text.replace(f"{userinfo}@", "***@") if userinfo else text
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    basic = base64.b64encode(f"{user}:{password}".encode()).decode() if userinfo else ""
    key = settings.api_key or ""
    known = {parts.password, password, parts.username, user, basic.rstrip("=")}
    if len(key) >= _LEAST_SECRET:
        known |= {key, quote(key, safe=""), base64.b64encode(key.encode()).decode().rstrip("=")}
    for secret in sorted({one for one in known if one}, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def without_secrets(outcome: Outcome, settings: JudgeSettings) -> Outcome:
    """Return an outcome in whose words no secret stands that the endpoint echoed."""

    def clean(text: str | None) -> str | None:
        return None if text is None else masked(text, settings)

    if isinstance(outcome, Failure):
        return replace(outcome, error=masked(outcome.error, settings))
    return replace(
        outcome,
        text=clean(outcome.text),
        finish_reason=clean(outcome.finish_reason),
        refusal=clean(outcome.refusal),
        model=clean(outcome.model),
    )
