"""How one try at an endpoint ended, and what follows from an endpoint's error."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from eft_eval.judging.judges.answers import moderated, read_answer
from eft_eval.judging.judges.base import Blame, Failure, Outcome, Reply, load_json
from eft_eval.judging.judges.endpoint_errors import EndpointError, Kind, read_error
from eft_eval.judging.judges.heads import Answer, Redirected, TooLarge
from eft_eval.judging.judges.lookup import ADDRESS_HINT
from eft_eval.judging.judges.rate_limit import retry_after_s
from eft_eval.judging.judges.streams import is_stream, read_stream

__all__ = ["Try", "not_taken", "read", "refused"]

_LONGEST_PAUSE_S = 300.0
_LONGEST_KIND = 80
_OVERLOADED = (429, 503, 529)
_BLAMES: dict[Kind, Blame] = {
    "temporary": "endpoint",
    "key": "key",
    "credit": "all",
    "model": "all",
    "address": "all",
    "moderated": "item",
    "request": "item",
}
_ENDS: dict[Kind, str] = {"credit": "no credit", "model": "no such model"}


class Try(NamedTuple):
    """How one try ended."""

    outcome: Outcome
    headers: Mapping[str, str] | None = None  # None where no response came
    anomaly: str | None = None  # its kind, for one line at the end
    again: bool = False
    wait_s: float | None = None  # before the next try, as the endpoint asks
    refused: bool = False  # for the pace, not for the text
    billed: bool = False  # perhaps, though no usage came


def refused(error: EndpointError, answer: Answer, place: str, *, answered: bool) -> Try:
    """Return what follows from an error, wherever it stood.

    Args:
        error: The error.
        answer: The answer that held it.
        place: The endpoint, for people.
        answered: Whether it has answered other texts.
    """
    status, headers = error.status, answer.headers
    if error.kind == "moderated":
        return Try(moderated(error), headers, billed=True)
    where = "" if status is None else f"HTTP status {status}: "
    why = f"{where}{error.words}"
    anomaly = f"HTTP status {status}" if status is not None else error.words[:_LONGEST_KIND]
    blame = _BLAMES[error.kind]
    # Some endpoints answer 403 to a text that their moderation flags: then, and only then,
    # other texts got their replies with the same key.
    if error.kind == "request" and status == 403:
        blame = "endpoint" if answered else "key"
    if error.kind in _ENDS:
        why = f"{_ENDS[error.kind]} ({why})"
    if error.kind == "address":
        why = f"{place}/chat/completions: {why}; {ADDRESS_HINT}"
    if error.kind != "temporary":
        return Try(Failure(why, blame), headers, anomaly)
    again = {"true": True, "false": False}.get(headers.get("x-should-retry", ""), True)
    wait = retry_after_s(headers, time.time())
    if wait is not None and wait > _LONGEST_PAUSE_S:
        why = f"the endpoint asks to wait {wait:.0f} s, which is too long ({why})"
        again = False
    overloaded = status in _OVERLOADED and again
    done = Try(Failure(why), headers, anomaly, again=again, wait_s=wait, refused=overloaded)
    return done._replace(billed=answer.status == 200)


def not_taken(error: TooLarge | Redirected) -> Try:
    """Return the end of a try whose answer was not read: unreadable, or nobody's we asked."""
    if isinstance(error, TooLarge) and error.is_error:
        return Try(Failure(str(error)), anomaly="an error too large to be read", again=True)
    if isinstance(error, TooLarge):
        return Try(Reply(None, None), anomaly=str(error))
    return Try(Failure(str(error), "all"))


def read(answer: Answer, *, structured: bool = False) -> Reply | EndpointError:
    """Read a whole answer: a reply, or the error that it is.

    Args:
        answer: The answer.
        structured: Whether JSON was asked for.
    """
    if answer.status >= 300:
        return read_error(_body_of(answer), answer.status)
    kind = answer.headers.get("content-type", "")
    as_json = read_stream if is_stream(answer.content, kind) else load_json
    try:
        return read_answer(as_json(answer.content), structured=structured)
    except RecursionError:  # JSON, but so deep that nobody reads it; asking again is no use
        return Reply(None, None)
    except ValueError:
        words = read_error(answer.content).words
        return EndpointError("temporary", f"the endpoint's reply is no JSON: {words}")


def _body_of(answer: Answer) -> Any:
    try:
        return load_json(answer.content)
    except (ValueError, RecursionError):
        return answer.content.decode("utf-8", "replace")
