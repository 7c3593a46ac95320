"""Whatever a judge replies in the two orders, no random reply is a win."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from judging_helpers import settings
from random_replies import replies

from eft_eval.judging import load_prompt
from eft_eval.judging.judges.answers import moderated
from eft_eval.judging.judges.base import Failure, Reply
from eft_eval.judging.judges.heads import Answer
from eft_eval.judging.judges.tries import read
from eft_eval.judging.outcome import verdict_of
from eft_eval.judging.preferences import Orders, values_of
from eft_eval.verdicts.verdict import Status

PROMPT = load_prompt("pairwise_helpfulness")
JUDGE = settings("http://127.0.0.1:1/v1")


def check(one: Any, other: Any) -> None:
    """Numbers beyond 2 are out of range here; what was scored 0, 1 or 2 is a tie, a win, a loss."""
    verdicts = []
    for drawn in (one, other):
        status, score, code, body, judged = drawn
        answer = read(Answer(code, {}, body))
        if isinstance(answer, Reply):
            outcome: Any = answer
        else:
            outcome = moderated(answer) if answer.kind == "moderated" else Failure(answer.words)
        verdict = verdict_of("k", outcome, PROMPT, JUDGE, judged=judged)
        if score is not None and score > 2:
            assert verdict.value is None
            assert verdict.status.value in ("out_of_range", "ambiguous")
        elif status != "ambiguous":
            assert (verdict.status.value, verdict.value) == (status, score)
        else:
            assert verdict.value is None
        verdicts.append(verdict)
    found = Orders(*verdicts)
    values = values_of([found])
    scored = [verdict.value for verdict in verdicts]
    if None in scored:
        assert values["win_rate"] is None
        assert found.verdict.status is not Status.scored
    else:
        wins = {0: (0.5, 0.5), 1: (1.0, 0.0), 2: (0.0, 1.0)}
        expected = (wins[scored[0]][0] + wins[scored[1]][1]) / 2
        assert values["win_rate"] == expected
        assert found.verdict.value == 100 * expected
    assert sum(v or 0 for k, v in values.items() if k.startswith("pair_")) == (
        values["win_rate"] is None
    )


@given(replies(), replies())
@hypothesis_settings(max_examples=150)
def test_no_random_reply_makes_a_wrong_win(one: Any, other: Any) -> None:
    check(one, other)


@pytest.mark.slow
@given(replies(), replies())
@hypothesis_settings(max_examples=5_000, suppress_health_check=[HealthCheck.too_slow])
def test_ten_thousand_replies(one: Any, other: Any) -> None:
    check(one, other)
