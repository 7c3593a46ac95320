"""What comes back when a judge is asked: a reply, or a failure with who is to blame for it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

__all__ = ["Blame", "Failure", "Outcome", "Reply", "Sender", "read_completion"]

Blame = Literal["item", "endpoint", "key", "budget"]
"""``item``: this text only; ``endpoint``: perhaps all; ``key``, ``budget``: all that follow."""


@dataclass(frozen=True)
class Reply:
    """What the judge answered, unread.

    Attributes:
        text: The content, None where there is none.
        finish_reason: ``stop``, ``length``, ``content_filter``, or the endpoint's own word.
        refusal: The refusal field, where the endpoint has one.
        model: The model that the endpoint says answered.
        prompt_tokens: As the endpoint counted.
        completion_tokens: As the endpoint counted.
        structured: Whether JSON was asked for in place of text.
    """

    text: str | None
    finish_reason: str | None
    refusal: str | None = None
    model: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    structured: bool = False


@dataclass(frozen=True)
class Failure:
    """Why there is no reply, in one line without the key."""

    error: str
    blame: Blame = "endpoint"


Outcome = Reply | Failure


class Sender(Protocol):
    """Something that answers prompts, many at once."""

    @property
    def at_once(self) -> int:
        """How many prompts it is worth to hand over at once, at least 1."""

    async def send(self, prompt: str) -> Outcome:
        """Return the judge's outcome on a prompt; raises nothing that concerns one item only."""

    async def close(self) -> None:
        """Let go of connections and models, and say what went wrong on the way."""


def read_completion(completion: Mapping[str, Any], *, structured: bool = False) -> Outcome:
    """Read the JSON of a chat completion; whatever is not one is a failure."""
    choices = completion.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    message = first.get("message") if isinstance(first, dict) else None
    if first is None or not isinstance(message, dict):
        return Failure("the endpoint's reply is no chat completion")
    usage = completion.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    return Reply(
        text=_content(message.get("content")),
        finish_reason=_text(first.get("finish_reason")),
        refusal=_text(message.get("refusal")),
        model=_text(completion.get("model")),
        prompt_tokens=_count(usage.get("prompt_tokens")),
        completion_tokens=_count(usage.get("completion_tokens")),
        structured=structured,
    )


def _content(value: object) -> str | None:
    """Return a message's text: as it is, or its text parts joined; of anything else, the JSON."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list):
        texts = [part.get("text") for part in value if isinstance(part, dict)]
        if found := [text for text in texts if isinstance(text, str)]:
            return "".join(found)
    return json.dumps(value, ensure_ascii=False)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
