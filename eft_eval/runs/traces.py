"""The record of a token trace, and how it is read back from a file. Loads no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from eft_eval.errors import ConfigError
from eft_eval.files import json_kind
from eft_eval.records import read_record_file, restored

__all__ = [
    "TRACE_FILE",
    "MemberChoice",
    "Shift",
    "TokenTrace",
    "Trace",
    "read_trace",
    "read_traces",
]

TRACE_FILE = json_kind("trace", lambda content: {"composite", "draft", "tokens"} <= content.keys())


@dataclass(frozen=True)
class Shift:
    """A token and how the composite changed its probability against the draft's, -1 to 1."""

    token: str
    change: float


@dataclass(frozen=True)
class MemberChoice:
    """The token that one member alone finds most likely."""

    member: str
    token: str
    probability: float


@dataclass(frozen=True)
class TokenTrace:
    """One token of the response.

    Attributes:
        token: Its text.
        token_id: Its number.
        probability: Under the composite, 0 to 1, at temperature 1.
        draft_probability: Under the member that drafts (in up-scaling the tuned one).
        total_variation: Distance between composite and draft at this position, 0 to 1.
        entropy: Of the composite at this position, in nats.
        raised: Tokens that the composite makes likelier than the draft, most first.
        lowered: Tokens that it makes less likely, most first.
        choices: What each member alone would have said, and the composite.
    """

    token: str
    token_id: int
    probability: float
    draft_probability: float
    total_variation: float
    entropy: float
    raised: tuple[Shift, ...]
    lowered: tuple[Shift, ...]
    choices: tuple[MemberChoice, ...]


@dataclass(frozen=True)
class Trace:
    """A response, token by token.

    Attributes:
        composite: Canonical name.
        draft: Role of the member that the composite is compared with.
        prompt: What was asked.
        response: Its text.
        tokens: Its tokens.
    """

    composite: str
    draft: str
    prompt: str
    response: str
    tokens: tuple[TokenTrace, ...] = field(repr=False)

    def as_dict(self) -> dict[str, Any]:
        """Return the trace as plain JSON types."""
        return asdict(self)


def read_trace(path: Path) -> Trace:
    """Read a trace that ``eft-eval trace --json`` wrote.

    Raises:
        ConfigError: It cannot be read, is something else, or has no tokens.
    """
    content = read_record_file(path, "the JSON of `eft-eval trace --json`")
    found = restored(Trace, content, str(path))
    if not found.tokens:
        raise ConfigError(f"{path} has no tokens; trace a response of at least one token")
    return found


def read_traces(source: Path) -> list[Trace]:
    """Read a trace, or all traces in a folder by their names; other JSON files are passed over.

    Raises:
        ConfigError: A trace cannot be read, or there is none.
    """
    if not source.is_dir():
        return [read_trace(source)]
    found = [read_trace(path) for path in sorted(source.glob("*.json")) if _is_trace(path)]
    if not found:
        raise ConfigError(f"{source} holds no JSON of `eft-eval trace --json`")
    return found


def _is_trace(path: Path) -> bool:
    try:
        return TRACE_FILE.known(path)
    except (OSError, ValueError, RecursionError):
        return False
