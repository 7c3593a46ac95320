"""A reply that came as a stream of events though none was asked for: put together again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from eft_eval.judging.judges.answers import first_choice, is_text
from eft_eval.judging.judges.base import load_json
from eft_eval.judging.judges.endpoint_errors import error_in

__all__ = ["is_stream", "read_stream"]

_DONE = "[DONE]"


def is_stream(content: bytes, kind: str) -> bool:
    """Whether an answer is a stream of events.

    Args:
        content: Its body.
        kind: Its Content-Type.
    """
    begins = content.lstrip()[:8]
    return kind.startswith("text/event-stream") or begins.startswith((b"data:", b"event:", b": "))


def read_stream(content: bytes) -> Any:
    """Return a stream's completion as JSON; of one that holds an error, that event.

    One that ends before its reply does gives a completion without a finish_reason and with an
    ``error``.

    Raises:
        ValueError: An event is no JSON.
    """
    texts: list[str] = []
    refusals: list[str] = []
    whole: dict[str, Any] = {}
    finish: Any = None
    native: Any = None
    for event in _events(content.decode("utf-8", "replace")):
        if error_in(event) is not None:
            return event
        for name in ("model", "usage"):
            if event.get(name) is not None:
                whole[name] = event[name]
        choice = first_choice(event.get("choices"), told=True) or {}
        part = choice.get("delta")
        if not part and not texts:  # some send all of it again with every piece
            part = choice.get("message")
        part = part if isinstance(part, Mapping) else {}
        texts += _pieces(part.get("content"))
        refusals += _pieces(part.get("refusal"))
        finish = choice.get("finish_reason") or finish
        native = choice.get("native_finish_reason") or native
    if finish is None:
        return {"error": {"message": "the stream ended before the reply did"}}
    message = {"content": "".join(texts) or None, "refusal": "".join(refusals) or None}
    choice = {"message": message, "finish_reason": finish, "native_finish_reason": native}
    return {**whole, "choices": [choice]}


def _events(text: str) -> Iterator[Mapping[str, Any]]:
    for line in text.replace("\r\n", "\n").split("\n"):
        name, colon, value = line.partition(":")
        if name != "data" or not colon or value.strip() in ("", _DONE):
            continue
        event = load_json(value)
        yield event if isinstance(event, Mapping) else {"error": {"message": str(event)[:300]}}


def _pieces(value: Any) -> list[str]:
    if isinstance(value, list):  # of parts
        return [part["text"] for part in value if isinstance(part, Mapping) and is_text(part)]
    return [value] if isinstance(value, str) else []
