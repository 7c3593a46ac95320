"""From an endpoint's JSON, live or in a batch, to a reply, or to the error that it is in truth."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from eft_eval.judging.judges.base import Failure, Outcome, Reply
from eft_eval.judging.judges.endpoint_errors import EndpointError, error_in, read_error
from eft_eval.judging.prompts.endings import ending_of

__all__ = ["NO_COMPLETION", "first_choice", "is_text", "moderated", "outcome_of", "read_answer"]

NO_COMPLETION = "the endpoint's reply is no chat completion"
_MOST_TOKENS = 2**53 - 1  # what every JSON reader keeps exact
_TEXT_PARTS = (None, "text", "output_text")


def read_answer(payload: Any, *, structured: bool = False) -> Reply | EndpointError:
    """Read what came with the status 200; whatever is no completion is an error.

    Args:
        payload: The JSON.
        structured: Whether JSON was asked for in place of text.
    """
    problem = error_in(payload)
    if problem is not None:
        error = read_error(problem)
        return moderated(error) if error.kind == "moderated" else error
    completion = payload if isinstance(payload, Mapping) else {}
    first = first_choice(completion.get("choices"))
    message = first.get("message") if first is not None else None
    if first is None or not isinstance(message, dict):
        return EndpointError("temporary", NO_COMPLETION)
    finish = _word(first.get("finish_reason"))
    details = first.get("finish_details")
    if finish is None and isinstance(details, dict):
        finish = _word(details.get("type"))
    native = _word(first.get("native_finish_reason"))
    if ending_of(finish) == "whole" and ending_of(native) not in ("whole", "unknown"):
        finish = native  # a gateway's word for an end that it had to translate
    if ending_of(finish) == "failed":
        return EndpointError("temporary", f"the reply ended with {finish!r}", (str(finish),))
    usage = completion.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    text, refusal = _content(message.get("content"))
    return Reply(
        text=text,
        finish_reason=finish,
        refusal=_text(message.get("refusal")) or refusal,
        model=_word(completion.get("model")),
        prompt_tokens=_count(usage.get("prompt_tokens")),
        completion_tokens=_count(usage.get("completion_tokens")),
        structured=structured,
    )


def first_choice(choices: object, *, told: bool = False) -> Mapping[str, Any] | None:
    """Return the choice with the index 0, wherever it stands; None where there is none.

    Args:
        choices: A list of choices.
        told: Whether the index alone decides, as in a stream; else the first one stands for it.
    """
    found = [one for one in choices if isinstance(one, dict)] if isinstance(choices, list) else []
    numbered = [one for one in found if one.get("index", 0) == 0]
    return next(iter(numbered if told else (*numbered, *found)), None)


def outcome_of(found: Reply | EndpointError) -> Outcome:
    """Return an answer's outcome where nothing can be tried again."""
    if isinstance(found, Reply):
        return found
    return moderated(found) if found.kind == "moderated" else Failure(found.words, "item")


def moderated(error: EndpointError) -> Reply:
    """Return the reply that a refusal by an endpoint's moderation amounts to: none, for good."""
    return Reply(None, error.ending, refusal=error.words)


def _content(value: object) -> tuple[str | None, str | None]:
    """Return a message's text and refusal; of parts, the text parts joined, without reasoning.

    Of anything else, the JSON: no verdict, but what the endpoint sent.
    """
    if value is None or isinstance(value, str):
        return value, None
    if isinstance(value, list) and all(_is_part(part) for part in value):
        texts = [part["text"] for part in value if is_text(part)]
        refusals = [part["refusal"] for part in value if isinstance(part.get("refusal"), str)]
        if texts or refusals:
            return "".join(texts) or None, "".join(refusals) or None
    try:
        return json.dumps(value, ensure_ascii=False), None
    except (RecursionError, ValueError):  # too deep; a number of thousands of digits
        return None, None


def _is_part(value: object) -> bool:
    return isinstance(value, dict) and bool({"type", "text"} & value.keys())


def is_text(part: Mapping[str, Any]) -> bool:
    """Whether a part of a content is text of the reply, and no thought or picture."""
    kind = part.get("type")
    known = kind is None or (isinstance(kind, str) and kind in _TEXT_PARTS)
    return known and not part.get("thought") and isinstance(part.get("text"), str)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _word(value: object) -> str | None:
    """Return a field that is no reply; half a character in it is replaced, as files take none."""
    text = _text(value)
    return None if text is None else text.encode("utf-8", "replace").decode("utf-8")


def _count(value: object) -> int | None:
    """Return a number of tokens; None for what is none, or is too large to be one."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value if whole and 0 <= value <= _MOST_TOKENS else None  # type: ignore[operator,return-value]
