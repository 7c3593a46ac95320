"""Reading a judge's reply: ``Reason: ...`` and then ``Score: ...``, strictly.

Knows nothing of prompts, models or stores. A reply that cannot be read is never given a number:
not the first digit in the text, not a default.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Literal, NamedTuple

from eft_eval.judging.verdict import Status

__all__ = ["PARSER_VERSION", "Parsed", "Scale", "parse_reply"]

PARSER_VERSION = 1
"""Part of every verdict's key: raise it whenever `parse_reply` reads some reply differently."""

Scale = Literal["count", "percent"]

_LABEL = r"[\s>#*_`+\-]*{word}[\s*_`]*:[*_`]*(?P<rest>.*)"
_SCORE = re.compile(_LABEL.format(word="score"), re.IGNORECASE | re.DOTALL)
_REASON = re.compile(_LABEL.format(word="reason"), re.IGNORECASE | re.DOTALL)
_NUMBER = re.compile(r"(?P<number>-?[0-9]+(?P<fraction>\.[0-9]+)?)(?P<percent>\s*%)?")
_NONE = re.compile(r"""["'“”‘’]?none\.?["'“”‘’]?""", re.IGNORECASE)
_REFUSAL = re.compile(
    r"(i'm (very |so |really )?sorry|i am (very |so |really )?sorry|sorry|i apologi[sz]e"
    r"|my apologies|i can't|i cannot|i can not|i won't|i will not"
    r"|i'm unable|i am unable|i'm not able|i am not able|as an ai)\b",
    re.IGNORECASE,
)
_EMPHASIS = "*_` \t\r\n"

# The largest integer that every JSON reader keeps exact.
_LARGEST_COUNT = 2**53 - 1


class Parsed(NamedTuple):
    """What a reply says.

    Attributes:
        status: How the reply was read.
        value: The score if ``status`` is scored, else None. A count is an int >= 0, a percentage
            a float in [0, 100].
        reason: The judge's analysis where a Score line was found, else None.
    """

    status: Status
    value: float | int | None = None
    reason: str | None = None


def parse_reply(
    text: str | None, finish_reason: str | None, refusal: str | None, scale: Scale
) -> Parsed:
    """Read a judge's reply in the paper's answer format (appendix A.1).

    The last line that starts with ``Score:`` counts, whatever its markdown. On the scale
    ``percent`` a value strictly between 0 and 1 that is written with a decimal point and without
    ``%`` is a fraction: ``0.85`` is 85, while ``0``, ``1``, ``1.0`` and ``0.85 %`` are percent as
    they stand.

    Args:
        text: The reply's content.
        finish_reason: The endpoint's; ``length`` means that the number itself may be cut.
        refusal: The endpoint's refusal field, where it has one.
        scale: ``count`` (an integer >= 0) or ``percent`` (0 to 100).
    """
    if finish_reason == "length":
        return Parsed(Status.truncated)
    if finish_reason == "content_filter" or refusal:
        return Parsed(Status.refused)
    lines = (text or "").splitlines()
    for index in range(len(lines) - 1, -1, -1):
        found = _SCORE.fullmatch(lines[index])
        if found:
            status, value = _read_score(found["rest"], scale)
            return Parsed(status, value, _reason(lines[:index]))
    opening = (text or "").replace("’", "'").lstrip(_EMPHASIS + "\"'“>#")
    return Parsed(Status.refused if _REFUSAL.match(opening) else Status.malformed)


def _read_score(rest: str, scale: Scale) -> tuple[Status, float | int | None]:
    written = rest.strip(_EMPHASIS)
    if _NONE.fullmatch(written.removesuffix(".").strip(_EMPHASIS)):
        return Status.abstained, None
    found = _NUMBER.fullmatch(written.removesuffix(".").strip(_EMPHASIS))
    if not found or (found["percent"] and scale == "count"):
        return Status.malformed, None
    number = Decimal(found["number"])
    if scale == "count":
        if not 0 <= number <= _LARGEST_COUNT or number != int(number):
            return Status.out_of_range, None
        return Status.scored, int(number)
    if found["fraction"] and not found["percent"] and 0 < number < 1:
        number *= 100
    if not 0 <= number <= 100:
        return Status.out_of_range, None
    return Status.scored, abs(float(number))


def _reason(lines: list[str]) -> str | None:
    for index in range(len(lines) - 1, -1, -1):
        found = _REASON.fullmatch(lines[index])
        if found:
            lines = [found["rest"], *lines[index + 1 :]]
            break
    return "\n".join(lines).strip() or None
