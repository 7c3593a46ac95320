"""Which judge to ask, where and how; read from the environment.

What follows from a judge's kind is the kind's own affair, see `eft_eval.judging.judges`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, cast, get_args
from urllib.parse import urlsplit

from eft_eval.errors import ConfigError

__all__ = ["DEFAULT_MODEL", "OPENAI_URL", "JudgeSettings"]

DEFAULT_MODEL = "gpt-4.1-2025-04-14"
"""The last of the GPT-4 family; the paper's own judge, gpt-4-0314, is shut down."""

OPENAI_URL = "https://api.openai.com/v1"

Structured = Literal["auto", "on", "off"]

_PARAMS_LIKE = 'it must be a JSON object, such as {"temperature": null, "seed": 1}'
_SET_ELSEWHERE = {
    "model": "the model is EFT_JUDGE_MODEL or --judge",
    "messages": "what is asked is the judge prompt's",
    "max_tokens": "the limit is EFT_JUDGE_MAX_TOKENS",
    "max_completion_tokens": "the limit is EFT_JUDGE_MAX_TOKENS",
    "response_format": "JSON is asked for by EFT_JUDGE_STRUCTURED",
    "stream": "replies are read whole",
    "n": "one reply is read; `eft-eval judge --repeat` asks again",
    "stop": "a reply that is stopped is not whole",
    "tools": "a tool call is no verdict",
}
# The client insists on some key; local endpoints ignore it.
_PLACEHOLDER_KEY = "no-key"
_AT_ADDRESS = re.compile(r"(?P<name>.*?)@(?P<address>https?://.*)", re.DOTALL)
_IN_PROCESS = ("hf:", "scripted:")  # where an @ is theirs
_KEYS_LIKE = 'it must be a JSON object from hosts to keys, such as {"api.mistral.ai": "KEY"}'


