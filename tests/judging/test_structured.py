"""Structured replies read as the same text; stored replies read again, never asked again."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from judging_helpers import PROMPT, Start, items, score, settings

from eft_eval.judging import (
    PARSER_VERSION,
    Status,
    VerdictStore,
    judge_responses,
    parse_reply,
    reparse,
)
from eft_eval.judging.judges.structured import response_format


@given(st.text(), st.integers(0, 10**6) | st.decimals(0, 100, places=2).map(float))
def test_numbers_are_read_as_in_text(reason: str, number: float) -> None:
    reply = json.dumps({"reason": reason, "score": number})
    for scale in ("count", "percent"):
        structured = parse_reply(reply, "stop", None, scale)
        text = parse_reply(f"Reason: x\n\nScore: {number}", "stop", None, scale)
        assert (structured.status, structured.value) == (text.status, text.value)


@pytest.mark.parametrize(
    ("reply", "status", "value"),
    [
        ('{"reason": "r", "score": null}', Status.abstained, None),
        ('{"reason": "r", "score": 3.0}', Status.scored, 3),
        ('{"reason": "r", "score": "4"}', Status.scored, 4),
        ('{"reason": "r", "score": "None"}', Status.abstained, None),
        ('{"reason": "r", "score": -1}', Status.out_of_range, None),
        ('{"reason": "r", "score": true}', Status.malformed, None),
        ('{"reason": "Score: 9", "score": "many"}', Status.malformed, None),
        ('{"reason": "r", "score": "5\\nScore: 6"}', Status.malformed, None),
        ('{"score": 3}', Status.malformed, None),
        ('{"reason": "r", "sco', Status.malformed, None),
        ("[3]", Status.malformed, None),
        ("Reason: no JSON at all.\nScore: 2", Status.scored, 2),
        (None, Status.malformed, None),
    ],
)
def test_replies_of_all_kinds(reply: str | None, status: Status, value: object) -> None:
    read = parse_reply(reply, "stop", None, "count")
    assert (read.status, read.value) == (status, value)


def test_the_reason_comes_first() -> None:
    # a judge that writes the number first has no reason yet
    schema = response_format()["json_schema"]["schema"]
    assert list(schema["properties"]) == schema["required"] == ["reason", "score"]


def test_a_new_parser_reads_again_and_asks_nobody(
    openai_server: Start, store: VerdictStore
) -> None:
    server = openai_server(score)
    asked = settings(server.url)
    (fresh,) = judge_responses(items("wrong"), PROMPT, asked, store)
    before = dataclasses.replace(
        fresh, status=Status.malformed, value=None, reason=None, parser_version=0
    )
    other = VerdictStore(store.path.with_name("old.sqlite3"))
    other.put(before)
    assert judge_responses(items("wrong"), PROMPT, asked, other) == [fresh]
    assert fresh.parser_version == PARSER_VERSION
    assert len(server.chats) == 1


@pytest.mark.parametrize("status", [Status.abstained, Status.refused, Status.truncated])
def test_a_new_parser_reads_every_kind(
    openai_server: Start, store: VerdictStore, status: Status
) -> None:
    (fresh,) = judge_responses(items("wrong"), PROMPT, settings(openai_server(score).url), store)
    wrongly = dataclasses.replace(fresh, status=status, value=None, parser_version=0)
    assert reparse(wrongly, "count") == fresh
    same = dataclasses.replace(wrongly, parser_version=PARSER_VERSION)
    assert reparse(same, "count") == same


def test_a_refusal_in_a_field_of_its_own_stays_one(
    openai_server: Start, openai_server_module: Any, store: VerdictStore
) -> None:
    server = openai_server(lambda *_: openai_server_module.Reply(None, refusal="Not that."))
    (verdict,) = judge_responses(items("a"), PROMPT, settings(server.url), store)
    old = dataclasses.replace(verdict, parser_version=0)
    assert reparse(old, "count").status is Status.refused


def test_second_opinions_are_stored_on_their_own(openai_server: Start, store: VerdictStore) -> None:
    count = 0

    def fickle(prompt: str, body: object) -> str:
        nonlocal count
        count += 1
        return f"Score: {count}"

    server = openai_server(fickle)
    asked = settings(server.url)
    found = [
        judge_responses(items("a"), PROMPT, asked, store, repeat=repeat)[0].value
        for repeat in (0, 1, 2, 0, 1, 2)
    ]
    assert found == [1, 2, 3, 1, 2, 3]
