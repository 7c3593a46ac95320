"""One request to an OpenAI-compatible endpoint: the client, and its errors in one line."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies

from eft_eval.judging.settings import OPENAI_URL, JudgeSettings

if TYPE_CHECKING:
    import openai

__all__ = ["explain", "make_client"]

_CONNECT_SECONDS = 10.0
_LONGEST_ERROR = 300


def make_client(settings: JudgeSettings) -> openai.AsyncOpenAI:
    """Return a client that tries nothing twice."""
    import openai

    base_url, timeout = settings.base_url or OPENAI_URL, settings.timeout_s
    return openai.AsyncOpenAI(
        api_key=settings.api_key,
        base_url=base_url,
        max_retries=0,
        timeout=openai.Timeout(timeout, connect=min(_CONNECT_SECONDS, timeout)),
        http_client=openai.DefaultAsyncHttpxClient(verify=_trust(base_url)),
    )


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
    parts = urlsplit(settings.base_url or "")
    text = text.replace(f"{parts.netloc.rpartition('@')[0]}@", "***@") if parts.username else text
    for secret in (parts.password, parts.username):
        for form in {secret, unquote(secret)} if secret else ():
            text = text.replace(form, "***")
    return text[:_LONGEST_ERROR] or type(error).__name__
