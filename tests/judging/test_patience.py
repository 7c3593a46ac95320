"""Waiting has a bound and a word; answers have a size, and come from who was asked."""

from __future__ import annotations

import base64
import gzip
import resource
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from email.utils import formatdate
from typing import Any

import pytest
from judging_helpers import KEY, PROMPT, Start, items, score, settings, shown, statuses

from eft_eval.errors import ConfigError
from eft_eval.judging import VerdictStore, judge_responses, patience, preflight
from eft_eval.judging.judges.heads import MOST_BYTES
from eft_eval.judging.judges.rate_limit import Pacer, retry_after_s
from eft_eval.verdicts.text import write_verdicts


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes a minute takes a second."""
    monkeypatch.setattr(patience, "_TELL_SECONDS", 0.5)
    monkeypatch.setattr(patience, "_SHORT_OUTAGE_SECONDS", 1.0)
    monkeypatch.setattr(patience, "_WORTH_REMEMBERING_SECONDS", 0.5)
    monkeypatch.setattr(patience, "_silences", {})


@pytest.mark.usefixtures("hurried")
def test_a_hanging_endpoint_is_given_up_and_remembered(
    openai_server_module: Any,
    openai_server: Start,
    store: VerdictStore,
    caplog: pytest.LogCaptureFixture,
) -> None:
    hangs = [True]
    server = openai_server(
        lambda prompt, body: (
            openai_server_module.Reply(fault="hang") if hangs[0] else score(prompt, body)
        )
    )
    judge = settings(server.url, timeout_s=0.5, max_retries=50, concurrency=4)
    start = time.monotonic()
    first = judge_responses(items(*"abcdefgh"), PROMPT, judge, store)
    assert time.monotonic() - start < 60
    assert statuses(first) == ["api_error"] * 8
    assert "tries in a row failed" in str(first[0].error)
    assert str(first[7].error).startswith("not sent: ")
    told = [line for line in caplog.messages if "no reply for" in line]
    assert len(told) == 1
    assert "EFT_JUDGE_MAX_WAIT" in told[0]

    asked = len(server.chats)
    assert asked <= 4 * 4
    second = judge_responses(items(*"ijklmnop"), PROMPT, judge, store)  # the next judge prompt
    assert statuses(second) == ["api_error"] * 8
    assert len(server.chats) - asked <= 4, "one try each, at once"

    hangs[0] = False
    assert set(statuses(judge_responses(items(*"abcdefgh"), PROMPT, judge, store))) == {"scored"}


@pytest.mark.usefixtures("hurried")
def test_busy_for_ever_has_an_end(
    openai_server_module: Any, openai_server: Start, store: VerdictStore
) -> None:
    server = openai_server(
        lambda prompt, body: openai_server_module.Reply(status=429, retry_after=0.2)
    )
    judge = settings(server.url, timeout_s=0.5, max_wait_s=2, max_retries=10**6, concurrency=2)
    start = time.monotonic()
    verdicts = judge_responses(items("a", "b", "c"), PROMPT, judge, store)
    assert 2 <= time.monotonic() - start < 6
    assert statuses(verdicts) == ["api_error"] * 3
    assert f"no reply from judge at {server.url} for 2 s" in str(verdicts[0].error)


@pytest.mark.usefixtures("hurried")
def test_a_slow_endpoint_is_waited_for(openai_server: Start, store: VerdictStore) -> None:
    def slow(prompt: str, body: object) -> str:
        time.sleep(0.7)
        return score(prompt, body)

    judge = settings(openai_server(slow).url, timeout_s=5, max_wait_s=2.4, concurrency=1)
    verdicts = judge_responses(items("a", "b", "c", "d"), PROMPT, judge, store)
    assert statuses(verdicts) == ["scored"] * 4


def test_resets_of_days_are_not_believed() -> None:
    pacer = Pacer(4)
    headers = {
        "x-ratelimit-limit-requests": "100",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "6d",
    }
    pacer.answered(pacer.sent(0.0, 10), 0.0, headers)
    assert 50 < (pacer.wait_s(1.0, 10) or 0) <= 60
    assert pacer.wait_s(61.0, 10) == 0


@pytest.mark.parametrize("ahead", [-86400, 0, 86400])
def test_a_wrong_clock_makes_no_wait(ahead: int) -> None:
    theirs = 1_800_000_000
    headers = {"date": formatdate(theirs), "retry-after": formatdate(theirs + 7)}
    assert retry_after_s(headers, theirs + ahead) == 7


def test_redirects_to_others_are_refused(
    openai_server_module: Any, openai_server: Start, store: VerdictStore
) -> None:
    other = openai_server(score, models=["judge"])
    away = f"{other.url}/chat/completions"
    server = openai_server(
        lambda prompt, body: openai_server_module.Reply(status=307, headers={"Location": away})
    )
    judge = settings(server.url, max_retries=5, concurrency=2)
    verdicts = judge_responses(items(*"abcdef"), PROMPT, judge, store)
    assert statuses(verdicts) == ["api_error"] * 6
    assert "is not followed: prompts and key go to the address that was given alone" in str(
        verdicts[0].error
    )
    assert len(server.chats) <= 2
    assert other.requests == []


def test_redirects_on_the_same_host_are_followed(
    openai_server_module: Any, openai_server: Start, store: VerdictStore
) -> None:
    server = openai_server(
        lambda prompt, body: openai_server_module.Reply(
            status=307, headers={"Location": "/v1/elsewhere"}
        )
    )
    judge_responses(items("a"), PROMPT, settings(server.url), store)
    assert [request.path for request in server.chats] == ["/v1/chat/completions", "/v1/elsewhere"]


@pytest.fixture
def endless() -> Iterator[Callable[[str, bytes], str]]:
    """Start an endpoint whose answers have 200 parts, in chunks of unknown number."""
    listener = socket.create_server(("127.0.0.1", 0))
    answer: list[Any] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(65536)
                head, part = answer
                head = f"HTTP/1.1 {head}\r\nContent-Type: application/json\r\n".encode()
                try:
                    connection.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n")
                    for _ in range(200):
                        connection.sendall(f"{len(part):x}\r\n".encode() + part + b"\r\n")
                except OSError:
                    continue

    def start(head: str, part: bytes) -> str:
        answer[:] = [head, part]
        return f"http://127.0.0.1:{listener.getsockname()[1]}/v1"

    thread = threading.Thread(target=serve)
    thread.start()
    yield start
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


SPACES = b" " * 2**20
PACKED = zlib.compressobj(wbits=31)
BOMB = PACKED.compress(SPACES * 200) + PACKED.flush()
SMALL_BOMB = gzip.compress(SPACES * 20)  # read at once


@pytest.mark.parametrize(
    ("head", "part", "status"),
    [
        ("200 OK", SPACES, "malformed"),
        ("400 Bad Request", SPACES, "api_error"),
        ("500 Internal Server Error", SPACES, "api_error"),
        ("200 OK\r\nContent-Encoding: gzip", BOMB, "malformed"),
        ("200 OK\r\nContent-Encoding: GZIP", SMALL_BOMB, "malformed"),
        ("500 Internal Server Error\r\nContent-Encoding: gzip", BOMB, "api_error"),
    ],
    ids=["reply", "400", "500", "packed", "packed at once", "packed 500"],
)
def test_an_answer_without_end_is_read_no_further(
    head: str, part: bytes, status: str, endless: Callable[[str, bytes], str], store: VerdictStore
) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    judge = settings(endless(head, part), concurrency=1)
    assert statuses(judge_responses(items("a"), PROMPT, judge, store)) == [status]
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 100 * 1024, "kilobytes"
    with pytest.raises(ConfigError, match="bytes"):
        preflight(judge)


def test_a_reply_that_says_it_is_too_large_is_not_read(
    openai_server: Start, store: VerdictStore
) -> None:
    def routes(method: str, path: str, content: bytes) -> tuple[int, bytes] | None:
        if b"large" in content:
            return 200, b" " * (MOST_BYTES + 1)
        return (200, b" " * (MOST_BYTES + 1)) if method == "GET" else None

    server = openai_server(score, routes=routes)
    judge = settings(server.url, concurrency=1)
    verdicts = judge_responses(items("a", "large", "b"), PROMPT, judge, store)
    assert statuses(verdicts) == ["scored", "malformed", "scored"]
    with pytest.raises(ConfigError, match="16,777,216 are read"):
        preflight(judge)


def test_a_reply_with_long_headers_is_read(
    openai_server_module: Any, openai_server: Start, store: VerdictStore
) -> None:
    headers = {"Content-Security-Policy": "a" * 20_000}
    server = openai_server(
        lambda prompt, body: openai_server_module.Reply("Reason: r.\nScore: 2", headers=headers)
    )
    (verdict,) = judge_responses(items("a"), PROMPT, settings(server.url), store)
    assert verdict.value == 2


@pytest.mark.parametrize("failing", [False, True])
def test_no_echoed_secret_is_kept(
    openai_server_module: Any, openai_server: Start, store: VerdictStore, failing: bool
) -> None:
    """An endpoint that echoes what it was sent, in its reply or its error."""
    basic = base64.b64encode(b"me@home:p!ss word").decode()
    echo = f"Authorization: Bearer {KEY}; Basic {basic}; user me@home, password p!ss word"

    def answer(prompt: str, body: object) -> Any:
        if failing:
            return openai_server_module.Reply(echo, status=400)
        return openai_server_module.Reply(
            f"Reason: {echo}\nScore: {shown(prompt).count('wrong')}", finish_reason="stop"
        )

    server = openai_server(answer)
    url = server.url.replace("//", "//me%40home:p%21ss%20word@")
    (verdict,) = judge_responses(items("wrong"), PROMPT, settings(url), store)
    assert verdict.status.value == ("api_error" if failing else "scored"), verdict.error
    said = write_verdicts([verdict]) + "".join(map(str, store))
    for secret in (KEY, basic, "me@home", "p!ss word", "p%21ss"):
        assert secret not in said
    assert "***" in said
