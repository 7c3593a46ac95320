"""Failures of an endpoint and interrupts: what is tried again, given up, and kept."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from judging_helpers import KEY, PROMPT, Start, items, readings, score, settings, shown, statuses

from eft_eval.judging import Status, Verdict, VerdictStore, judge_responses


def test_retry_after_is_honoured(
    openai_server: Start, openai_server_module: ModuleType, store: VerdictStore
) -> None:
    times: list[float] = []

    def busy_once(prompt: str, body: object) -> Any:
        times.append(time.monotonic())
        if len(times) == 1:
            return openai_server_module.Reply("slow down", status=429, retry_after=1.2)
        return score(prompt, body)

    server = openai_server(busy_once)
    (verdict,) = judge_responses(items("wrong"), PROMPT, settings(server.url, max_retries=2), store)
    assert verdict.value == 1
    assert len(times) == 2
    assert 1.2 <= times[1] - times[0] < 5  # the client's own first wait is at most 0.5 s


def test_retries_are_bounded(
    openai_server: Start, openai_server_module: ModuleType, store: VerdictStore
) -> None:
    reply = openai_server_module.Reply("overloaded", status=503, retry_after=0.01)
    server = openai_server(lambda *_: reply)
    (verdict,) = judge_responses(items("a"), PROMPT, settings(server.url, max_retries=2), store)
    assert verdict.status is Status.api_error
    assert "overloaded" in str(verdict.error)
    assert len(server.chats) == 3
    assert len(store) == 0


def test_a_refused_key_is_not_tried_again(openai_server: Start, store: VerdictStore) -> None:
    server = openai_server(score, key="another")
    asked = settings(server.url, max_retries=3, concurrency=1)
    verdicts = judge_responses(items("a", "b", "c"), PROMPT, asked, store)
    assert statuses(verdicts) == ["api_error"] * 3
    assert len(server.chats) == 1
    assert "Incorrect API key" in str(verdicts[0].error)
    assert all(str(v.error).startswith("not sent: the key was refused") for v in verdicts[1:])
    assert KEY not in repr(verdicts)
    assert KEY not in repr(asked)
    assert len(store) == 0


def test_a_moderated_text_does_not_end_the_run(
    openai_server: Start, openai_server_module: ModuleType, store: VerdictStore
) -> None:
    def moderated(prompt: str, body: object) -> Any:
        if shown(prompt) == "vile":
            return openai_server_module.Reply("flagged", status=403)
        return score(prompt, body)

    server = openai_server(moderated)
    asked = settings(server.url, concurrency=1)
    verdicts = judge_responses(items("a", "vile", "b"), PROMPT, asked, store)
    assert statuses(verdicts) == ["scored", "refused", "scored"]
    assert (verdicts[1].raw, verdicts[1].finish_reason) == ("flagged", "content_filter")


def test_an_outage_ends_soon_and_bad_requests_do_not_count(
    openai_server: Start, openai_server_module: ModuleType, store: VerdictStore
) -> None:
    reply = openai_server_module.Reply
    server = openai_server(
        lambda prompt, _: reply("no", status=400 if "odd" in shown(prompt) else 500)
    )
    given = items(*(f"odd {number}" for number in range(9)), *map(str, range(9)))
    verdicts = judge_responses(given, PROMPT, settings(server.url, concurrency=1), store)
    assert statuses(verdicts) == ["api_error"] * 18
    assert len(server.chats) == 9 + 3
    assert "not sent" not in "".join(str(v.error) for v in verdicts[:12])
    assert all(str(v.error).startswith("not sent: 3 failures in a row") for v in verdicts[12:])


def test_a_success_in_between_keeps_the_run_alive(
    openai_server: Start, openai_server_module: ModuleType, store: VerdictStore
) -> None:
    failed = openai_server_module.Reply("no", status=500)
    server = openai_server(lambda p, b: score(p, b) if int(shown(p)) % 3 == 2 else failed)
    given = items(*map(str, range(12)))
    verdicts = judge_responses(given, PROMPT, settings(server.url, concurrency=1), store)
    assert statuses(verdicts) == ["api_error", "api_error", "scored"] * 4


def test_a_server_that_dies_on_the_way(openai_server: Start, store: VerdictStore) -> None:
    def mortal(prompt: str, body: object) -> str:
        if len(dying.chats) > 5:
            dying.die()
        return score(prompt, body)

    dying = openai_server(mortal)
    given = items(*map(str, range(30)))
    first = judge_responses(given, PROMPT, settings(dying.url, concurrency=2), store)
    done = statuses(first).count("scored")
    assert 4 <= done <= 5
    assert statuses(first).count("api_error") == 30 - done
    assert "not sent" in str(first[-1].error)
    assert len(store) == done

    healthy = openai_server(score)
    second = judge_responses(given, PROMPT, settings(healthy.url), store)
    assert statuses(second) == ["scored"] * 30, [v.error for v in second]
    assert len(healthy.chats) == 30 - done


def test_a_page_in_place_of_a_reply(tmp_path: Path, openai_server: Start) -> None:
    # The address without /v1: our server answers 404, which is a failure like any other.
    server = openai_server(score)
    store = VerdictStore(tmp_path / "v.sqlite3")
    asked = settings(server.url.removesuffix("/v1"))
    assert statuses(judge_responses(items("a"), PROMPT, asked, store)) == ["api_error"]


def test_inside_a_running_loop(openai_server: Start, store: VerdictStore) -> None:
    server = openai_server(score)

    async def caller() -> list[Verdict]:
        return judge_responses(items("wrong"), PROMPT, settings(server.url), store)

    assert asyncio.run(caller())[0].value == 1


@pytest.mark.parametrize("inside_a_loop", [False, True])
def test_what_the_progress_raises_comes_out(
    openai_server: Start, store: VerdictStore, inside_a_loop: bool
) -> None:
    server = openai_server(score)

    def stop(done: int, total: int) -> None:
        if done:
            raise RuntimeError("enough")

    def call() -> None:
        judge_responses(
            items(*map(str, range(9))), PROMPT, settings(server.url, concurrency=1), store, stop
        )

    async def caller() -> None:
        call()

    with pytest.raises(RuntimeError, match="enough"):
        asyncio.run(caller()) if inside_a_loop else call()
    assert len(store) == 1


INTERRUPTED = """
import asyncio, signal, sys
from eft_eval.judging import *
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a shell's & started us
url, path, inside = sys.argv[1], sys.argv[2], sys.argv[3] == "True"
settings = JudgeSettings(model="judge", base_url=url, api_key="k", concurrency=2, max_retries=0)
def call():
    items = [JudgeItem(str(number)) for number in range(100)]
    judge_responses(items, load_prompt("factuality"), settings, VerdictStore(path))
