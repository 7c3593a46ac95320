"""Endpoints as they are: what each of them answers is a verdict, or its words reach the user."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from endpoint_kinds import KINDS, Kind, completion
from judging_helpers import KEY, PROMPT, Start, items, settings, shown, statuses

from eft_eval.judging import VerdictStore, judge_responses
from eft_eval.judging.batch.files import read_answers
from eft_eval.judging.outcome import verdict_of

TRIES = 2


def content(payload: Any) -> bytes:
    return payload if isinstance(payload, bytes) else json.dumps(payload).encode()


def serve(openai_server: Start, kind: Kind, before: Callable[[str, int], Any] | None = None) -> Any:
    """A server of that kind; ``before`` may answer a prompt's n-th request in its place."""
    tries: Counter[str] = Counter()

    def answer(method: str, path: str, sent: bytes) -> tuple[int, bytes] | None:
        if method == "GET":
            return None
        body = json.loads(sent)
        prompt = shown(body["messages"][-1]["content"])
        tries[prompt] += 1
        instead = None if before is None else before(prompt, tries[prompt])
        status, payload = kind.answer(body) if instead is None else instead
        return status, content(payload)

    return openai_server(lambda prompt, body: "", routes=answer)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eft_eval.judging.judges.endpoint._FIRST_WAIT_S", 0.001)


