"""Random replies of all kinds: each ends as its kind says, and none gets a wrong score."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from judging_helpers import PROMPT
from judging_helpers import settings as judge_settings
from random_replies import replies

from eft_eval.judging import load_prompt
from eft_eval.judging.judges.answers import moderated
from eft_eval.judging.judges.base import Failure, Reply
from eft_eval.judging.judges.heads import Answer
from eft_eval.judging.judges.tries import read
from eft_eval.judging.outcome import reparse, verdict_of

PERCENT = load_prompt("helpfulness")
JUDGE = judge_settings("http://127.0.0.1:1/v1")


def check(drawn: tuple[str, int | None, int, bytes, str], percent: bool) -> None:
    status, score, code, body, judged = drawn
    found = read(Answer(code, {}, body))
    outcome: Reply | Failure
    if isinstance(found, Reply):
        outcome = found
    elif found.kind == "moderated":
        outcome = moderated(found)
    else:
        outcome = Failure(found.words)
    prompt = PERCENT if percent else PROMPT
    verdict = verdict_of("k", outcome, prompt, JUDGE, judged=judged)
    assert (verdict.status.value, verdict.value) == (status, score)
    if isinstance(outcome, Reply):
        assert reparse(verdict, prompt.scale, judged) == verdict


@given(replies(), st.booleans())
@settings(max_examples=300)
def test_random_replies(drawn: tuple[str, int | None, int, bytes, str], percent: bool) -> None:
    check(drawn, percent)


@pytest.mark.slow
@given(replies(), st.booleans())
@settings(max_examples=10_000, suppress_health_check=[HealthCheck.too_slow])
def test_ten_thousand(drawn: tuple[str, int | None, int, bytes, str], percent: bool) -> None:
    check(drawn, percent)
