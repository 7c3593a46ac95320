"""A judge's record on one response, and the content hash that identifies it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, fields
from enum import Enum
from types import NoneType
from typing import Any, Literal

from eft_eval.errors import EftEvalError, nearest
from eft_eval.records import finite_number

__all__ = [
    "KEY_VERSION",
    "Scale",
    "Status",
    "Verdict",
    "content_key",
    "most_votes",
    "status_of_several",
]

Scale = Literal["count", "percent", "preference"]
"""What a judge prompt's score is: a number of things, 0 to 100, or which of two is better (1 or 2,
0 for a tie)."""


class Status(str, Enum):
    """How a request to the judge ended. Only `scored` carries a value."""

    scored = "scored"
    abstained = "abstained"
    """The judge answered ``None``, as the prompt allows for unethical responses."""
    refused = "refused"
    """The judge, or its endpoint's filter, would not answer."""
    truncated = "truncated"
    """The reply did not come to a known good end; its number may be cut."""
    malformed = "malformed"
    """The reply has no readable score."""
    ambiguous = "ambiguous"
    """The reply has two scores that differ, or one that may be a quotation of the judged text."""
    out_of_range = "out_of_range"
    """The reply has a number that the prompt's scale does not know."""
    api_error = "api_error"
    """No reply came. Never stored."""
    unfinished = "unfinished"
    """The response is reasoning that did not end; nobody is asked. Never stored."""

    @property
    def has_reply(self) -> bool:
        """Whether a judge's reply stands behind it; only such verdicts are stored."""
        return self not in (Status.api_error, Status.unfinished)


_LACKING = (
    Status.api_error,  # asking again may mend it
    Status.unfinished,
    Status.truncated,
    Status.malformed,
    Status.ambiguous,
    Status.out_of_range,
    Status.refused,
    Status.abstained,
)


def status_of_several(statuses: Iterable[Status]) -> Status:
    """Return how verdicts that count as one end: scored only if all are.

    Else for the first of these reasons that one of them has: no verdict, unfinished, unreadable,
    refused, abstained.
    """
    found = {*statuses}
    return next((one for one in _LACKING if one in found), Status.scored)


def most_votes(classes: Iterable[float]) -> float | None:
    """Return what most judges say, of yes (1) and no (0); None where as many say either."""
    given = [*classes]
    yes = 2 * sum(given)
    return None if yes == len(given) else float(yes > len(given))


