"""Requests straight to an endpoint, each once, with no proxy between."""

from __future__ import annotations

import asyncio
import base64
import zlib
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

from eft_eval.judging.judges.heads import MOST_BYTES, Answer, TooLarge, check_head

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

    import aiohttp

__all__ = ["AnswerLost", "ConnectFailed", "Direct"]

_MOST_REDIRECTS = 5
_ANY_OF_ZLIB = 47  # gzip or deflate, told by its beginning
_MOST_HEADER_BYTES = 2**16  # gateways send long ones; the library's own limit is 8 KB


class ConnectFailed(Exception):
    """Nobody answers at the address."""


class AnswerLost(Exception):
    """The connection ended before the answer did."""


class Direct:
    """Sends requests to one address over connections that are kept.

    Args:
        url: The address; a user and password in it are sent as such, in place of a key.
        headers: Of each request.
        trusted: The certificates that are trusted.
        connect_s: How long a connection may take to be made.
    """

    def __init__(
        self, url: str, headers: Mapping[str, str], trusted: ssl.SSLContext, connect_s: float
    ) -> None:
        parts = urlsplit(url)
        self._url = _without_user(url)
        self._headers = {**headers, "Accept-Encoding": "identity"}
        self._user = (unquote(parts.username or ""), unquote(parts.password or ""))
        self._trusted = trusted
        self._connect_s = connect_s
        self._session: aiohttp.ClientSession | None = None

    async def send(self, content: bytes) -> Answer:
        """Send a request and return its whole answer.

        Raises:
            TooLarge: The answer is larger than any reply.
            Redirected: It is at another host.
            ConnectFailed: Nobody answers.
            AnswerLost: The answer did not end.
            asyncio.TimeoutError: No connection was made in time.
        """
        import aiohttp

        session = self._session = self._session or self._open()
        try:
            url = self._url
            for _ in range(_MOST_REDIRECTS):
                async with session.post(url, data=content, allow_redirects=False) as response:
                    answer = await _answer(url, response)
                if answer.status not in (307, 308) or "location" not in answer.headers:
                    return answer
                url = _without_user(urljoin(url, answer.headers["location"]))
            raise AnswerLost(f"more than {_MOST_REDIRECTS} redirects")
        except asyncio.TimeoutError:
            raise
        except aiohttp.ClientConnectorError as error:
            raise ConnectFailed(_words(error)) from error
        except (aiohttp.ClientError, OSError, zlib.error) as error:
            raise AnswerLost(_words(error)) from error

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        import aiohttp

        headers = dict(self._headers)
        if any(self._user):
            pair = base64.b64encode(":".join(self._user).encode()).decode()
            headers["Authorization"] = f"Basic {pair}"
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=self._trusted),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._connect_s),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=headers,
            auto_decompress=False,
            max_line_size=_MOST_HEADER_BYTES,
            max_field_size=_MOST_HEADER_BYTES,
        )


async def _answer(url: str, response: Any) -> Answer:
    most = check_head(url, "POST", response.status, response.headers)
    packed = response.headers.get("content-encoding", "").lower() in ("gzip", "deflate")
    unpack = zlib.decompressobj(_ANY_OF_ZLIB) if packed else None
    content, size = bytearray(), 0
    async for part in response.content.iter_any():
        size += len(part)
        content += part if unpack is None else unpack.decompress(part, MOST_BYTES + 1)
        if size > most or len(content) > MOST_BYTES:
            raise TooLarge.beyond(most if size > most else MOST_BYTES, response.status)
    return Answer(response.status, response.headers, bytes(content))


def _without_user(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__
