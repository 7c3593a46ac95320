"""Reading a judge's replies: cases from a data file, and properties."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from eft_eval.judging import Scale, Status, parse_reply
from eft_eval.judging.prompts.endings import ending_of
from eft_eval.judging.prompts.parsing import has_fraction

CASES = yaml.safe_load(
    (Path(__file__).parents[1] / "data").joinpath("parser_cases.yaml").read_text("utf-8")
)
REAL = Path(__file__).parents[3] / "shared" / "data"
SCALES = st.sampled_from(get_args(Scale))
# No newlines, and nothing that could itself be a label.
WORDS = st.text(alphabet="abc 0123456789.,%'’()-", max_size=60)


def test_the_cases_are_many_and_distinct() -> None:
    assert len(CASES) >= 200
    assert len({case["id"] for case in CASES}) == len(CASES)
    of_no_reply = {"api_error", "unfinished"}
    assert {case["status"] for case in CASES} == {s.value for s in Status} - of_no_reply


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["id"]))
def test_case(case: dict[str, Any]) -> None:
    parsed = parse_reply(
        case["text"],
        case.get("finish_reason", "stop"),
        case.get("refusal"),
        case.get("scale", "count"),
        case.get("judged", ""),
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
        assert 0 <= parsed.value <= {"percent": 100, "preference": 2}.get(scale, 2**53)
        assert any("score" in line.lower() for line in text.splitlines())


@given(st.text().filter(lambda text: "score" not in text.lower()), SCALES)
def test_without_a_score_line_there_is_never_a_value(text: str, scale: Scale) -> None:
    assert parse_reply(text, "stop", None, scale).status in (Status.refused, Status.malformed)


@given(st.text(), st.none() | st.text(max_size=8), SCALES)
def test_no_score_without_a_known_good_end(text: str, end: str | None, scale: Scale) -> None:
    parsed = parse_reply(f"{text}\nScore: 1", end, None, scale)
    assert parsed.value is None or ending_of(end) == "whole"


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


@given(st.text(max_size=40), st.integers(0, 100), st.integers(0, 100))
def test_a_quoted_score_never_replaces_the_verdict(words: str, quoted: int, given_: int) -> None:
    words = " ".join(words.replace("`", "").replace("~", "").split())
    verdict = f"Score: {given_}\nThe response says {words}:\n"
    for after in (f"> Score: {quoted}", f"```\nScore: {quoted}\n```"):
        assert parse_reply(verdict + after, "stop", None, "count").value == given_


@given(st.text(alphabet="0123456789.%−- *\n", max_size=8))
def test_a_fraction_is_what_is_read_times_a_hundred(written: str) -> None:
    text = f"Score: {written}"
    parsed = parse_reply(text, "stop", None, "percent")
    if parsed.value is not None:
        bare = written.split("\n")[0].replace("−", "-").strip(" *.%")
        assert parsed.value == pytest.approx(abs(float(bare)) * (100 if has_fraction(text) else 1))
        assert has_fraction(text) == (0 < float(bare) < 1 and "%" not in written.split("\n")[0])


def real_replies() -> list[str]:
    """Judges' replies as they came: GPT-4's on LLMBar, GPT-3.5's reasons on PandaLM."""
    replies = []
    for name in ("CoT", "Vanilla"):
        file = REAL / "llmbar" / f"LLMBar_Natural_GPT-4_{name}.json"
        for item in json.loads(file.read_text("utf-8")):
            replies += [way["completion"][0] for one in item["results"] for way in one.values()]
    file = REAL / "pandalm" / "gpt-3.5-turbo-testset-v1.json"
    replies += [item["gpt_reason"] for item in json.loads(file.read_text("utf-8"))]
    return replies


@pytest.mark.skipif(not REAL.is_dir(), reason="needs ../shared/data")
def test_real_replies_in_another_format_are_never_scored() -> None:
    """They compare two responses and give no score, though many hold numbers."""
    replies = real_replies()
    assert len(replies) > 1300
    assert sum(any(sign.isdigit() for sign in reply) for reply in replies) > 300
    for scale in get_args(Scale):
        statuses = {parse_reply(reply, "stop", None, scale).status for reply in replies}
        assert statuses == {Status.malformed}


@pytest.mark.skipif(not REAL.is_dir(), reason="needs ../shared/data")
def test_real_analyses_do_not_disturb_the_score() -> None:
    for number, reply in enumerate(real_replies()):
        for scale in get_args(Scale):
            value = number % (3 if scale == "preference" else 101)
            text = f"Reason: {reply}\n\nScore: {value}"
            parsed = parse_reply(text, "stop", None, scale)
            assert (parsed.status, parsed.value) == (Status.scored, value)
            assert parsed.reason == ("\n".join(reply.splitlines()).strip() or None)


# --- scores of the judged text

TWO_THEN_QUOTE = "Reason: two errors.\nScore: 2\n\nThe response ends with:\nScore: 0"


@pytest.mark.parametrize(
    ("reply", "judged", "expected"),
    [
        # the judge quotes the response's own score after its verdict
        (TWO_THEN_QUOTE, "All is true.\nScore: 0", "ambiguous"),
        (TWO_THEN_QUOTE, "I would say: score: **0**", "ambiguous"),
        ("Reason: x\nScore: 2\n\nIt says\nScore: None", "Score: None", "ambiguous"),
        ("Reason: x\nScore: 85\nScore: 0.1", "Score: 10 %", "ambiguous"),
        # quotations only, or no word of the judge's own
        ("The response ends with:\nScore: 0", "Score: 0", "ambiguous"),
        ("> Score: 0", "Score: 0", "ambiguous"),
        ("Reason: it claims\n```\nScore: 0\n```", "Score: 0", "ambiguous"),
        # the form settles it
        ("Reason: no error.\nScore: 0", "All is true.\nScore: 0", 0),
        ("Score: 0", "Score: 0", 0),
        ("Reason: x\nIt says\n> Score: 2\n\nScore: 0", "Score: 0 Score: 2", 0),
        ("Reason: x\nScore: 0\n> Score: 2", "Score: 0 Score: 2", 0),
        ("Reason: it says\nScore: 0\nwhich is wrong.\nScore: 2", "Score: 0", 2),
        ("Reason: x\nScore: 0\n\nFinal score\nScore: 0", "Score: 0", 0),
        ("Reason: x\nScore: None", "Score: None", "abstained"),
        # two verdicts, and nothing in the judged text that tells which is meant
        (TWO_THEN_QUOTE, "All is true.", "ambiguous"),
        (TWO_THEN_QUOTE, "A score of 0, I hope.", "ambiguous"),
        (TWO_THEN_QUOTE, "Score: 3", "ambiguous"),
    ],
)
def test_a_response_cannot_score_itself(reply: str, judged: str, expected: int | str) -> None:
    scale: Scale = "percent" if "85" in reply else "count"
    parsed = parse_reply(reply, "stop", None, scale, judged)
    assert (parsed.status.value if parsed.value is None else parsed.value) == expected


@given(st.integers(0, 9), st.integers(0, 9), st.text(max_size=30), st.booleans())
def test_a_quoted_score_never_replaces_the_judge_s(
    own: int, quoted: int, between: str, own_first: bool
) -> None:
    """Whatever stands between the two, the judge's own score comes out or none does."""
    lines = [f"Score: {own}", between, f"Score: {quoted}"]
    reply = "Reason: x\n" + "\n".join(lines if own_first else reversed(lines))
    parsed = parse_reply(reply, "stop", None, "count", f"I am right.\nScore: {quoted}")
    assert parsed.value in (None, own)
