"""What an endpoint's error says: in which words, whose fault it is, and whether it will pass.

Errors come in every place: as a status, in the body of a 200, in a choice, in a stream, as JSON of
many shapes, as text and as web pages. docs/endpoints.md has the sources.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from eft_eval.judging.prompts.endings import ending_of

__all__ = ["EndpointError", "Kind", "error_in", "read_error", "words_of"]

Kind = Literal["temporary", "key", "credit", "model", "address", "moderated", "request"]
"""``temporary``: worth another try; ``key``, ``credit``, ``model``, ``address``: so will all that
follow; ``moderated``: a filter refused this text; ``request``: this request is not taken."""

_LONGEST_WORDS = 300
_LONGEST_READ = 20_000
_TEMPORARY = (408, 409, 425, 429, 499)
_MESSAGES = (
    "message", "msg", "error_msg", "status_msg", "error_message", "detail", "description", "title",
    "blockReason",
)  # fmt: skip
_CODES = ("code", "type", "status", "reason", "error_code", "status_code", "errorCode")
_INNER = ("error", "innererror", "inner_error", "metadata", "raw", "details", "errors", "base_resp")

_NO_CREDIT = re.compile(
    r"insufficient[_ ](quota|balance|credits?|funds)|exceeded_current_quota"
    r"|billing_(hard_limit_reached|not_active)|payment[_ ]required|arrearage"
    r"|credit balance is too low|out of credits|requires more credits|not enough credits"
    r"|check your plan and billing|account balance|not have any credits|n.t have any credits"
    r"|purchase (more )?credits|spending limit|past invoices|max budget"
    r"|budget[_ ]((has been|is|limit) )?exceeded|exceeded[_ ]?budget",
    re.IGNORECASE,
)
_NO_KEY = re.compile(
    r"\b(invalid|incorrect|missing|wrong|no|expired)[_ ]((api|authentication|auth|access)[_ ])?"
    r"(key|token)\b"
    r"|authentication_error|unauthenticated|api key not (valid|found)|api_key_invalid"
    r"|invalid_authentication|unauthorized",
    re.IGNORECASE,
)
_NO_MODEL = re.compile(
    r"model_?not_?found|not_found_error: model|deployment_?not_?found|model_decommissioned"
    r"|invalid_model\b|unknown_model|model_not_available|unable to access model"
    r"|no endpoints found|(?<![\w-])(model|deployment)\b.{0,120}?"
    r"\b(not found|not exist|does not exist|doesn't exist|is not available"
    r"|not supported (in|by any)"
    r"|has been (deprecated|decommissioned|shut down)|not a valid model)"
    r"|(no such|unknown|invalid) model\b|is not a valid model|invalid model name"
    r"|do(es)? not have access to (the )?model|model_not_supported|malformed publisher model"
    r"|\bmodel\b.{0,120}?\b(only supported in v1|with on-demand throughput isn.t supported)",
    re.IGNORECASE,
)
_MODERATED = re.compile(
    r"content[_ ]?(filter|policy|management|moderation|violation|exists risk)"
    r"|contentpolicyviolation|responsible ?ai ?policy ?violation|invalid_prompt"
    r"|policy_violation|moderation"
    r"|\bflagged\b|data_?inspection_?failed|inappropriate content|prohibited_content"
    r"|(safety|guardrail)s?[_ ](system|filter|block|intervened|violation)"
    r"|blocked by.{0,40}guardrail"
    r"|violat\w+ (\w+ ){0,3}((usage|content|safety|acceptable|community) (polic|guideline)"
    r"|guardrail)|sensitive[_ ]?(content|information)|new_sensitive|censorship"
    r"|\bcontent\b.{0,60}\bis blocked|\u654f\u611f|\u8fdd\u89c4",
    re.IGNORECASE,
)
_TOO_BUSY = re.compile(
    r"overloaded|rate.?limit|resource_exhausted|too many requests", re.IGNORECASE
)
_NO_ADDRESS = re.compile(
    r"unexpected endpoint or method|(unknown|unrecognized) request url|no route matched",
    re.IGNORECASE,
)
_TAGS = re.compile(r"<(script|style)\b.*?</\1\s*>|<[^>]{0,500}>", re.IGNORECASE | re.DOTALL)
_TITLE = re.compile(r"<title[^>]{0,100}>(.*?)</title", re.IGNORECASE | re.DOTALL)
_PAGE = re.compile(r"\s*<(!doctype|html|head|body|\?xml|center|h1)\b", re.IGNORECASE)


@dataclass(frozen=True)
class EndpointError:
    """An endpoint's error.

    Attributes:
        kind: What follows from it.
        words: Its own words, in one line.
        codes: Its codes and types, in lower case, most general first.
        status: The HTTP status that it was sent with, or that it names.
        named: Where it says that a field of the request is wrong: the field, as ``param`` or a
            ``loc`` has it.
    """

    kind: Kind
    words: str
    codes: tuple[str, ...] = ()
    status: int | None = None
    named: tuple[str, ...] = ()

    @property
    def ending(self) -> str:
        """How a reply ended that moderation refused: the endpoint's word, if it is one for that."""
        words = [code for code in self.codes if ending_of(code) == "refused"]
        return words[-1] if words else "content_filter"


