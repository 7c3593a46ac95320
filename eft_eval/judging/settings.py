"""Which judge to ask, where and how; read from the environment."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast, get_args
from urllib.parse import urlsplit, urlunsplit

from eft_eval.errors import ConfigError

__all__ = ["DEFAULT_MODEL", "OPENAI_URL", "JudgeKind", "JudgeSettings", "kind_of", "parameters_for"]

DEFAULT_MODEL = "gpt-4.1-2025-04-14"
"""The last of the GPT-4 family; the paper's own judge, gpt-4-0314, is shut down."""

OPENAI_URL = "https://api.openai.com/v1"

JudgeKind = Literal["endpoint", "hf", "scripted"]
"""``hf:MODEL`` runs in this process with transformers, ``scripted:FILE`` follows written rules."""

Structured = Literal["auto", "on", "off"]

# The client insists on some key; local endpoints ignore it.
_PLACEHOLDER_KEY = "no-key"
_REASONING = re.compile(r"(o[1-9]|gpt-([5-9]|[12][0-9]))(?![0-9])")
_TAKES_SCHEMA = re.compile(r"(o[1-9]|gpt-(4o|4\.[1-9]|([5-9]|[12][0-9])(?![0-9])))")
_TAKES_NO_SCHEMA = ("gpt-4o-2024-05-13", "o1-mini", "o1-preview")
_SAMPLED_BYTES = 1 << 20


@dataclass(frozen=True)
class JudgeSettings:
    """Which judge to ask, and how patiently.

    Attributes:
        model: The judge's name, as its endpoint knows it; ``hf:MODEL`` or ``scripted:FILE``.
        base_url: Of an OpenAI-compatible endpoint; None is OpenAI itself.
        api_key: Sent as the bearer token; never shown.
        concurrency: Requests in flight at once, at most; at least 1. For ``hf:``, the batch.
        max_retries: Of one request, on 408, 409, 429, 5xx, lost connections and replies that are
            no chat completion.
        timeout_s: Of one try from first to last byte, in seconds.
        max_tokens: Of one reply; hidden reasoning counts.
        structured: Whether to ask for JSON: ``auto`` where the endpoint is known to have it.

    Raises:
        ConfigError: A value is out of its range.
    """

    model: str
    base_url: str | None
    api_key: str = field(repr=False)
    concurrency: int = 32
    max_retries: int = 6
    timeout_s: float = 120
    max_tokens: int = 2048
    structured: Structured = "auto"

    def __post_init__(self) -> None:
        if not self.model or self.model.endswith(":"):
            raise ConfigError(
                f"the judge {self.model!r} lacks a name; set EFT_JUDGE_MODEL or --judge to a "
                "model at the endpoint, hf:MODEL or scripted:FILE"
            )
        if not re.fullmatch(r"[!-~]+", self.api_key):
            # Such a key cannot be a header, and the error for it would show the key.
            raise ConfigError("OPENAI_API_KEY is empty or holds characters that no key has")
        if self.base_url is not None and not _is_http(self.base_url):
            # The address is not repeated here: it may hold a password.
            raise ConfigError("the judge's base URL must look like http://host:port/v1")
        if self.base_url is not None and any(mark in self.base_url for mark in "?#"):
            raise ConfigError(
                "the judge's base URL (EFT_JUDGE_BASE_URL) has a query or fragment, from ? or # "
                "on, which would be lost; give the address alone, such as http://host:port/v1"
            )
        for name, least in (("concurrency", 1), ("max_retries", 0), ("max_tokens", 1)):
            if getattr(self, name) < least:
                raise ConfigError(
                    f"the judge's {name} is {getattr(self, name)}; it must be at least {least}"
                )
        if not self.timeout_s > 0:
            raise ConfigError(f"the judge's timeout_s is {self.timeout_s}; it must be above 0")
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
        ``EFT_JUDGE_CONCURRENCY``, ``EFT_JUDGE_MAX_TOKENS``, ``EFT_JUDGE_TIMEOUT`` (seconds) and
        ``EFT_JUDGE_STRUCTURED``.

        Args:
            env: The variables.
            judge: The judge's name in place of ``EFT_JUDGE_MODEL``.

        Raises:
            ConfigError: There is neither a key nor a base URL for a judge that needs one, or a
                value is wrong.
        """
        known = {name: value.strip() for name, value in env.items() if value.strip()}
        base_url = known.get("EFT_JUDGE_BASE_URL") or known.get("OPENAI_BASE_URL")
        model = judge.strip() if judge is not None else known.get("EFT_JUDGE_MODEL", DEFAULT_MODEL)
        own = base_url is not None or kind_of(model) != "endpoint"
        key = known.get("OPENAI_API_KEY") or (_PLACEHOLDER_KEY if own else None)
        if key is None:
            raise ConfigError(
                "no judge to ask: set OPENAI_API_KEY; or set EFT_JUDGE_BASE_URL (and "
                "EFT_JUDGE_MODEL) to any OpenAI-compatible endpoint; or EFT_JUDGE_MODEL=hf:MODEL "
                "for a judge in this process; or run with --predict_only and judge later with "
                "`eft-eval judge RUN_DIR`"
            )
        return cls(
            model=model,
            base_url=base_url,
            api_key=key,
            concurrency=_whole(known, "EFT_JUDGE_CONCURRENCY", cls.concurrency),
            max_tokens=_whole(known, "EFT_JUDGE_MAX_TOKENS", cls.max_tokens),
            timeout_s=_whole(known, "EFT_JUDGE_TIMEOUT", int(cls.timeout_s)),
            structured=cast(Structured, known.get("EFT_JUDGE_STRUCTURED", "auto").lower()),
        )

    @property
    def kind(self) -> JudgeKind:
        """How the judge is asked, told from its name."""
        return kind_of(self.model)

    @property
    def endpoint(self) -> str:
        """The endpoint's address for people: without user, password and query."""
        if self.kind != "endpoint":
            return "this process"
        parts = urlsplit(self.base_url or OPENAI_URL)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))

    @property
    def is_openai(self) -> bool:
        """Whether the endpoint is OpenAI's own, whose ways are known."""
        return urlsplit(self.base_url or OPENAI_URL).hostname == urlsplit(OPENAI_URL).hostname

    @property
    def asks_for_json(self) -> bool:
        """Whether requests carry a JSON schema."""
        if self.kind != "endpoint" or self.structured == "off":
            return False
        return self.structured == "on" or (self.is_openai and _takes_schema(self.model))


