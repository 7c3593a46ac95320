"""Reading a judge's reply: ``Reason: ...`` and then ``Score: ...``, strictly.

Knows nothing of prompts, models or stores. A reply that cannot be read is never given a number:
not the first digit in the text, not a default.
"""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal
from typing import NamedTuple

from eft_eval.verdicts.verdict import HALF_CHARACTER, Scale, Status

__all__ = ["PARSER_VERSION", "Parsed", "has_fraction", "has_score_line", "parse_reply"]

PARSER_VERSION = 4
"""Raise it whenever `parse_reply` reads some reply differently: stored replies are then read again.

1: first. 2: quoted lines and thoughts count for less; full-width colons, other scripts' digits;
``1.0`` on the scale percent is unreadable. 3: so is a reply with half a character (a lone
surrogate). 4: a score that the judged text holds, too, counts only where the reply's form
tells that it is no quotation.
"""

_LABEL = r"(?P<marks>[\s>#*_`+\-]*){word}[\s*_`]*[:：][*_`]*(?P<rest>.*)"
_SCORE = re.compile(_LABEL.format(word="score"), re.IGNORECASE | re.DOTALL)
_REASON = re.compile(_LABEL.format(word="reason"), re.IGNORECASE | re.DOTALL)
_ANYWHERE = re.compile(
    r"score[\s*_`]*[:：][\s*_`]*(?P<rest>none|[-−]?\d+(\.\d+)?(\s*[%％٪])?)", re.IGNORECASE
)
_NUMBER = re.compile(r"(?P<number>[-−]?\d+(?P<fraction>\.\d+)?)(?P<percent>\s*[%％٪])?")
_NONE = re.compile(r"""["'“”‘’]?none\.?["'“”‘’]?""", re.IGNORECASE)
_THOUGHT = re.compile(r"\s*<think(?:ing)?>", re.IGNORECASE)
_THOUGHT_END = re.compile(r"</think(?:ing)?>", re.IGNORECASE)
_CODE = re.compile(r"\s*(```|~~~)")
_REFUSAL = re.compile(
    r"(i'm (very |so |really )?sorry|i am (very |so |really )?sorry|sorry|i apologi[sz]e"
    r"|my apologies|i can't|i cannot|i can not|i won't|i will not"
    r"|i'm unable|i am unable|i'm not able|i am not able|as an ai)\b",
    re.IGNORECASE,
)
_EMPHASIS = "*_` \t\r\n\u00a0\u202f\u3000"

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
    text: str | None,
    finish_reason: str | None,
    refusal: str | None,
    scale: Scale,
    judged: str = "",
) -> Parsed:
    """Read a judge's reply in the paper's answer format (appendix A.1).

    The last line that starts with ``Score:`` counts, whatever its markdown; a line in a quotation
    (``> ``) or a closed code block only if there is no other, because judges quote what they
    judge. What stands before ``</think>`` is not read. On the scale ``percent`` a value strictly
    between 0 and 1 that is written with a decimal point and without ``%`` is a fraction: ``0.85``
    is 85, while ``0``, ``1`` and ``0.85 %`` are percent as they stand. ``1.0`` could be either,
    and is unreadable.

    A score that ``judged`` holds, too, may be a quotation. It counts where it is the only one that
    the reply gives outside of quotations, after a ``Reason:`` or all by itself; else the reply is
    ambiguous.

    Args:
        text: The reply's content.
        finish_reason: The endpoint's; ``length`` means that the number itself may be cut.
        refusal: The endpoint's refusal field, where it has one.
        scale: ``count`` (an integer >= 0) or ``percent`` (0 to 100).
        judged: What the judge was shown: the response, and the query where the prompt has it.
    """
    if finish_reason == "length":
        return Parsed(Status.truncated)
    if finish_reason == "content_filter" or refusal:
        return Parsed(Status.refused)
    if HALF_CHARACTER.search(text or ""):
        return Parsed(Status.malformed)  # broken on its way, and perhaps not only there
    answer = _answer(text or "")
    if answer is None:
        return Parsed(Status.malformed)
    lines = answer.splitlines()
    index = _score_line(lines)
    if index is not None:
        found = _SCORE.fullmatch(lines[index])
        assert found is not None
        status, value = _read_score(found["rest"], scale)
        reason = _reason(lines[:index])
        if _may_be_quoted(lines, index, scale, judged):
            return Parsed(Status.ambiguous, None, reason)
        return Parsed(status, value, reason)
    opening = answer.replace("’", "'").lstrip(_EMPHASIS + "\"'“>#")
    return Parsed(Status.refused if _REFUSAL.match(opening) else Status.malformed)