async def caller():
    call()
try:
    asyncio.run(caller()) if inside else call()
except KeyboardInterrupt:
    sys.exit(42)
"""


@pytest.mark.parametrize("inside_a_loop", [False, True])
def test_an_interrupt_keeps_what_was_paid_for(
    openai_server: Start, tmp_path: Path, inside_a_loop: bool
) -> None:
    reached, over = threading.Event(), threading.Event()

    def stuck_after_ten(prompt: str, body: object) -> str:
        if int(shown(prompt)) >= 10:
            reached.set()
            over.wait(120)
        return score(prompt, body)

    server = openai_server(stuck_after_ten)
    path = tmp_path / "v.sqlite3"
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, server.url, str(path), str(inside_a_loop)]
    )
    try:
        assert reached.wait(120)
        time.sleep(0.3)  # the other request of the two may still be on its way
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(60) == 42
    finally:
        process.kill()
        process.wait()
        over.set()
    assert len(VerdictStore(path)) == 10


@pytest.mark.parametrize("ending", ["error", "network_error", "insufficient_system_resource"])
def test_a_failure_that_the_first_version_stored_is_asked_again(
    openai_server: Start, store: VerdictStore, ending: str
) -> None:
    server = openai_server(score)
    judge = settings(server.url)
    kept, lost = judge_responses(items("one wrong", "wrong wrong"), PROMPT, judge, store)
    # it read whatever came with such an end, and kept it
    first_version = replace(lost, finish_reason=ending, value=7, raw="Score: 7", parser_version=1)
    old = VerdictStore(store.path.with_name("first.sqlite3"))
    old.put_many([kept, first_version])
    asked = len(server.chats)
    found = judge_responses(items("one wrong", "wrong wrong"), PROMPT, judge, old)
    assert readings(found) == [("scored", 1), ("scored", 2)]
    assert len(server.chats) == asked + 1, "what was a reply is not asked again"
    assert {v.key: v.value for v in old} == {kept.key: 1, lost.key: 2}
    assert judge_responses(items("one wrong", "wrong wrong"), PROMPT, judge, old) == found
    assert len(server.chats) == asked + 1


def test_a_failure_of_the_first_version_stays_one_where_the_endpoint_is_down(
    openai_server: Start, store: VerdictStore
) -> None:
    server = openai_server(score)
    judge = settings(server.url)
    (lost,) = judge_responses(items("wrong"), PROMPT, judge, store)
    old = VerdictStore(store.path.with_name("first.sqlite3"))
    old.put_many([replace(lost, finish_reason="error", value=7, raw="Score: 7", parser_version=1)])
    server.die()
    (found,) = judge_responses(items("wrong"), PROMPT, judge, old)
    assert (found.status.value, found.value) == ("api_error", None)
