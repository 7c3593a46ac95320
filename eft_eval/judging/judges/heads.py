"""An endpoint's answer, and what is refused of one before its body is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit

from eft_eval.errors import ConfigError

__all__ = ["MOST_BYTES", "Answer", "Redirected", "TooLarge", "check_head"]

MOST_BYTES = 16 * 2**20
"""The largest answer that is read; replies have kilobytes."""
_MOST_ERROR_BYTES = 2**20
_PACKED = 100  # what is compressed may grow by as much, and more


class Redirected(ConfigError):
    """An endpoint sends requests on to somebody else."""


class TooLarge(ConfigError):
    """An answer is larger than any reply, or than any error."""

    def __init__(self, message: str, *, is_error: bool = False) -> None:
        super().__init__(message)
        self.is_error = is_error

    @classmethod
    def beyond(cls, most: int, status: int) -> TooLarge:
        """Return the error for an answer that did not end before its limit."""
        return cls(f"the answer has more than {most:,} bytes", is_error=status >= 400)


class Answer(NamedTuple):
    """What came back from a request: status, headers and the whole body."""

    status: int
    headers: Mapping[str, str]
    content: bytes


def check_head(
    url: str, method: str, status: int, headers: Mapping[str, str], most_bytes: int = MOST_BYTES
) -> int:
    """Refuse an answer before its body is read, or its redirect followed.

    Args:
        url: What was asked.
        method: How.
        status: The answer's status.
        headers: The answer's headers.
        most_bytes: The largest answer that is read.

    Returns:
        How many bytes of its body are read at most.

    Raises:
        Redirected: What is asked for is elsewhere.
        TooLarge: It says itself that it is too large.
    """
    given = headers.get("location")
    if given is not None and 300 <= status < 400:
        try:
            _refuse_redirect(url, urljoin(url, given), method, status)
        except ValueError:
            raise Redirected("the endpoint sends requests on to what is no address") from None
    most = min(most_bytes, _MOST_ERROR_BYTES) if status >= 400 else most_bytes
    if headers.get("content-encoding", "identity") != "identity":
        most //= _PACKED
    size = headers.get("content-length", "")
    if size.isdecimal() and int(size) > most:
        told = f"the answer has {int(size):,} bytes; at most {most:,} are read"
        raise TooLarge(told, is_error=status >= 400)
    return most


def _refuse_redirect(url: str, to: str, method: str, status: int) -> None:
    asked, target = urlsplit(url), urlsplit(to)
    stays = target.hostname == asked.hostname and target.port == asked.port
    upgraded = target.hostname == asked.hostname and target.scheme == "https"
    if not (upgraded or (stays and target.scheme == asked.scheme)):
        raise Redirected(
            f"the endpoint sends requests on to {target.scheme}://{target.hostname}, which is "
            "not followed: prompts and key go to the address that was given alone"
        )
    if method == "POST" and status not in (307, 308):
        # what follows such a redirect is a GET without the prompt
        raise Redirected(
            f"the endpoint has moved to {target.scheme}://{target.netloc.rpartition('@')[2]}"
            f"{target.path}; give the judge that address"
        )
