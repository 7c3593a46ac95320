"""What a run's judge left without a verdict, said once more in the last lines of the process."""

from __future__ import annotations

import atexit
import sys
from typing import NamedTuple

from eft_eval.judging.prompts.measures import Measure
from eft_eval.streams import say

__all__ = ["LostVerdicts", "lost_verdicts", "note_lost"]


class LostVerdicts(NamedTuple):
    """Responses that a judge was asked about, and gave no verdict on.

    Attributes:
        measure: What was judged.
        missing: Responses without a verdict.
        asked: Responses judged.
        why: The first one's error.
    """

    measure: Measure
    missing: int
    asked: int
    why: str


_LOST: list[LostVerdicts] = []


def note_lost(lost: LostVerdicts) -> None:
    """Remember lost verdicts, to say so at the very end: lm-eval's tables hide an earlier word."""
    if not _LOST:
        atexit.register(_say)
    _LOST.append(lost)


def lost_verdicts() -> tuple[LostVerdicts, ...]:
    """Return what this process has lost so far."""
    return tuple(_LOST)


def _say() -> None:
    if sys.stderr is None or sys.stderr.closed:
        return
    for one in _LOST:
        say(
            f"eft-eval: INCOMPLETE: {one.missing} of {one.asked} responses have no verdict on "
            f"{one.measure.name} ({one.why}); scores rest on the others",
            sys.stderr,
        )
    say(
        "eft-eval: `eft-eval judge RUN_DIR` asks for the missing verdicts again; "
        "`eft-eval bless` refuses the run until then",
        sys.stderr,
    )