def error_in(payload: Any) -> Any:
    """Return what in an endpoint's JSON is an error; None where it is a completion.

    Args:
        payload: The body of an answer with the status 200.
    """
    if isinstance(payload, list):
        return next((found for one in payload if (found := error_in(one)) is not None), None)
    if not isinstance(payload, Mapping):
        return None
    if _says(payload.get("error")):
        return payload
    beside = payload.get("x_groq")
    if isinstance(beside, Mapping) and _says(beside.get("error")):
        return beside
    choices = payload.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, Mapping) and _says(choice.get("error")):
            return {"error": choice["error"]}
        message = choice.get("message") if isinstance(choice, Mapping) else None
        if isinstance(message, Mapping) and _says(message.get("error")):
            return {"error": message["error"]}
    if choices:
        return None
    if payload.get("object") == "error" or payload.get("success") is False:
        return payload
    blocked = payload.get("promptFeedback")
    if isinstance(blocked, Mapping) and blocked.get("blockReason"):
        return {
            "error": {"code": "content_filter", "message": f"blocked: {blocked['blockReason']}"}
        }
    inner = payload.get("base_resp")
    if isinstance(inner, Mapping) and inner.get("status_code"):
        return inner
    told = (payload.get(name) for name in (*_MESSAGES, "errors"))
    return payload if any(_says(one) and not _is_message(one) for one in told) else None


def _says(value: Any) -> bool:
    """Whether an error says anything: some gateways send every field of one, all empty."""
    if isinstance(value, Mapping):
        return any(map(_says, value.values()))
    return any(map(_says, value)) if isinstance(value, list) else bool(value)


def _is_message(value: Any) -> bool:
    """Whether this is what somebody says in a chat, as other interfaces than OpenAI's have it."""
    return isinstance(value, Mapping) and "role" in value


def read_error(payload: Any, status: int | None = None) -> EndpointError:
    """Read an error.

    Args:
        payload: The body: JSON, or text.
        status: The HTTP status, if it was none of success.
    """
    messages, codes = [], []
    for name, value in _walk(payload):
        if name in _CODES:
            codes.append(str(value).strip().lower())
        else:
            messages.append(str(value))
    words = " ".join(dict.fromkeys(text for text in map(words_of, messages) if text))
    inner = next((int(code) for code in codes if re.fullmatch(r"[45]\d\d", code)), None)
    status = inner if status is None or (status == 200 and inner) else status
    named_codes = tuple(dict.fromkeys(c for c in codes if c and not re.fullmatch(r"[45]\d\d", c)))
    kind = _kind(status, " ".join(named_codes), words)
    told = words or " ".join(named_codes) or "no words"
    return EndpointError(kind, told[:_LONGEST_WORDS], named_codes, status, tuple(_fields(payload)))


def words_of(text: str) -> str:
    """Return an error's words in one line: of a web page its title, else what it shows."""
    text = text[:_LONGEST_READ]
    if _PAGE.match(text):
        titled = _TITLE.search(text)
        text = titled[1] if titled and titled[1].strip() else _TAGS.sub(" ", text)
        text = f"a web page: {html.unescape(text).strip()}"
    return " ".join(text.split())


def _walk(payload: Any, depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Yield the words and codes of an error, outer ones first."""
    if isinstance(payload, (str, bytes)):
        yield "message", payload if isinstance(payload, str) else payload.decode("utf-8", "replace")
    if depth > 5 or not isinstance(payload, (Mapping, list)):
        return
    if isinstance(payload, list):
        for one in payload[:3]:
            yield from _walk(one, depth + 1)
        return
    for name in (*_CODES, *_MESSAGES):
        value = payload.get(name)
        if isinstance(value, (str, int)) and not isinstance(value, bool):
            yield name, value
        elif name in _MESSAGES and value:
            yield from _walk(value, depth + 1)
    for name in _INNER:
        if payload.get(name):
            yield from _walk(payload[name], depth + 1)


def _fields(payload: Any, depth: int = 0) -> Iterator[str]:
    """Yield the names of fields of the request that an error is about."""
    if depth > 5:
        return
    if isinstance(payload, list):
        for one in payload[:10]:
            yield from _fields(one, depth + 1)
    elif isinstance(payload, Mapping):
        if isinstance(param := payload.get("param"), str):
            yield param
        if isinstance(place := payload.get("loc"), list):
            yield from (part for part in place if isinstance(part, str))
        for name in ("error", "detail", "errors", "message"):
            yield from _fields(payload.get(name), depth + 1)


def _kind(status: int | None, codes: str, words: str) -> Kind:
    text = f"{codes} {words}"
    if status == 402 or (_NO_CREDIT.search(text) and "resource_exhausted" not in codes):
        return "credit"
    if status == 429 or (status is not None and status >= 500):
        return "moderated" if _MODERATED.search(codes) else "temporary"
    if status in (401, 407):
        return "key"
    if _MODERATED.search(text):
        return "moderated"
    if _NO_KEY.search(codes) or (status in (400, 403, None) and _NO_KEY.search(words)):
        return "key"
    if _NO_MODEL.search(text):
        return "model"
    if status in (404, 405, 410) or _NO_ADDRESS.search(words):
        return "address"
    if status == 413:  # also where it is called a rate limit: this text alone passes it
        return "request"
    temporary = status is None or status in _TEMPORARY or _TOO_BUSY.search(codes)
    return "temporary" if temporary else "request"
