"""One request to an OpenAI-compatible endpoint: the client, and its errors in one line."""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from eft_eval.errors import ConfigError
from eft_eval.judging.judges.base import Failure, Outcome
from eft_eval.judging.judges.direct import Direct
from eft_eval.judging.judges.endpoint_errors import read_error
from eft_eval.judging.judges.heads import MOST_BYTES, Answer, TooLarge, check_head
from eft_eval.judging.settings import OPENAI_URL, JudgeSettings
from eft_eval.secrets import secrets_of, without_credentials, without_values

if TYPE_CHECKING:
    import openai

__all__ = [
    "Chat",
    "explain",
    "http_library",
    "make_blocking_client",
    "mask",
    "proxy_for",
    "without_echo",
]

_CONNECT_SECONDS = 10.0
_LONGEST_ERROR = 300


class Chat:
    """Sends chat requests, each once, with the openai client's headers.

    Through a proxy with the client's HTTP library, else with one that takes half of its time.

    Args:
        settings: The judge.

    Raises:
        ConfigError: A proxy's address in the environment cannot be used.
    """

    def __init__(self, settings: JudgeSettings) -> None:
        import openai

        timeout = settings.timeout_s

        async def look(response: Any) -> None:
            _check(response)

        connect = min(_CONNECT_SECONDS, timeout)
        self._timeout = openai.Timeout(timeout, connect=connect)
        url = settings.base_url or OPENAI_URL
        trusted = _trust(url)
        if trusted is True:  # read once, not by every client
            trusted = http_library().create_ssl_context()
        self._new = functools.partial(
            openai.DefaultAsyncHttpxClient, verify=trusted, event_hooks={"response": [look]}
        )
        with _explained_proxies():
            first = self._new()
        # a client for each request under way: one client for all looks at all its connections
        # with every request, which takes longer than all else
        self._clients, self._idle = [first], [first]
        client = openai.AsyncOpenAI(
            api_key=settings.api_key, base_url=url, max_retries=0, http_client=first
        )
        given = {**client.auth_headers, **client.default_headers}
        self._headers = {name: text for name, text in given.items() if isinstance(text, str)}
        self._url = f"{str(client.base_url).rstrip('/')}/chat/completions"
        proxied = proxy_for(url) is not None
        self._direct = None if proxied else Direct(self._url, self._headers, trusted, connect)

    async def send(self, body: Mapping[str, Any]) -> Answer:
        """Send a request and return its whole answer.

        Raises:
            TooLarge: The answer is larger than any reply.
            Redirected: It comes from somewhere else.
            UnicodeError: The body holds half a character, which has no UTF-8.
            ConnectFailed: Nobody answers.
            AnswerLost: The answer did not end.
            Exception: An error of the HTTP library, see `http_library`.
        """
        sent = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
        if self._direct is not None:
            return await self._direct.send(sent)
        content = bytearray()
        if not self._idle:
            self._idle.append(self._new())
            self._clients.append(self._idle[-1])
        http = self._idle.pop()
        try:
            async with http.stream(
                "POST", self._url, content=sent, headers=self._headers, timeout=self._timeout
            ) as response:
                async for part in response.aiter_bytes():
                    content += part
                    if len(content) > MOST_BYTES:
                        raise TooLarge.beyond(MOST_BYTES, response.status_code)
                return Answer(response.status_code, response.headers, bytes(content))
        finally:
            self._idle.append(http)

    async def close(self) -> None:
        """Close the connections."""
        if self._direct is not None:
            await self._direct.close()
        for http in self._clients:
            await http.aclose()


@functools.cache
def http_library() -> Any:
    """Return the HTTP library that the openai client is built on: its exceptions are there."""
    import openai

    library = next(
        kind.__module__.partition(".")[0]
        for kind in openai.DefaultAsyncHttpxClient.__mro__
        if not kind.__module__.startswith("openai")
    )
    return importlib.import_module(library)


