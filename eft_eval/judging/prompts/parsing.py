"""Reading a judge's reply: ``Reason: ...`` and then ``Score: ...``, or the same as JSON, strictly.

Knows nothing of models or stores. A reply that cannot be read is never given a number: not the
first digit in the text, not a default.
"""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal
from typing import NamedTuple

from eft_eval.characters import HALF_CHARACTER
from eft_eval.judging.prompts.endings import ending_of
from eft_eval.judging.prompts.json_replies import json_verdicts
from eft_eval.judging.prompts.reasoning import has_mark, without_marks, without_reasoning
from eft_eval.verdicts.verdict import Scale, Status

__all__ = ["PARSER_VERSION", "Parsed", "has_fraction", "has_score_line", "parse_reply"]

PARSER_VERSION = 5
"""Raise it whenever `parse_reply` reads some reply differently: stored replies are then read again.

1: first. 2: quoted lines and reasoning count for less; full-width colons, other scripts' digits;
``1.0`` on the scale percent is unreadable. 3: so is a reply with half a character (a lone
surrogate). 4: a score that the judged text holds, too, counts only where the reply's form
tells that it is no quotation. 5: only known good ends are whole replies; JSON in whatever
surroundings; reasoning of all known forms; two different verdicts in one reply are ambiguous.
"""

_LABEL = r"(?P<marks>[\s>#*_`+\-]*){word}[\s*_`]*[:：][*_`]*(?P<rest>.*)"
_SCORE = re.compile(_LABEL.format(word="score"), re.IGNORECASE | re.DOTALL)
_REASON = re.compile(_LABEL.format(word="reason"), re.IGNORECASE | re.DOTALL)
_LABEL_ANYWHERE = r"score[\"'\s*_`]*[:：][\"'\s*_`]*(?P<rest>none|null|{word}{number})"
_DIGITS = r"[-−]?\d+(\.\d+)?(\s*[%％٪])?"
_ANYWHERE = re.compile(_LABEL_ANYWHERE.format(word="", number=_DIGITS), re.IGNORECASE)
_ANYWHERE_PREFERRED = re.compile(
    _LABEL_ANYWHERE.format(word=r"tie|(?:response\s+)?", number=_DIGITS), re.IGNORECASE
)
_NUMBER = re.compile(r"(?P<number>[-−]?\d+(?P<fraction>\.\d+)?)(?P<percent>\s*[%％٪])?")
_TIE = re.compile(r"""["'“”‘’]?tie\.?["'“”‘’]?""", re.IGNORECASE)
_PREFERRED = re.compile(r"\Aresponse\s+(?=[12]\b)", re.IGNORECASE)
_NONE = re.compile(r"""["'“”‘’]?none\.?["'“”‘’]?""", re.IGNORECASE)
_CODE = re.compile(r"\s*(```|~~~)")
_JSON = "\ufffc"  # stands for a JSON verdict among lines of text
_REFUSAL = re.compile(
    r"(i'm (very |so |really )?sorry|i am (very |so |really )?sorry|sorry|i apologi[sz]e"
    r"|my apologies|i can't|i cannot|i can not|i won't|i will not"
    r"|i'm unable|i am unable|i'm not able|i am not able|as an ai)\b",
    re.IGNORECASE,
)
_EMPHASIS = "*_` \t\r\n\u00a0\u202f\u3000"

# The largest integer that every JSON reader keeps exact.
_LARGEST_COUNT = 2**53 - 1

# What is a judgement, readable or not: two that differ leave open which is meant.
_JUDGEMENTS = (Status.scored, Status.abstained, Status.out_of_range)

_Reading = tuple[Status, float | int | None]


class Parsed(NamedTuple):
    """What a reply says.

    Attributes:
        status: How the reply was read.
        value: The score if ``status`` is scored, else None. A count is an int >= 0, a percentage
            a float in [0, 100], a preference 1 or 2 for the better response, or 0 for a tie.
        reason: The judge's analysis where a score was found, else None.
    """

    status: Status
    value: float | int | None = None
    reason: str | None = None


