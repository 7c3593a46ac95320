"""One odd reply ruins nothing else: whatever a judge sends, verdict statuses come out."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from judging_helpers import PROMPT, items, settings, shown, statuses

from eft_eval.judging import Status, VerdictStore, judge_responses, load_prompt, reparse
from eft_eval.judging.batch.files import read_answers
from eft_eval.judging.judges.answers import outcome_of, read_answer
from eft_eval.judging.outcome import verdict_of
from eft_eval.verdicts.store import to_record
from eft_eval.verdicts.text import read_verdicts, write_verdicts
from eft_eval.verdicts.verdict import Verdict

PERCENT = load_prompt("helpfulness")
DEEP = "[" * 200_000
HUGE = "9" * 5000
JUDGE = settings("http://127.0.0.1:1/v1", model="gpt-4.1-2025-04-14")


def completion(content: str, finish: str = '"stop"', usage: str = "{}") -> bytes:
    """A completion whose parts are JSON text as it stands."""
    choice = f'{{"message": {{"content": {content}}}, "finish_reason": {finish}}}'
    return f'{{"model": "judge", "choices": [{choice}], "usage": {usage}}}'.encode()


SCORE_1 = '"Reason: one.\\nScore: 1"'
ODD = {
    "deep content": (completion(f'"{DEEP}"'), "malformed"),
    "deep beside the content": (completion(SCORE_1, usage=DEEP + "]" * len(DEEP)), "malformed"),
    "deep in place of the content": (completion("[" * 900 + "]" * 900), "malformed"),
    "half a character": (completion('"Reason: \\ud83d\\nScore: 1"'), "malformed"),
    "half a character in a name": (completion(SCORE_1, finish='"\\ud83d"'), "truncated"),
    "a huge number": (completion(f'"Score: {HUGE}"'), "out_of_range"),
    "a number too large for float": (completion('"Score: 1e999"'), "malformed"),
    "NaN": (completion('"Score: NaN"'), "malformed"),
    "Infinity": (completion('"Score: Infinity"'), "malformed"),
    "NaN in place of text": (completion("NaN"), "malformed"),
    "huge usage": (completion(SCORE_1, usage=f'{{"prompt_tokens": {"9" * 400}}}'), "scored"),
    "NaN usage": (completion(SCORE_1, usage='{"prompt_tokens": NaN}'), "scored"),
    "endless usage": (completion(SCORE_1, usage=f'{{"prompt_tokens": {HUGE}}}'), "scored"),
}


@pytest.mark.parametrize("kind", ODD)
def test_an_odd_reply_is_one_verdict(
    kind: str, openai_server: Callable[..., Any], tmp_path: Path
) -> None:
    odd, expected = ODD[kind]

    def answer(method: str, path: str, content: bytes) -> tuple[int, bytes] | None:
        if method == "GET":
            return None
        prompt = json.loads(content)["messages"][-1]["content"]
        return 200, odd if shown(prompt) == "odd" else completion(SCORE_1)

    server = openai_server(lambda prompt, body: "", routes=answer)
    store = VerdictStore(tmp_path / "verdicts.sqlite3")
    given = items("a", "odd", "b")
    verdicts = judge_responses(given, PROMPT, settings(server.url), store)
    assert statuses(verdicts) == ["scored", expected, "scored"]
    samples = "".join(write_verdicts([verdict]) for verdict in verdicts)
    samples.encode("utf-8")  # as lm-eval writes it
    asked = len(server.chats)
    again = judge_responses(given, PROMPT, settings(server.url), store)
    assert statuses(again) == statuses(verdicts)
    assert len(server.chats) == asked


def test_an_odd_line_of_a_batch_is_one_verdict() -> None:
    key = "ab" * 32
    deep = f'{{"custom_id": "{key}", "response": {{"body": {DEEP}'
    good = {"status_code": 200, "body": json.loads(completion(SCORE_1))}
    lines = [deep, json.dumps({"custom_id": "cd" * 32, "response": good}), DEEP]
    answers = read_answers(["\n".join(lines)], structured=False)
    assert answers.unreadable == 1
    found = {one: verdict_of(one, reply, PROMPT, JUDGE) for one, reply in answers.outcomes.items()}
    assert {one: verdict.status.value for one, verdict in found.items()} == {
        key: "malformed",
        "cd" * 32: "scored",
    }


TEXTS = st.text(st.characters(codec=None, exclude_categories=()))  # half characters, too
NUMBERS = st.one_of(st.integers(), st.floats(), st.integers().map(lambda n: 10 ** min(abs(n), 600)))
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(TEXTS, inner)),
    max_leaves=20,
)
SCORES = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["", "Reason: x\n", "> ", "```\n", "<think>", "</think>\n"]),
    st.sampled_from(["Score:", "**Score**:", "SCORE：", "score :"]),
    st.one_of(TEXTS, NUMBERS.map(str), st.from_regex(r"[0-9٣०]{0,400}[.]?[0-9]{0,400} ?%?")),
    st.sampled_from(["", "\n", "\n```", ".", "**", "\nScore: 3"]),
)
CONTENTS = st.one_of(
    JSON,
    SCORES,
    TEXTS,
    st.fixed_dictionaries({"reason": JSON, "score": JSON}).map(json.dumps),
    st.builds(lambda deep: "[" * deep, st.integers(0, 100_000)),
)
COMPLETIONS = st.one_of(
    JSON,
    st.fixed_dictionaries(
        {
            "choices": st.one_of(
                JSON,
                st.lists(
                    st.fixed_dictionaries(
                        {"message": st.fixed_dictionaries({"content": CONTENTS})},
                        optional={"finish_reason": JSON},
                    ),
                    min_size=1,
                ),
            )
        },
        optional={
            "model": JSON,
            "usage": st.one_of(
                JSON, st.fixed_dictionaries({"prompt_tokens": JSON, "completion_tokens": JSON})
            ),
        },
    ),
)


@given(COMPLETIONS, st.booleans(), st.booleans())
@example({"choices": [{"message": {"content": f"Score: 0.{'0' * 400}1"}}]}, False, True)
def test_nothing_but_verdict_statuses_comes_out(sent: Any, structured: bool, percent: bool) -> None:
    prompt = PERCENT if percent else PROMPT
    outcome = outcome_of(read_answer(sent, structured=structured))
    verdict = verdict_of("k", outcome, prompt, JUDGE)
    assert isinstance(verdict.status, Status)
    assert (verdict.value is None) == (verdict.status is not Status.scored)
    if verdict.value is not None:
        assert math.isfinite(verdict.value)
        assert 0 <= verdict.value <= (100 if percent else 2**53 - 1)
    text = write_verdicts([verdict])
    text.encode("utf-8")
    assert read_verdicts(text) == [verdict]
    if verdict.status is not Status.api_error:
        record = to_record(verdict)
        record.encode("utf-8")
        assert Verdict.from_dict(json.loads(record)) == verdict
        assert reparse(verdict, prompt.scale) == verdict