@pytest.mark.parametrize("name", KINDS)
def test_calm(
    name: str, openai_server: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kind = KINDS[name]
    server = serve(openai_server, kind)
    store = VerdictStore(tmp_path / "verdicts.sqlite3")
    asked = settings(server.url, concurrency=1, max_retries=TRIES - 1)
    verdicts = judge_responses(items("a", "b"), PROMPT, asked, store)
    assert statuses(verdicts) == [kind.status] * 2, verdicts[0].error
    assert {verdict.value for verdict in verdicts} == {2 if kind.status == "scored" else None}
    told = caplog.text + str(verdicts[0].error)
    assert kind.says in told
    assert KEY not in told
    if kind.status == "api_error":
        assert len(store) == 0
        tries = 1 if kind.ends else 2 * TRIES if kind.passes else 2
        assert len(server.chats) == tries
    else:
        asked_so_far = len(server.chats)
        judge_responses(items("a", "b"), PROMPT, asked, store)
        assert len(server.chats) == asked_so_far, "a rerun asks nothing"


@pytest.mark.parametrize("name", KINDS)
def test_under_faults(name: str, openai_server: Start, tmp_path: Path) -> None:
    """Errors of other kinds before it change nothing in what comes out."""
    kind = KINDS[name]
    faults = [
        (429, {"error": {"message": "slow down", "code": "rate_limit_exceeded"}}),
        (200, {"error": {"message": "upstream", "code": 502}}),
        (500, b"<html>oops</html>"),
    ]

    def before(prompt: str, number: int) -> Any:
        return faults[number - 1] if number <= len(faults) else None

    server = serve(openai_server, kind, before)
    store = VerdictStore(tmp_path / "verdicts.sqlite3")
    asked = settings(server.url, concurrency=2, max_retries=len(faults) + 1)
    verdicts = judge_responses(items("a", "b", "c"), PROMPT, asked, store)
    assert statuses(verdicts) == [kind.status] * 3, verdicts[0].error
    assert {verdict.value for verdict in verdicts} == {2 if kind.status == "scored" else None}


@pytest.mark.parametrize("name", KINDS)
def test_in_a_batch(name: str) -> None:
    """A line of a batch is read as a live reply is."""
    status, payload = KINDS[name].answer({"max_tokens": 1, "stream": False, "temperature": 0})
    if isinstance(payload, bytes):
        return  # lines of a batch are JSON
    line = {"custom_id": "k", "response": {"status_code": status, "body": payload}}
    answers = read_answers([json.dumps(line)], structured=False)
    asked = settings("http://127.0.0.1:1/v1")
    verdict = verdict_of("k", answers.outcomes["k"], PROMPT, asked, batch=True)
    adapted = KINDS[name].says and KINDS[name].status == "scored"
    assert verdict.status.value == ("api_error" if adapted else KINDS[name].status)
    if verdict.error:
        assert KINDS[name].status != "api_error" or len(verdict.error) > 5


def test_words_of_each_kind_are_said_once(
    openai_server: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve(openai_server, KINDS["text, 400"])
    store = VerdictStore(tmp_path / "verdicts.sqlite3")
    given = items(*map(str, range(9)))
    judge_responses(given, PROMPT, settings(server.url), store)
    assert caplog.text.count("bad request, sorry") == 1
    assert "9 times: HTTP status 400" in caplog.text


def test_what_was_refused_is_written_into_the_verdict_and_asked_once(
    openai_server: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve(openai_server, KINDS["Azure: a reasoning model's deployment"])
    store = VerdictStore(tmp_path / "verdicts.sqlite3")
    asked = settings(server.url, concurrency=1)
    (verdict,) = judge_responses(items("a"), PROMPT, asked, store)
    assert verdict.parameters == {
        "temperature": 0,
        "max_tokens": 2048,
        "sent": {"max_completion_tokens": 2048},
    }
    assert len(server.chats) == 3
    judge_responses(items("b", "c"), PROMPT, asked, store)
    assert len(server.chats) == 5, "remembered for the process"
    assert caplog.text.count("from now on") == 2


def test_one_prompt_that_is_too_long_changes_nothing_for_the_others(
    openai_server: Start, tmp_path: Path
) -> None:
    def before(prompt: str, number: int) -> Any:
        return KINDS["vLLM: a prompt too long"].answer({}) if prompt == "long" else None

    server = serve(openai_server, KINDS["OpenAI"], before)
    store = VerdictStore(tmp_path / "verdicts.sqlite3")
    verdicts = judge_responses(items("long", "b"), PROMPT, settings(server.url), store)
    assert statuses(verdicts) == ["api_error", "scored"]
    assert "sent" not in verdicts[1].parameters


def test_a_budget_is_not_kept_without_a_limit(
    openai_server: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prices = tmp_path / "prices.json"
    prices.write_text('{"date": "2026-01-01", "models": {"judge": {"input": 1, "output": 1}}}')
    monkeypatch.setenv("EFT_JUDGE_PRICES", str(prices))
    from eft_eval.judging.cost.budget import Purse
    from eft_eval.judging.judges.registry import budget_for

    def no_limit(body: dict[str, Any]) -> tuple[int, Any]:
        for name in ("max_tokens", "max_completion_tokens"):
            if name in body:
                return 400, {"error": {"message": f"Unknown parameter: '{name}'", "param": name}}
        return 200, completion()

    server = serve(openai_server, Kind(no_limit))
    store = VerdictStore(tmp_path / "verdicts.sqlite3")
    asked = settings(server.url)
    (verdict,) = judge_responses(
        items("a"), PROMPT, asked, store, budget=budget_for(Purse(1), asked)
    )
    assert "takes no limit of tokens, which --budget needs" in str(verdict.error)
    (verdict,) = judge_responses(items("a"), PROMPT, asked, store)
    assert (verdict.value, verdict.parameters["sent"]) == (2, {"temperature": 0})


def test_an_error_too_large_to_be_read_is_no_verdict(openai_server: Start, tmp_path: Path) -> None:
    large = Kind(lambda body: (502, b"<html>" + b"x" * 2**21))
    server = serve(openai_server, large)
    store = VerdictStore(tmp_path / "verdicts.sqlite3")
    asked = settings(server.url, max_retries=1)
    (verdict,) = judge_responses(items("a"), PROMPT, asked, store)
    assert (statuses([verdict]), len(server.chats), len(store)) == (["api_error"], 2, 0)