@dataclass(frozen=True)
class Verdict:
    """One judge's verdict on one response.

    Attributes:
        key: Content hash, see `content_key`.
        status: How it ended.
        value: The score on the prompt's scale if scored, else None.
        reason: The judge's analysis, if it could be told from the score.
        raw: The reply as it came (the refusal's text where there is no other).
        finish_reason: The endpoint's own word for why the reply ended.
        judge_model: The model asked for.
        judge_model_returned: The model that the endpoint says answered.
        prompt_name: The judge prompt's name,
        prompt_version: its version,
        prompt_sha256: and the hash of its file's text.
        parameters: The sampling parameters sent.
        parser_version: Of `eft_eval.judging.prompts.parsing`, when it was last read.
        prompt_tokens: Tokens sent, as the endpoint counted.
        completion_tokens: Tokens received, as the endpoint counted.
        cost_usd: List price in US dollars, None for a model without a known price.
        price_table: Date of the price table used.
        created: ISO 8601, UTC.
        error: What went wrong, only with the status api_error.
        prompt_scale: The judge prompt's scale; None where it was stored before this was noted.
        votes: Of a panel's verdict, each judge's score by its name, None where it gave none; None
            for a verdict of one judge.
    """

    key: str
    status: Status
    value: float | int | None
    reason: str | None
    raw: str | None
    finish_reason: str | None
    judge_model: str
    judge_model_returned: str | None
    prompt_name: str
    prompt_version: int
    prompt_sha256: str
    parameters: dict[str, Any]
    parser_version: int
    prompt_tokens: int | None
    completion_tokens: int | None
    cost_usd: float | None
    price_table: str | None
    created: str
    error: str | None
    prompt_scale: Scale | None = None
    votes: Mapping[str, float | None] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain JSON types; `from_dict` gives back an equal verdict."""
        record = {field.name: getattr(self, field.name) for field in fields(self)}
        votes = record.pop("votes")
        return {
            **record,
            "status": self.status.value,
            "parameters": dict(self.parameters),
            **({} if votes is None else {"votes": dict(votes)}),
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Verdict:
        """Read a record that `to_dict` wrote.

        Raises:
            EftEvalError: A key is unknown or missing, or a value is not what it must be.
        """
        known = [field.name for field in fields(cls)]
        for name in record:
            if name not in known:
                raise EftEvalError(f"a verdict has no field {name!r}{nearest(name, known)}")
        missing = [field.name for field in fields(cls) if _is_needed(field, record)]
        if missing:
            raise EftEvalError(f"a verdict lacks the field(s) {', '.join(missing)}")
        try:
            status = Status(record["status"])
        except ValueError:
            allowed = ", ".join(status.value for status in Status)
            raise EftEvalError(
                f"a verdict has the status {record['status']!r}; it must be one of {allowed}"
            ) from None
        for name, kinds in _KINDS.items():
            if not isinstance(record.get(name), kinds) or isinstance(record.get(name), bool):
                raise EftEvalError(f"a verdict's {name} is {str(record.get(name))[:80]!r}")
        if finite_number(record["value"] or 0) is None:
            raise EftEvalError(f"a verdict's value is {record['value']}")
        for name, vote in (record.get("votes") or {}).items():
            if isinstance(vote, bool) or (vote is not None and finite_number(vote) is None):
                raise EftEvalError(f"a verdict's vote of {name} is {str(vote)[:80]!r}")
        return cls(**{**record, "status": status, "parameters": dict(record["parameters"])})


_TEXT, _MAYBE_TEXT, _MAYBE_COUNT = (str,), (str, NoneType), (int, NoneType)
_KINDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("key", "judge_model", "prompt_name", "prompt_sha256", "created"), _TEXT),
    **dict.fromkeys(("reason", "raw", "finish_reason", "judge_model_returned"), _MAYBE_TEXT),
    **dict.fromkeys(("price_table", "error", "prompt_scale"), _MAYBE_TEXT),
    **dict.fromkeys(("prompt_tokens", "completion_tokens"), _MAYBE_COUNT),
    **dict.fromkeys(("value", "cost_usd"), (int, float, NoneType)),
    **dict.fromkeys(("prompt_version", "parser_version"), (int,)),
    "parameters": (dict,),
    "votes": (dict, NoneType),
}


def _is_needed(field: Field[Any], record: Mapping[str, Any]) -> bool:
    return field.name not in record and field.default is MISSING


KEY_VERSION = 1
"""The last part of every key. It was the parser's version once; that may change now without a new
call, as stored replies are read again."""


def content_key(
    rendered: str,
    judge_model: str,
    parameters: Mapping[str, Any],
    version: int = KEY_VERSION,
    *,
    repeat: int = 0,
) -> str:
    """Return the hash that identifies a verdict: sha256 (hex) of all that the call depends on.

    Another prompt text, model, parameter or repeat gives another key, and so a new call. The
    endpoint is not part of it (the same model behind another address is the same judge), nor is
    the parser (stored replies are read again), nor the reply's wire format.

    Args:
        rendered: The text sent.
        judge_model: The model asked for.
        parameters: The sampling parameters.
        version: Of the key's own make-up.
        repeat: 0 for the first time the judge is asked, 1 for the second, and so on.
    """
    content = {
        "rendered": rendered,
        "judge_model": judge_model,
        "parameters": dict(parameters),
        "parser_version": version,
    }
    if repeat:
        content["repeat"] = repeat
    # ASCII keeps the text stable for lone surrogates too, which UTF-8 cannot encode.
    text = json.dumps(content, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()
