"""What several verdicts that count as one amount to, and which are stored."""

from __future__ import annotations

import itertools

import pytest
from judged_runs import make_verdict

from eft_eval.verdicts.store import to_record
from eft_eval.verdicts.verdict import Status, most_votes, status_of_several


@pytest.mark.parametrize("status", [*Status])
def test_a_verdict_is_stored_if_a_judge_replied(status: Status) -> None:
    verdict = make_verdict(1.0 if status is Status.scored else None, status)
    if status.has_reply:
        assert status.value in to_record(verdict)
    else:
        assert status in (Status.api_error, Status.unfinished)
        with pytest.raises(ValueError, match="never stored"):
            to_record(verdict)


def test_every_status_has_its_place_among_several() -> None:
    for pair in itertools.combinations(Status, 2):
        found = status_of_several(pair)
        assert found in pair
        assert found is not Status.scored
        assert found is status_of_several(pair[::-1])
    assert status_of_several([Status.scored] * 3) is Status.scored
    some = [Status.scored, Status.abstained, Status.refused, Status.malformed]
    assert status_of_several(some) is Status.malformed
    assert status_of_several([*some, Status.unfinished]) is Status.unfinished
    assert status_of_several([*some, Status.unfinished, Status.api_error]) is Status.api_error


@pytest.mark.parametrize(
    ("votes", "found"),
    [([1, 0, 1], 1.0), ([0, 0, 1], 0.0), ([1, 0], None), ([1], 1.0), ([0], 0.0), ([], None)],
)
def test_most_votes(votes: list[float], found: float | None) -> None:
    assert most_votes(votes) == found
