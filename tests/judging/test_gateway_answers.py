"""Answers as gateways and providers give them: each a verdict or an error, and no wrong score."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from gateway_answers import ANSWERS, GatewayAnswer
from judging_helpers import PROMPT, items, settings, shown

from eft_eval.judging import Status, VerdictStore, judge_responses
from eft_eval.judging.batch.files import read_answers
from eft_eval.judging.judges.adapting import Form, adapted
from eft_eval.judging.judges.base import Failure, Reply
from eft_eval.judging.judges.endpoint_errors import EndpointError, Kind
from eft_eval.judging.judges.heads import Answer
from eft_eval.judging.judges.tries import read, refused
from eft_eval.judging.outcome import verdict_of

SENT = {
    "model": "m",
    "messages": [],
    "temperature": 0,
    "max_tokens": 2048,
    "response_format": {},
    "seed": 1,
    "stream": False,
}


def content_of(given: GatewayAnswer) -> bytes:
    return given.body if isinstance(given.body, bytes) else json.dumps(given.body).encode()


def read_as_answer(given: GatewayAnswer) -> tuple[Reply | EndpointError, Answer]:
    answer = Answer(given.status, {}, content_of(given))
    return read(answer), answer


@pytest.mark.parametrize("name", ANSWERS)
def test_each_is_what_it_is(name: str) -> None:
    given = ANSWERS[name]
    found, answer = read_as_answer(given)
    if isinstance(found, EndpointError):
        outcome = refused(found, answer, "http://h/v1", answered=False).outcome
        if isinstance(outcome, Failure):
            assert found.kind == given.becomes, found
            assert given.says in outcome.error
            form = adapted(Form(), SENT, found)
            assert (None if form is None else form.changes) == given.sent
            return
        found = outcome
    asked = settings("http://127.0.0.1:1/v1")
    verdict = verdict_of("k", found, PROMPT, asked)
    assert verdict.status.value == given.becomes, (found, verdict)
    assert verdict.value == (2 if given.becomes == "scored" else None)


def test_in_a_batch_they_are_the_same() -> None:
    given = {name: one for name, one in ANSWERS.items() if not isinstance(one.body, bytes)}
    lines = [
        json.dumps({"custom_id": name, "response": {"status_code": one.status, "body": one.body}})
        for name, one in given.items()
        if one.status != 202
    ]
    outcomes = read_answers(["\n".join(lines)], structured=False).outcomes
    asked = settings("http://127.0.0.1:1/v1")
    assert len(outcomes) == len(lines) > 50
    for name, outcome in outcomes.items():
        verdict = verdict_of(name, outcome, PROMPT, asked, batch=True)
        failed = given[name].becomes in get_args(Kind)
        assert verdict.status.value == ("api_error" if failed else given[name].becomes), name
        assert verdict.value == (2 if given[name].becomes == "scored" else None), name


def test_all_at_one_endpoint_at_once_none_changes_what_another_is(
    openai_server: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that end the sending, or change every request after them, have tests of their own."""
    monkeypatch.setattr("eft_eval.judging.judges.endpoint._FIRST_WAIT_S", 0.001)
    given = {
        name: one
        for name, one in ANSWERS.items()
        if one.becomes not in ("key", "credit", "model", "address") and one.sent is None
    }
    names = [*given]
    random.Random(1).shuffle(names)

    def routes(method: str, path: str, sent: bytes) -> tuple[int, bytes] | None:
        if method == "GET":
            return None
        prompt = shown(json.loads(sent)["messages"][-1]["content"])
        answer = given[prompt.partition("#")[0]]
        return answer.status, content_of(answer)

    server = openai_server(lambda prompt, body: "", routes=routes)
    store = VerdictStore(tmp_path / "verdicts.sqlite3")
    asked = settings(server.url, concurrency=32, max_retries=0)
    texts = [f"{name}#{number}" for number, name in enumerate(names)]
    verdicts = judge_responses(items(*texts), PROMPT, asked, store)
    for text, verdict in zip(texts, verdicts, strict=True):
        becomes = given[text.partition("#")[0]].becomes
        status = "api_error" if becomes in get_args(Kind) else becomes
        assert verdict.status.value == status, (text, verdict)
        assert verdict.value == (2 if status == "scored" else None), text
        assert "sent" not in verdict.parameters, text
    assert len(store) == sum(verdict.status is not Status.api_error for verdict in verdicts)
