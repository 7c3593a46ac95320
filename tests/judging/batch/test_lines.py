"""Lines and sizes of the files that the Batch API takes and gives."""

from __future__ import annotations

import itertools
import json

from batch_requests import completion
from hypothesis import given
from hypothesis import strategies as st

from eft_eval.judging import JudgeSettings
from eft_eval.judging.batch.files import BatchLimits, read_answers, request_line, split
from eft_eval.judging.judges.base import Failure, Reply


@given(st.lists(st.integers(1, 60), max_size=40), st.integers(1, 7), st.integers(20, 200))
def test_no_file_passes_the_limits(sizes: list[int], most: int, size: int) -> None:
    lines = [(str(number), b"x" * length) for number, length in enumerate(sizes)]
    parts = list(split(lines, BatchLimits(most, size)))
    assert [pair for part in parts for pair in part.items()] == lines
    for part in parts:
        assert 1 <= len(part) <= most
        assert len(part) == 1 or sum(map(len, part.values())) <= size
    for one, following in itertools.pairwise(parts):
        first = next(iter(following.values()))
        whole = sum(map(len, one.values())) + len(first)
        assert len(one) == most or whole > size  # no file could have taken one more


def test_request_lines(judge: JudgeSettings) -> None:
    line = json.loads(request_line("k", "a \ud800 é\u2028", judge))
    assert line["custom_id"] == "k"
    assert line["body"]["messages"] == [{"role": "user", "content": "a \ud800 é\u2028"}]
    assert line["body"]["temperature"] == 0
    assert request_line("k", "two\nlines\u2028", judge).count(b"\n") == 1


def test_answers_of_all_kinds() -> None:
    good = completion(
        {"model": "m", "messages": [{"content": "RESPONSE: x USE THE ANSWER FORMAT"}]}
    )
    lines = [
        {"custom_id": "good", "response": {"status_code": 200, "body": good}, "error": None},
        {"custom_id": "good", "response": {"status_code": 500, "body": None}, "error": None},
        {"custom_id": "no body", "response": {"status_code": 200, "body": None}},
        {"custom_id": "empty"},
        {"custom_id": "odd", "response": {"status_code": 200, "body": {"choices": []}}},
    ]
    text = "\n".join([*map(json.dumps, lines), "{", "[]", "", "3"])
    answers = read_answers([text], structured=False)
    assert answers.unreadable == 3
    assert isinstance(answers.outcomes["good"], Reply)
    assert {name for name, one in answers.outcomes.items() if isinstance(one, Failure)} == {
        "no body",
        "empty",
        "odd",
    }
