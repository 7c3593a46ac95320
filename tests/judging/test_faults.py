"""Judging while everything goes wrong: an endpoint with faults, kills, and rival processes."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from judging_helpers import KEY, PROMPT, Start, items, readings, score, settings, shown, statuses

from eft_eval.judging import VerdictStore, judge_responses

# Shares of tries that fail, as cumulative thresholds of a hash in [0, 1).
FAULTS = (
    (0.10, {"status": 429, "retry_after": 0.05}),
    (0.15, {"status": 500}),
    (0.18, {"fault": "reset"}),
    (0.20, {"fault": "hang"}),
    (0.22, {"fault": "truncate"}),
    (0.24, {"fault": "cut"}),
    (0.26, {"fault": "garbage"}),
    (0.28, {"fault": "list"}),
    (0.29, {"fault": "endless"}),
)

JUDGE = """
import json, logging, sys
from eft_eval.judging import *
logging.basicConfig(level=logging.INFO)
path, url, count, concurrency = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
settings = JudgeSettings(
    "judge", url, "sk-test-4711", concurrency=concurrency, max_retries=8, timeout_s=5
)
items = [JudgeItem(f"{number} " + "wrong " * (number % 4)) for number in range(count)]
found = judge_responses(items, load_prompt("factuality"), settings, VerdictStore(path))
print(json.dumps([(verdict.status.value, verdict.value) for verdict in found]))
"""


def given(count: int) -> list[Any]:
    return items(*(f"{number} " + "wrong " * (number % 4) for number in range(count)))


def calm(reply: type, prompt: str, body: object) -> Any:
    """The judge without faults; some responses are refused, some replies unreadable."""
    number = int(shown(prompt).split()[0])
    if number % 33 == 5:
        return reply(None, refusal="I cannot judge this.")
    if number % 50 == 7:
        return reply("I would say it is fine.")
    return reply(score(prompt, body))


def share(*parts: object) -> float:
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def stormy(module: ModuleType) -> Callable[[str, Any], Any]:
    tries: Counter[str] = Counter()
    lock = threading.Lock()

    def answer(prompt: str, body: object) -> Any:
        with lock:
            tries[prompt] += 1
            number = tries[prompt]
        chance = share(shown(prompt), number)
        for threshold, what in FAULTS:
            if chance < threshold:
                return module.Reply("scripted fault", **what)
        reply = calm(module.Reply, prompt, body)
        if chance > 0.95:
            return module.Reply(reply.text, refusal=reply.refusal, fault="drip")
        return reply

    return answer


def run(path: Path, url: str, count: int, concurrency: int = 8) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", JUDGE, str(path), url, str(count), str(concurrency)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_a_storm_changes_no_score(
    openai_server: Start,
    openai_server_module: ModuleType,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    count, retries = 300, 8
    calm_server = openai_server(lambda p, b: calm(openai_server_module.Reply, p, b))
    store = VerdictStore(tmp_path / "calm.sqlite3")
    expected = judge_responses(given(count), PROMPT, settings(calm_server.url), store)

    server = openai_server(stormy(openai_server_module), key=KEY)
    store = VerdictStore(tmp_path / "storm.sqlite3")
    asked = settings(server.url, max_retries=retries, timeout_s=1.0)
    with caplog.at_level(logging.INFO):
        found = judge_responses(given(count), PROMPT, asked, store)

    assert [one.error for one in found if one.error] == []
    assert readings(found) == readings(expected)
    assert {"scored", "refused", "malformed"} == set(statuses(found))
    tries = Counter(server.prompts())
    assert sum(tries.values()) > 1.2 * count  # the storm was one
    assert max(tries.values()) <= retries + 1
    assert set(server.paid.values()) == {1}  # a whole reply is never asked for again
    assert len(store) == count
    ours = [line.getMessage() for line in caplog.records if line.name == "eft_eval.judging"]
    kinds = [line.split(": ", 1)[1] for line in ours]
    assert len(kinds) == len(set(kinds)) <= len(FAULTS)  # a line per kind, not per item
    assert any("429" in kind for kind in kinds)
    assert KEY not in caplog.text
    assert KEY not in repr(found)


@pytest.mark.slow
def test_a_kill_in_the_storm_and_again(
    openai_server: Start, openai_server_module: ModuleType, tmp_path: Path
) -> None:
    count = 120
    frozen, release = threading.Event(), threading.Event()
    storm = stormy(openai_server_module)
    answered = 0

    def answer(prompt: str, body: object) -> Any:
        nonlocal answered
        answered += 1
        if answered > 60 and not release.is_set():
            frozen.set()
            release.wait(30)
        return storm(prompt, body)

    server = openai_server(answer)
    path = tmp_path / "verdicts.sqlite3"
    first = run(path, server.url, count)
    try:
        assert frozen.wait(30)
        time.sleep(0.5)  # what was answered arrives and is kept
        paid_before = dict(server.paid)
        os.kill(first.pid, signal.SIGKILL)
    finally:
        first.kill()
        first.communicate()
        server_requests = len(server.chats)
        release.set()
    assert len(VerdictStore(path)) == len(paid_before) > 10  # nothing that was paid for is lost

    second = run(path, server.url, count)
    out, log = second.communicate(timeout=60)
    assert second.returncode == 0, log
    calm_server = openai_server(lambda p, b: calm(openai_server_module.Reply, p, b))
    store = VerdictStore(tmp_path / "calm.sqlite3")
    expected = judge_responses(given(count), PROMPT, settings(calm_server.url), store)
    assert [tuple(pair) for pair in json.loads(out)] == readings(expected)
    asked_again = {
        str(chat.body["messages"][-1]["content"]) for chat in server.chats[server_requests:]
    }
    assert not asked_again & set(paid_before)
    assert len(VerdictStore(path)) == count


@pytest.mark.slow
@pytest.mark.parametrize("kill", [False, True])
def test_two_processes_over_one_store(
    openai_server: Start, openai_server_module: ModuleType, tmp_path: Path, kill: bool
) -> None:
    count = 80

    def slow(prompt: str, body: object) -> Any:
        time.sleep(0.05)
        return calm(openai_server_module.Reply, prompt, body)

    server = openai_server(slow)
    path = tmp_path / "verdicts.sqlite3"
    processes = [run(path, server.url, count, 4) for _ in range(2)]
    if kill:  # one of them, once both are at work; the other takes its items over
        deadline = time.monotonic() + 30
        while len(server.chats) < 30 and time.monotonic() < deadline:
            time.sleep(0.01)
        processes[0].kill()
        processes[0].communicate()
        processes = processes[1:]
    ended = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), ended
    results = [json.loads(out) for out, _ in ended]
    assert results[0] == results[-1]
    assert len(results[0]) == count
    asked = Counter(server.prompts())
    assert len(asked) == count
    if kill:
        assert sum(asked.values()) <= count + 4  # what was in flight at the kill
    else:
        assert set(asked.values()) == {1}


def test_a_drip_without_end_is_cut(
    openai_server: Start, openai_server_module: ModuleType, tmp_path: Path
) -> None:
    server = openai_server(lambda *_: openai_server_module.Reply("x", fault="endless"))
    started = time.monotonic()
    asked = settings(server.url, timeout_s=0.5, max_retries=1)
    store = VerdictStore(tmp_path / "v.sqlite3")
    (verdict,) = judge_responses(items("a"), PROMPT, asked, store)
    assert time.monotonic() - started < 10
    assert verdict.error == "no whole reply within 0.5 s"
    assert len(server.chats) == 2


def test_an_account_without_money_is_not_asked_again(
    openai_server: Start, openai_server_module: ModuleType, tmp_path: Path
) -> None:
    reply = openai_server_module.Reply("no quota", status=429, code="insufficient_quota")
    server = openai_server(lambda *_: reply)
    asked = settings(server.url, max_retries=5, concurrency=1)
    store = VerdictStore(tmp_path / "v.sqlite3")
    verdicts = judge_responses(items("a", "b"), PROMPT, asked, store)
    assert len(server.chats) == 1
    assert statuses(verdicts) == ["api_error", "api_error"]


def test_a_pause_too_long_is_not_waited_for(
    openai_server: Start, openai_server_module: ModuleType, tmp_path: Path
) -> None:
    reply = openai_server_module.Reply("come back tomorrow", status=429, retry_after=86400)
    server = openai_server(lambda *_: reply)
    store = VerdictStore(tmp_path / "v.sqlite3")
    asked = settings(server.url, max_retries=5)
    (verdict,) = judge_responses(items("a"), PROMPT, asked, store)
    assert "wait 86400 s" in str(verdict.error)
    assert len(server.chats) == 1


def test_no_secret_is_kept_anywhere(
    openai_server: Start,
    openai_server_module: ModuleType,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The endpoint that repeats the key in its errors does not get it into ours."""

    def leaky(prompt: str, body: object) -> Any:
        if shown(prompt) == "odd":
            return openai_server_module.Reply(f"bad key {KEY} in the header", status=400)
        return score(prompt, body)

    server = openai_server(leaky)
    store = VerdictStore(tmp_path / "v.sqlite3")
    with caplog.at_level(logging.DEBUG, logger="eft_eval"):
        verdicts = judge_responses(items("odd", "a"), PROMPT, settings(server.url), store)
    assert "***" in str(verdicts[0].error)
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert KEY.encode() not in kept
    assert KEY not in caplog.text + json.dumps([v.to_dict() for v in verdicts])


def test_a_full_disk_costs_no_verdict(
    openai_server: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = openai_server(score)
    store = VerdictStore(tmp_path / "v.sqlite3")
    with store.connection() as connection:
        connection.execute(
            "CREATE TRIGGER full BEFORE INSERT ON verdicts"
            " BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"
        )
    verdicts = judge_responses(items("a", "wrong", "c"), PROMPT, settings(server.url), store)
    assert [verdict.value for verdict in verdicts] == [0, 1, 0]
    assert len(store) == 0
    assert "3 verdicts are not in the store, but in " in caplog.text
    assert "database or disk is full" in caplog.text
    with store.connection() as connection:
        connection.execute("DROP TRIGGER full")
    again = VerdictStore(tmp_path / "v.sqlite3")  # a process that failed sends nothing more
    judge_responses(items("a", "wrong", "c"), PROMPT, settings(server.url), again)
    assert len(again) == 3