def has_score_line(text: str) -> bool:
    """Whether a text holds a line that `parse_reply` would take for a score.

    In a response that is to be judged, that may be an attempt to be its own verdict.
    """
    return _score_line(text.splitlines()) is not None


def has_fraction(text: str) -> bool:
    """Whether the score that `parse_reply` finds is read as a fraction of 1 on a percent scale.

    ``0.5`` counts as 50; a judge might mean half a percent, so such readings are counted.
    """
    lines = (_answer(text) or "").splitlines()
    index = _score_line(lines)
    found = None if index is None else _SCORE.fullmatch(lines[index])
    written = None if found is None else _number_in(found["rest"])
    return written is not None and _is_fraction(written)


def _answer(text: str) -> str | None:
    """Return a reply without the thoughts before it; None for thoughts that never end."""
    ends = list(_THOUGHT_END.finditer(text))
    if ends:
        return text[ends[-1].end() :]
    return None if _THOUGHT.match(text) else text


def _score_line(lines: list[str]) -> int | None:
    """Return which line holds the score, see `parse_reply`."""
    in_code = _code_lines(lines)
    quoted = None
    for index in range(len(lines) - 1, -1, -1):
        found = _SCORE.fullmatch(lines[index])
        if found and (">" in found["marks"] or index in in_code):
            quoted = index if quoted is None else quoted
        elif found:
            return index
    return quoted


def _may_be_quoted(lines: list[str], index: int, scale: Scale, judged: str) -> bool:
    """Whether the score in a line of a reply may be the judged text's own."""

    def read(rest: str) -> tuple[Status, float | int | None]:
        return _read_score(rest, scale)

    chosen = _SCORE.fullmatch(lines[index])
    assert chosen is not None
    held = {read(found["rest"]) for found in _ANYWHERE.finditer(judged)}
    if read(chosen["rest"]) not in held:
        return False
    in_code = _code_lines(lines)
    found = {number: _SCORE.fullmatch(line) for number, line in enumerate(lines)}
    own = [
        read(score["rest"])
        for number, score in found.items()
        if score and ">" not in score["marks"] and number not in in_code
    ]
    if {*own} != {read(chosen["rest"])}:
        return True  # another score besides, or quotations only
    rest = [line for number, line in enumerate(lines) if not found[number] and line.strip()]
    return bool(rest) and not any(_REASON.fullmatch(line) for line in lines[:index])


def _code_lines(lines: list[str]) -> set[int]:
    """Return the lines inside closed code blocks; a block that never closes hides nothing."""
    inside: set[int] = set()
    start, mark = None, ""
    for index, line in enumerate(lines):
        found = _CODE.match(line)
        if found is None:
            continue
        if start is None:
            start, mark = index, found[1]
        elif found[1] == mark:
            inside.update(range(start, index))
            start = None
    return inside


def _read_score(rest: str, scale: Scale) -> tuple[Status, float | int | None]:
    written = rest.strip(_EMPHASIS)
    if _NONE.fullmatch(written.removesuffix(".").strip(_EMPHASIS)):
        return Status.abstained, None
    found = _number_in(rest)
    if not found or (found["percent"] and scale == "count"):
        return Status.malformed, None
    number = _value(found)
    if scale == "count":
        if not 0 <= number <= _LARGEST_COUNT or number != int(number):
            return Status.out_of_range, None
        return Status.scored, int(number)
    if number == 1 and found["fraction"] and not found["percent"]:
        return Status.malformed, None  # 1 %, or the fraction that is 100 %?
    if _is_fraction(found):
        number *= 100
    if not 0 <= number <= 100:
        return Status.out_of_range, None
    return Status.scored, abs(float(number))


def _number_in(rest: str) -> re.Match[str] | None:
    """Return the number that stands alone after ``Score:``, if one does."""
    written = rest.strip(_EMPHASIS).removesuffix(".").strip(_EMPHASIS)
    found = _NUMBER.fullmatch(written)
    return found if found and _one_script(found["number"]) else None


def _value(found: re.Match[str]) -> Decimal:
    return Decimal(found["number"].replace("−", "-"))


def _is_fraction(found: re.Match[str]) -> bool:
    return bool(found["fraction"]) and not found["percent"] and 0 < _value(found) < 1


def _one_script(number: str) -> bool:
    """Whether all digits are of one script: those of a script follow each other in Unicode."""
    digits = [sign for sign in number if sign.isdecimal()]
    return len({ord(sign) - unicodedata.decimal(sign) for sign in digits}) == 1


def _reason(lines: list[str]) -> str | None:
    for index in range(len(lines) - 1, -1, -1):
        found = _REASON.fullmatch(lines[index])
        if found:
            lines = [found["rest"], *lines[index + 1 :]]
            break
    return "\n".join(lines).strip() or None