@dataclass(frozen=True)
class JudgeSettings:
    """Which judge to ask, and how patiently.

    Attributes:
        model: The judge's name, as its endpoint knows it; or ``hf:MODEL``, ``scripted:FILE``, or
            another prefix that the registry knows.
        base_url: Of an OpenAI-compatible endpoint, kept without a slash at its end and without
            ``/chat/completions``; None is OpenAI itself.
        api_key: Sent as the bearer token; never shown. None for a judge that is asked without.
        concurrency: Requests in flight at once, at most; at least 1. For ``hf:``, the batch.
        max_retries: Of one request, on 408, 409, 429, 5xx, lost connections and replies that are
            no chat completion.
        timeout_s: Of one try from first to last byte, in seconds.
        max_wait_s: Longest silence of an endpoint, in seconds, over all requests and judge prompts
            of a process; after that nothing more is sent.
        max_tokens: Of one reply; hidden reasoning counts.
        structured: Whether to ask for JSON: ``auto`` where the endpoint is known to have it.
        params: Fields of a chat request beside what is sent by default, or in place of it; None
            leaves a field out. A part of the verdict's key.
        address_from: Where people set the address, for messages.
        key_from: Where people set the key, for messages.
        placement: Where the weights of an ``hf:`` judge go, as in a recipe; None is the first GPU
            where there is one, else the CPU.

    Raises:
        ConfigError: A value is out of its range.
    """

    model: str
    base_url: str | None
    api_key: str | None = field(repr=False)
    concurrency: int = 32
    max_retries: int = 6
    timeout_s: float = 120
    max_wait_s: float = 600
    max_tokens: int = 2048
    structured: Structured = "auto"
    placement: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    address_from: str = "EFT_JUDGE_BASE_URL"
    key_from: str = "OPENAI_API_KEY"

    def __post_init__(self) -> None:
        if not self.model or self.model.endswith(":"):
            raise ConfigError(
                f"the judge {self.model!r} lacks a name; set EFT_JUDGE_MODEL or --judge to a "
                "model at the endpoint, hf:MODEL or scripted:FILE"
            )
        if self.api_key is not None and not re.fullmatch(r"[!-~]+", self.api_key):
            # Such a key cannot be a header, and the error for it would show the key.
            raise ConfigError(f"{self.key_from} is empty or holds characters that no key has")
        if self.base_url is not None:
            object.__setattr__(self, "base_url", _as_base(self.base_url))
        if self.base_url is not None and not _is_http(self.base_url):
            # The address is not repeated here: it may hold a password.
            raise ConfigError("the judge's base URL must look like http://host:port/v1")
        if self.base_url is not None and any(mark in self.base_url for mark in "?#"):
            raise ConfigError(
                f"the judge's base URL ({self.address_from}) has a query or fragment, from ? or # "
                "on, which would be lost; give the address alone, such as http://host:port/v1"
            )
        for name, least in (("concurrency", 1), ("max_retries", 0), ("max_tokens", 1)):
            if getattr(self, name) < least:
                raise ConfigError(
                    f"the judge's {name} is {getattr(self, name)}; it must be at least {least}"
                )
        for name in ("timeout_s", "max_wait_s"):
            if not getattr(self, name) > 0:
                raise ConfigError(
                    f"the judge's {name} is {getattr(self, name)}; it must be above 0"
                )
        _check_params(self.params)
        if self.structured not in get_args(Structured):
            raise ConfigError(
                f"EFT_JUDGE_STRUCTURED is {self.structured!r}; it must be "
                f"{', '.join(get_args(Structured))}"
            )

    @classmethod
    def from_environment(
        cls, env: Mapping[str, str] = os.environ, *, judge: str | None = None
    ) -> JudgeSettings:
        """Read the settings from environment variables; an empty one counts as unset.

        ``EFT_JUDGE_MODEL``, ``EFT_JUDGE_BASE_URL`` (else ``OPENAI_BASE_URL``), ``OPENAI_API_KEY``,
        ``EFT_JUDGE_KEYS`` (JSON), ``EFT_JUDGE_CONCURRENCY``, ``EFT_JUDGE_MAX_TOKENS``,
        ``EFT_JUDGE_TIMEOUT`` and ``EFT_JUDGE_MAX_WAIT`` (seconds), ``EFT_JUDGE_STRUCTURED``,
        ``EFT_JUDGE_PARAMS`` (JSON) and ``EFT_JUDGE_PLACEMENT``.

        ``NAME@URL`` names a model at an endpoint of its own. A key goes to its own host alone:
        those of ``EFT_JUDGE_KEYS`` to the hosts that they are given for, ``OPENAI_API_KEY`` to
        OpenAI and to the host of the base URL.

        Args:
            env: The variables.
            judge: The judge's name in place of ``EFT_JUDGE_MODEL``.

        Raises:
            ConfigError: A value is wrong.
        """
        known = {name: value.strip() for name, value in env.items() if value.strip()}
        base_url = known.get("EFT_JUDGE_BASE_URL") or known.get("OPENAI_BASE_URL")
        name = judge.strip() if judge is not None else known.get("EFT_JUDGE_MODEL", DEFAULT_MODEL)
        model, address = _at_address(name)
        key, key_from = _key_for(address or base_url, base_url, known)
        return cls(
            model=model,
            base_url=address or base_url,
            api_key=key,
            concurrency=_whole(known, "EFT_JUDGE_CONCURRENCY", cls.concurrency),
            max_tokens=_whole(known, "EFT_JUDGE_MAX_TOKENS", cls.max_tokens),
            timeout_s=_whole(known, "EFT_JUDGE_TIMEOUT", int(cls.timeout_s)),
            max_wait_s=_whole(known, "EFT_JUDGE_MAX_WAIT", int(cls.max_wait_s)),
            structured=cast(Structured, known.get("EFT_JUDGE_STRUCTURED", "auto").lower()),
            placement=known.get("EFT_JUDGE_PLACEMENT"),
            params=_params(known.get("EFT_JUDGE_PARAMS", "{}")),
            address_from=cls.address_from if address is None else "the URL of NAME@URL",
            key_from=key_from,
        )