def kind_of(model: str) -> JudgeKind:
    """Return how a judge of this name is asked."""
    prefix = model.partition(":")[0]
    return cast(JudgeKind, prefix) if prefix in ("hf", "scripted") else "endpoint"


def parameters_for(model: str, max_tokens: int) -> dict[str, Any]:
    """Return the sampling parameters that a model of this kind is asked with.

    Reasoning models (o1, o3-mini, gpt-5 and later, by name) refuse a temperature and count their
    tokens in ``max_completion_tokens``; others at an endpoint are asked at temperature 0.
    ``hf:`` models decode greedily; a local folder's fingerprint is among the parameters, as are
    the rules' hash for ``scripted:``, because there a name does not tell what answers.

    Raises:
        ConfigError: A script cannot be read.
    """
    kind, name = kind_of(model), model.partition(":")[2]
    if kind == "scripted":
        return {"script_sha256": _file_hash(Path(name))}
    if kind == "hf":
        local = {"model_files": _fingerprint(Path(name))} if Path(name).is_dir() else {}
        return {"do_sample": False, "max_new_tokens": max_tokens, **local}
    if _REASONING.match(_family(model)):
        return {"max_completion_tokens": max_tokens}
    return {"temperature": 0, "max_tokens": max_tokens}


def _family(model: str) -> str:
    return model.lower().removeprefix("ft:").rpartition("/")[2]


def _takes_schema(model: str) -> bool:
    name = _family(model)
    return bool(_TAKES_SCHEMA.match(name)) and not name.startswith(_TAKES_NO_SCHEMA)


def _file_hash(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigError(f"cannot read the judge's script {path}: {error}") from error


def _fingerprint(folder: Path) -> str:
    """Return a hash of a model folder: names and sizes, and both ends of every file.

    Reading gigabytes of weights whole would take longer than judging with them.
    """
    digest = hashlib.sha256()
    try:
        for path in sorted(path for path in folder.iterdir() if path.is_file()):
            size = path.stat().st_size
            digest.update(f"{path.name}\0{size}\0".encode())
            with path.open("rb") as file:
                digest.update(file.read(_SAMPLED_BYTES))
                file.seek(max(0, size - _SAMPLED_BYTES))
                digest.update(file.read(_SAMPLED_BYTES))
    except OSError as error:
        raise ConfigError(f"cannot read the judge's model folder {folder}: {error}") from error
    return digest.hexdigest()


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
