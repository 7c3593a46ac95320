"""Which judge to ask, where and how; read from the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from eft_eval.errors import ConfigError

__all__ = ["DEFAULT_MODEL", "OPENAI_URL", "JudgeSettings", "parameters_for"]

DEFAULT_MODEL = "gpt-4.1-2025-04-14"
"""The last of the GPT-4 family; the paper's own judge, gpt-4-0314, is shut down."""

OPENAI_URL = "https://api.openai.com/v1"

# The client insists on some key; local endpoints ignore it.
_PLACEHOLDER_KEY = "no-key"
_REASONING = re.compile(r"(o[1-9]|gpt-([5-9]|[12][0-9]))(?![0-9])")


@dataclass(frozen=True)
class JudgeSettings:
    """Which judge to ask, and how patiently.

    Attributes:
        model: The judge's name, as its endpoint knows it.
        base_url: Of an OpenAI-compatible endpoint; None is OpenAI itself.
        api_key: Sent as the bearer token; never shown.
        concurrency: Requests in flight at once, at least 1.
        max_retries: Of one request, on 408, 409, 429, 5xx and lost connections.
        timeout_s: Of one try, in seconds.
        max_tokens: Of one reply; hidden reasoning counts.

    Raises:
        ConfigError: A value is out of its range.
    """

    model: str
    base_url: str | None
    api_key: str = field(repr=False)
    concurrency: int = 16
    max_retries: int = 6
    timeout_s: float = 120
    max_tokens: int = 2048

    def __post_init__(self) -> None:
        if not self.model:
            raise ConfigError("the judge needs a model name; set EFT_JUDGE_MODEL")
        if not re.fullmatch(r"[!-~]+", self.api_key):
            # Such a key cannot be a header, and the error for it would show the key.
            raise ConfigError("OPENAI_API_KEY is empty or holds characters that no key has")
        if self.base_url is not None and not _is_http(self.base_url):
            # The address is not repeated here: it may hold a password.
            raise ConfigError("the judge's base URL must look like http://host:port/v1")
        for name, least in (("concurrency", 1), ("max_retries", 0), ("max_tokens", 1)):
            if getattr(self, name) < least:
                raise ConfigError(
                    f"the judge's {name} is {getattr(self, name)}; it must be at least {least}"
                )
        if not self.timeout_s > 0:
            raise ConfigError(f"the judge's timeout_s is {self.timeout_s}; it must be above 0")

    @classmethod
    def from_environment(cls, env: Mapping[str, str] = os.environ) -> JudgeSettings:
        """Read the settings from environment variables; an empty one counts as unset.

        ``EFT_JUDGE_MODEL``, ``EFT_JUDGE_BASE_URL`` (else ``OPENAI_BASE_URL``), ``OPENAI_API_KEY``
        and ``EFT_JUDGE_CONCURRENCY``.

        Raises:
            ConfigError: There is neither a key nor a base URL, or a value is wrong.
        """
        known = {name: value.strip() for name, value in env.items() if value.strip()}
        base_url = known.get("EFT_JUDGE_BASE_URL") or known.get("OPENAI_BASE_URL")
        key = known.get("OPENAI_API_KEY") or (_PLACEHOLDER_KEY if base_url else None)
        if key is None:
            raise ConfigError(
                "no judge to ask: set OPENAI_API_KEY; or set EFT_JUDGE_BASE_URL (and "
                "EFT_JUDGE_MODEL) to any OpenAI-compatible endpoint; or run with --predict_only "
                "and judge later with `eft-eval judge RUN_DIR`"
            )
        return cls(
            model=known.get("EFT_JUDGE_MODEL", DEFAULT_MODEL),
            base_url=base_url,
            api_key=key,
            concurrency=_concurrency(known.get("EFT_JUDGE_CONCURRENCY", "16")),
        )

    @property
    def endpoint(self) -> str:
        """The endpoint's address for people: without user, password and query."""
        parts = urlsplit(self.base_url or OPENAI_URL)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def parameters_for(model: str, max_tokens: int) -> dict[str, Any]:
    """Return the sampling parameters that a model of this kind accepts.

    Reasoning models (o1, o3-mini, gpt-5 and later, by name) refuse a temperature and count their
    tokens in ``max_completion_tokens``; all others are asked at temperature 0.
    """
    name = model.lower().removeprefix("ft:").rpartition("/")[2]
    if _REASONING.match(name):
        return {"max_completion_tokens": max_tokens}
    return {"temperature": 0, "max_tokens": max_tokens}


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises where it is no number
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def _concurrency(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,6}", text) or int(text) < 1:
        raise ConfigError(f"EFT_JUDGE_CONCURRENCY is {text!r}; it must be a whole number above 0")
    return int(text)