class _Score(NamedTuple):
    """One score of a reply: where it stands, what follows the label, and whether it is quoted."""

    line: int
    rest: str
    quoted: bool
    reason: str | None = None  # of JSON


class _Scores(NamedTuple):
    """All scores of a reply, in order, and its lines, in which a sign stands for each JSON."""

    lines: list[str]
    found: list[_Score]

    @property
    def own(self) -> list[_Score]:
        return [score for score in self.found if not score.quoted]

    @property
    def chosen(self) -> _Score | None:
        """The last one; a quotation only where there is no other."""
        return next(reversed(self.own or self.found), None)


def parse_reply(
    text: str | None,
    finish_reason: str | None,
    refusal: str | None,
    scale: Scale,
    judged: str = "",
) -> Parsed:
    """Read a judge's reply in the paper's answer format (appendix A.1), or as JSON.

    The last line that starts with ``Score:`` counts, whatever its markdown; a line in a quotation
    (``> ``) or a closed code block only if there is no other, because judges quote what they
    judge. So does a JSON object with ``reason`` and ``score``, alone, in a code block or among
    words. Reasoning is not read. Where two of these differ, the reply is ambiguous, unless the
    judged text holds the other one. On the scale ``percent`` a value strictly between 0 and 1
    that is written with a decimal point and without ``%`` is a fraction: ``0.85`` is 85, while
    ``0``, ``1`` and ``0.85 %`` are percent as they stand. ``1.0`` could be either, and is
    unreadable. On the scale ``preference`` a score is 1 or 2, also as ``Response 1``, and ``tie``
    is 0.

    A score that ``judged`` holds, too, may be a quotation. It counts where it is the only one that
    the reply gives outside of quotations, after a ``Reason:`` or all by itself; else the reply is
    ambiguous.

    Args:
        text: The reply's content.
        finish_reason: The endpoint's; whatever is no known good end means that the number itself
            may be cut.
        refusal: The endpoint's refusal field, where it has one.
        scale: ``count`` (an integer >= 0), ``percent`` (0 to 100) or ``preference`` (1, 2, or 0).
        judged: What the judge was shown: the response, and the query where the prompt has it.
    """
    ending = ending_of(finish_reason)
    if ending == "cut":
        return Parsed(Status.truncated)
    if ending == "refused" or refusal:
        return Parsed(Status.refused)
    if not (text or "").strip():
        return Parsed(Status.malformed)
    if ending != "whole":
        return Parsed(Status.truncated)
    return _parse_whole(text or "", scale, judged)


def _parse_whole(text: str, scale: Scale, judged: str) -> Parsed:
    if HALF_CHARACTER.search(text):
        return Parsed(Status.malformed)  # broken on its way, and perhaps not only there
    answer = without_reasoning(text)
    if answer is None:
        return Parsed(Status.malformed)
    parsed = _parse_answer(answer, scale, judged)
    if has_mark(judged) and has_mark(text):
        # the marks may be the judged text's own, and so hide the judge's words, or let a
        # quotation pose as the answer
        whole = _parse_answer(without_marks(text), scale, judged)
        if parsed[:2] != whole[:2]:
            return Parsed(Status.ambiguous, None, parsed.reason)
    return parsed


def _parse_answer(answer: str, scale: Scale, judged: str) -> Parsed:
    scores = _find(answer)
    chosen = scores.chosen
    if chosen is not None:
        status, value = _read_score(chosen.rest, scale)
        reason = chosen.reason
        if reason is None:
            reason = _reason(scores.lines[: chosen.line])
        if _is_ambiguous(scores, chosen, scale, judged):
            return Parsed(Status.ambiguous, None, reason)
        return Parsed(status, value, reason)
    opening = answer.replace("’", "'").lstrip(_EMPHASIS + "\"'“>#")
    return Parsed(Status.refused if _REFUSAL.match(opening) else Status.malformed)