def _at_address(judge: str) -> tuple[str, str | None]:
    """Return a judge's name, and the address where it is, if that stands behind it.

    Raises:
        ConfigError: The address holds a password.
    """
    found = None if judge.startswith(_IN_PROCESS) else _AT_ADDRESS.fullmatch(judge)
    if found is None:
        return judge, None
    name, address = found["name"].strip(), found["address"]
    if "@" in address.partition("://")[2].partition("/")[0]:
        # The address is not repeated here: it may hold a password.
        raise ConfigError(
            f"the address behind the judge {name!r} has a user, which others see on the command "
            "line and in files; give a key by EFT_JUDGE_KEYS, or the address by EFT_JUDGE_BASE_URL"
        )
    return name, address


def _key_for(
    address: str | None, base_url: str | None, known: Mapping[str, str]
) -> tuple[str | None, str]:
    """Return the key for an address (None is OpenAI's), and the variable that it is from."""
    keys = _keys(known.get("EFT_JUDGE_KEYS", "{}"))
    place = _place(address or OPENAI_URL)
    own = keys.get(f"{place.host}:{place.port}", keys.get(place.host))
    if own is not None:
        return own, "EFT_JUDGE_KEYS"
    meant = address == base_url or place in (_place(OPENAI_URL), _place(base_url or ""))
    key = known.get("OPENAI_API_KEY") if meant else None
    source = "OPENAI_API_KEY" if meant else "EFT_JUDGE_KEYS"
    return key or (None if address is None else _PLACEHOLDER_KEY), source


class _Place(NamedTuple):
    scheme: str
    host: str
    port: int


def _place(url: str) -> _Place:
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        return _Place(parts.scheme, parts.hostname or "", port)
    except ValueError:  # such an address is refused later
        return _Place("", "", 0)


def _keys(text: str) -> dict[str, str]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    texts = isinstance(found, dict) and all(isinstance(one, str) for one in found.values())
    if not texts:
        raise ConfigError(f"EFT_JUDGE_KEYS cannot be read (it is not shown); {_KEYS_LIKE}")
    if not all(re.fullmatch(r"[A-Za-z0-9.:\[\]_-]+", host) for host in found):
        # what is in a host's place may be a key
        raise ConfigError(f"EFT_JUDGE_KEYS has a name that is no host (not shown); {_KEYS_LIKE}")
    return {re.sub(r"[\[\]]", "", host.lower()): key for host, key in found.items()}


def _as_base(url: str) -> str:
    """Return an address without what requests add to it: people copy it with that."""
    return url.rstrip("/").removesuffix("/chat/completions").rstrip("/")


def _params(text: str) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError("a name is there twice")
        return found

    def no_number(word: str) -> Any:
        raise ValueError(f"{word} is no JSON")

    try:
        found = json.loads(text, object_pairs_hook=unique, parse_constant=no_number)
        json.dumps(found, allow_nan=False)  # 1e999 is JSON, and no number that could be sent
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"EFT_JUDGE_PARAMS is {text[:80]!r}: {error}; {_PARAMS_LIKE}") from error
    if not isinstance(found, dict):
        raise ConfigError(f"EFT_JUDGE_PARAMS is {text[:80]!r}; {_PARAMS_LIKE}")
    return found


def _check_params(params: Mapping[str, Any]) -> None:
    """Refuse fields that are set elsewhere, or would change what a reply is."""
    for name, value in params.items():
        if name in _SET_ELSEWHERE and value is not None:
            raise ConfigError(f"EFT_JUDGE_PARAMS has {name!r}: {_SET_ELSEWHERE[name]}")
        if name in ("model", "messages"):
            raise ConfigError(f"EFT_JUDGE_PARAMS leaves out {name!r}, which every request has")


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises where it is no number
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def _whole(known: Mapping[str, str], name: str, default: int) -> int:
    text = known.get(name, str(default))
    if not re.fullmatch(r"[0-9]{1,6}", text) or int(text) < 1:
        raise ConfigError(f"{name} is {text!r}; it must be a whole number above 0")
    return int(text)