@contextlib.contextmanager
def _explained_proxies() -> Iterator[None]:
    """Turn what the HTTP library raises over a proxy's address into one line."""
    try:
        yield
    except (ValueError, ImportError) as error:
        why = without_credentials(" ".join(str(error).split()))
        named = ", ".join(sorted({f"{kind.upper()}_PROXY" for kind in getproxies()})) or "none"
        raise ConfigError(
            f"a proxy of the environment cannot be used ({why}); proxies are set by "
            f"{named}; an address looks like http://host:port"
        ) from error


def proxy_for(url: str) -> str | None:
    """Return the proxy through which an address is asked, without user and password."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    found = getproxies()
    proxy = found.get(parts.scheme) or found.get("all")
    if not proxy or proxy_bypass(host):
        return None
    at = urlsplit(proxy if "//" in proxy else f"//{proxy}")
    return at.netloc.rpartition("@")[2] or None


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

    with _explained_proxies():
        http = openai.DefaultHttpxClient(
            verify=_trust(settings.base_url or OPENAI_URL), event_hooks={"response": [look]}
        )
    return openai.OpenAI(
        api_key=settings.api_key,
        base_url=settings.base_url or OPENAI_URL,
        max_retries=retries,
        timeout=timeout_s,
        http_client=http,
    )


def _check(response: Any, most_bytes: int = MOST_BYTES) -> None:
    """Refuse an answer before its body is read, or its redirect followed."""
    asked = response.request
    status = response.status_code
    _bound(response, check_head(str(asked.url), asked.method, status, response.headers, most_bytes))


def _bound(response: Any, most: int) -> None:
    """Let an answer's body end with an error where it does not end by itself."""
    response.stream = _bounded_kind()(response, most)


@functools.cache
def _bounded_kind() -> Callable[[Any, int], Any]:
    """Return the class of such bodies, once the HTTP library is there."""
    library = http_library()

    class Bounded(library.AsyncByteStream, library.SyncByteStream):  # type: ignore[name-defined,misc]
        def __init__(self, response: Any, most: int) -> None:
            self._stream = response.stream
            self._most = self._left = most
            self._status = response.status_code

        def _take(self, part: bytes) -> bytes:
            self._left -= len(part)
            if self._left < 0:
                raise TooLarge.beyond(self._most, self._status)
            return part

        def __iter__(self) -> Iterator[bytes]:
            for part in self._stream:
                yield self._take(part)

        async def __aiter__(self) -> AsyncIterator[bytes]:
            async for part in self._stream:
                yield self._take(part)

        def close(self) -> None:
            self._stream.close()

        async def aclose(self) -> None:
            await self._stream.aclose()

    return Bounded


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
    if isinstance(error, openai.APIStatusError):
        read = read_error(error.response.text if error.body is None else error.body)
        text = f"HTTP status {error.status_code}: {read.words}"
    if isinstance(error, openai.APIConnectionError) and error.__cause__ is not None:
        text = f"{text} {error.__cause__}"
    lost = isinstance(error, (openai.APIConnectionError, http_library().TransportError))
    if lost and (proxy := proxy_for(settings.base_url or OPENAI_URL)):
        text = f"{text}, through the proxy {proxy}"
    # in an error, unlike in a reply, also a key that is a word is of no use
    text = " ".join(text.split()).replace(settings.api_key or "\n", "***")
    return without_credentials(mask(text, settings))[:_LONGEST_ERROR] or type(error).__name__


def mask(text: str, settings: JudgeSettings) -> str:
    """Return a text without key, user and password, however an endpoint may echo them."""
    return without_values(text, secrets_of(settings.base_url, settings.api_key))


def without_echo(outcome: Outcome, settings: JudgeSettings) -> Outcome:
    """Return an outcome in whose words no secret stands that the endpoint echoed."""

    def clean(text: str | None) -> str | None:
        return None if text is None else mask(text, settings)

    if isinstance(outcome, Failure):
        return replace(outcome, error=mask(outcome.error, settings))
    return replace(
        outcome,
        text=clean(outcome.text),
        finish_reason=clean(outcome.finish_reason),
        refusal=clean(outcome.refusal),
        model=clean(outcome.model),
    )