def has_score_line(text: str) -> bool:
    """Whether a text holds something that `parse_reply` would take for a score.

    In a response that is to be judged, that may be an attempt to be its own verdict.
    """
    return _find(text).chosen is not None


def has_fraction(text: str) -> bool:
    """Whether the score that `parse_reply` finds is read as a fraction of 1 on a percent scale.

    ``0.5`` counts as 50; a judge might mean half a percent, so such readings are counted.
    """
    chosen = _find(without_reasoning(text) or "").chosen
    written = None if chosen is None else _number_in(chosen.rest)
    return written is not None and _is_fraction(written)


def _find(answer: str) -> _Scores:
    """Return all scores of a reply, see `parse_reply`."""
    objects = json_verdicts(answer)
    if objects:
        answer = answer.replace(_JSON, " ")
    pieces, start = [], 0
    for begin, end in dict.fromkeys((one.start, one.end) for one in objects):
        pieces += [answer[start:begin], _JSON]
        start = end
    lines = "".join([*pieces, answer[start:]]).splitlines()
    in_code = _code_lines(lines)
    spans = iter(dict.fromkeys(one.start for one in objects))
    found: list[_Score] = []
    for number, line in enumerate(lines):
        quoted = line.lstrip().startswith(">")
        for _ in range(line.count(_JSON)):
            span = next(spans)
            found += [
                _Score(number, one.score, quoted, one.reason.strip())
                for one in objects
                if one.start == span
            ]
        label = None if _JSON in line else _SCORE.fullmatch(line)
        if label:
            quoted = ">" in label["marks"] or number in in_code
            found.append(_Score(number, label["rest"], quoted))
    return _Scores(lines, found)


def _is_ambiguous(scores: _Scores, chosen: _Score, scale: Scale, judged: str) -> bool:
    """Whether a reply leaves open which score is meant, or whether it is the judged text's own."""

    def read(rest: str) -> _Reading:
        return _read_score(rest, scale)

    given = read(chosen.rest)
    anywhere = _ANYWHERE_PREFERRED if scale == "preference" else _ANYWHERE
    held = {
        read("None" if found["rest"].lower() == "null" else found["rest"])
        for found in anywhere.finditer(judged)
    }
    own = {read(score.rest) for score in scores.own}
    if given not in held:
        among = own or {read(score.rest) for score in scores.found}
        rivals = {one for one in among if one[0] in _JUDGEMENTS} - held - {given}
        return given[0] in _JUDGEMENTS and bool(rivals)
    if own != {given}:
        return True  # another score besides, or quotations only
    lines = {score.line for score in scores.found}
    rest = [text for number, text in enumerate(scores.lines) if number not in lines]
    if chosen.reason is not None:
        rest += [scores.lines[number].replace(_JSON, "") for number in lines]
        return any(line.strip() and not _CODE.match(line) for line in rest)
    reasoned = any(_REASON.fullmatch(line) for line in scores.lines[: chosen.line])
    return any(line.strip() for line in rest) and not reasoned


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


def _read_score(rest: str, scale: Scale) -> _Reading:
    written = rest.strip(_EMPHASIS)
    if _NONE.fullmatch(written.removesuffix(".").strip(_EMPHASIS)):
        return Status.abstained, None
    if scale == "preference":
        if _TIE.fullmatch(written.removesuffix(".").strip(_EMPHASIS)):
            return Status.scored, 0
        rest = _PREFERRED.sub("", written)
    found = _number_in(rest)
    if not found or (found["percent"] and scale != "percent"):
        return Status.malformed, None
    number = _value(found)
    if scale == "preference":
        known = number in (0, 1, 2)
        return (Status.scored, int(number)) if known else (Status.out_of_range, None)
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
    return "\n".join(lines).replace(_JSON, "{...}").strip() or None
