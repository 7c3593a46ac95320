"""Reading a judge's replies: cases from a data file, and properties."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from eft_eval.judging import Scale, Status, parse_reply

CASES = yaml.safe_load(
    Path(__file__).with_name("data").joinpath("parser_cases.yaml").read_text("utf-8")
)
SCALES = st.sampled_from(get_args(Scale))
# No newlines, and nothing that could itself be a label.
WORDS = st.text(alphabet="abc 0123456789.,%'’()-", max_size=60)


def test_the_cases_are_many_and_distinct() -> None:
    assert len(CASES) >= 45
    assert len({case["id"] for case in CASES}) == len(CASES)
    assert {case["status"] for case in CASES} == {s.value for s in Status} - {"api_error"}


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["id"]))
def test_case(case: dict[str, Any]) -> None:
    parsed = parse_reply(
        case["text"],
        case.get("finish_reason", "stop"),
        case.get("refusal"),
        case.get("scale", "count"),
    )
    assert parsed == (Status(case["status"]), case.get("value"), case.get("reason"))
    assert type(parsed.value) is type(case.get("value"))


@given(st.integers(0, 10**6), WORDS)
def test_every_count_is_read_back_whatever_the_reason_says(count: int, reason: str) -> None:
    parsed = parse_reply(f"Reason: {reason}\n\nScore: {count}", "stop", None, "count")
    assert parsed == (Status.scored, count, reason.strip() or None)


@given(st.integers(0, 100))
def test_percent_and_fraction_agree(percent: int) -> None:
    written = [f"Score: {percent}", f"Score: {percent}%", f"Score: {percent}.0 %"]
    if 0 < percent < 100:
        written.append(f"Score: {percent / 100:.2f}")
    assert {parse_reply(text, "stop", None, "percent").value for text in written} == {percent}


@given(st.text(), st.none() | st.text(max_size=8), st.none() | st.text(max_size=8), SCALES)
def test_any_text_has_a_status_and_only_scored_ones_a_value(
    text: str, finish_reason: str | None, refusal: str | None, scale: Scale
) -> None:
    parsed = parse_reply(text, finish_reason, refusal, scale)
    assert (parsed.value is not None) == (parsed.status is Status.scored)


@given(st.text(alphabet="Score:None *_`.-%\"'/0123456789\n", max_size=80), SCALES)
def test_near_misses_stay_in_range(text: str, scale: Scale) -> None:
    parsed = parse_reply(text, "stop", None, scale)
    if parsed.status is Status.scored:
        assert parsed.value is not None
        assert 0 <= parsed.value <= (100 if scale == "percent" else 2**53)
        assert any("score" in line.lower() for line in text.splitlines())


@given(st.text().filter(lambda text: "score" not in text.lower()), SCALES)
def test_without_a_score_line_there_is_never_a_value(text: str, scale: Scale) -> None:
    assert parse_reply(text, "stop", None, scale).status in (Status.refused, Status.malformed)


@given(st.text(), SCALES)
def test_a_cut_reply_is_never_scored(text: str, scale: Scale) -> None:
    assert parse_reply(text + "\nScore: 1", "length", None, scale) == (Status.truncated, None, None)


@pytest.mark.parametrize("digits", ["9" * 5000, "0." + "1" * 5000, "-" + "9" * 5000])
@pytest.mark.parametrize("scale", get_args(Scale))
def test_a_number_of_any_length_is_survived(digits: str, scale: Scale) -> None:
    assert parse_reply(f"Score: {digits}", "stop", None, scale).status in (
        Status.scored,
        Status.out_of_range,
    )
