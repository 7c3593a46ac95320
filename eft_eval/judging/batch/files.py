"""The Batch API's files: request lines, their split into files, and what comes back.

Pure text in and out; knows nothing of stores or clients.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from eft_eval.judging.judges.answers import outcome_of, read_answer
from eft_eval.judging.judges.base import Failure, Outcome, Reply, load_json
from eft_eval.judging.judges.endpoint import EndpointJudge
from eft_eval.judging.judges.endpoint_errors import EndpointError, read_error
from eft_eval.judging.settings import JudgeSettings

__all__ = ["Answers", "BatchLimits", "read_answers", "request_line", "split"]

_ENDPOINT = "/v1/chat/completions"
_CUSTOM_ID = re.compile(r'"custom_id"\s*:\s*"([0-9a-f]{64})"')


class BatchLimits(NamedTuple):
    """The most that one file may hold; by default OpenAI's limits."""

    requests: int = 50_000
    bytes: int = 200_000_000


class Answers(NamedTuple):
    """What a batch's files say.

    Attributes:
        outcomes: By custom_id; the first line of each counts.
        unreadable: Lines that are no answer (cut off, no JSON).
        refusals: What the endpoint said to requests that it would not take, each once.
    """

    outcomes: dict[str, Outcome]
    unreadable: int
    refusals: tuple[EndpointError, ...] = ()


def request_line(key: str, prompt: str, settings: JudgeSettings) -> bytes:
    """Return one line of a request file; its custom_id is the verdict's key."""
    judge = EndpointJudge(settings)
    body = judge.body(prompt)
    line = {"custom_id": key, "method": "POST", "url": _ENDPOINT, "body": body}
    # ASCII: a lone surrogate of a model's output has no UTF-8, but a JSON escape
    return json.dumps(line, separators=(",", ":")).encode("ascii") + b"\n"


def split(lines: Iterable[tuple[str, bytes]], limits: BatchLimits) -> Iterator[dict[str, bytes]]:
    """Yield as few files as the limits allow, in order: lines by key.

    Args:
        lines: Keys and request lines.
        limits: Of one file. A single line that is too long gets a file of its own.
    """
    part: dict[str, bytes] = {}
    size = 0
    for key, line in lines:
        if part and (len(part) >= limits.requests or size + len(line) > limits.bytes):
            yield part
            part, size = {}, 0
        part[key] = line
        size += len(line)
    if part:
        yield part


def read_answers(files: Sequence[str], *, structured: bool) -> Answers:
    """Read a batch's output and error files; lines come in any order.

    Args:
        files: The files' texts.
        structured: Whether JSON was asked for.
    """
    outcomes: dict[str, Outcome] = {}
    refusals: dict[str, EndpointError] = {}
    unreadable = 0
    for text in files:
        for line in text.split("\n"):  # not splitlines, which splits inside JSON strings, too
            if not line.strip():
                continue
            try:
                record = load_json(line)
                key = str(record["custom_id"])
                outcome = _outcome(record, structured)
                if isinstance(outcome, Failure) and (error := _refusal(record)) is not None:
                    refusals.setdefault(error.words, error)
            except RecursionError:  # whose it is stands in it all the same
                found = _CUSTOM_ID.search(line)
                key, outcome = found[1] if found else "", Reply(None, None)
            except (ValueError, KeyError, TypeError):
                key = ""
            if key:
                outcomes.setdefault(key, outcome)
            else:
                unreadable += 1
    return Answers(outcomes, unreadable, tuple(refusals.values()))


def _refusal(record: Mapping[str, Any]) -> EndpointError | None:
    """Return the error of a request that the endpoint would not take; None for any other line."""
    response = record.get("response")
    status = response.get("status_code") if isinstance(response, dict) else None
    if not isinstance(response, dict) or status not in (400, 422):
        return None
    return read_error(response.get("body") or record.get("error"), status)


def _outcome(record: Mapping[str, Any], structured: bool) -> Outcome:
    response, error = record.get("response"), record.get("error")
    if not isinstance(response, dict):
        return _failed(error, None)
    body, status = response.get("body"), response.get("status_code")
    if status == 200:
        return outcome_of(read_answer(body, structured=structured))
    return _failed(body or error, status if isinstance(status, int) else None)


def _failed(error: object, status: int | None) -> Outcome:
    if not error:
        return Failure("no reply and no reason", "item")
    found = read_error(error, status)
    where = "" if status is None else f"HTTP status {status}: "
    codes = "" if not found.codes or found.codes[0] in found.words else f"{found.codes[0]}: "
    return outcome_of(replace(found, words=f"{where}{codes}{found.words}"))
