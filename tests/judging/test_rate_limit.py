"""The pace of asking: concurrency, pauses, tokens per minute, and what may be spent."""

from __future__ import annotations

import asyncio
import json
import math
import threading
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from judging_helpers import PROMPT, Start, items, score, settings, statuses

from eft_eval.errors import ConfigError
from eft_eval.judging import DEFAULT_MODEL, JudgeSettings, VerdictStore, cost_usd, judge_responses
from eft_eval.judging.cost.budget import Purse, most_prompt_tokens
from eft_eval.judging.cost.prices import price_of
from eft_eval.judging.judges.endpoint import EndpointJudge
from eft_eval.judging.judges.rate_limit import Pacer, duration_s, retry_after_s
from eft_eval.judging.judges.registry import budget_for, judge_for
from eft_eval.judging.progress import judging_progress

# --- the pacer alone


def bucket(limit: int, left: int, reset: str) -> dict[str, str]:
    return {
        "x-ratelimit-limit-tokens": str(limit),
        "x-ratelimit-remaining-tokens": str(left),
        "x-ratelimit-reset-tokens": reset,
    }


def test_no_more_at_once_than_the_limit() -> None:
    pacer = Pacer(2)
    first = pacer.sent(0.0, 1)
    pacer.sent(0.0, 1)
    assert pacer.wait_s(0.0, 1) is None
    pacer.failed(first)
    assert pacer.wait_s(0.0, 1) == 0


def test_a_burst_of_refusals_is_one_decrease_and_answers_win_it_back() -> None:
    pacer = Pacer(10)
    tickets = [pacer.sent(0.0, 1) for _ in range(10)]
    for ticket in tickets:
        pacer.refused(ticket, 1.0, {}, None)
    assert pacer.limit == pytest.approx(7)
    later = pacer.sent(2.0, 1)
    pacer.refused(later, 3.0, {}, None)
    assert pacer.limit == pytest.approx(4.9)
    for _ in range(5):  # one round of about `limit` answers adds about one
        pacer.answered(pacer.sent(4.0, 1), 5.0, {})
    assert 5.7 < pacer.limit < 6.0


@given(st.lists(st.booleans(), max_size=200), st.integers(1, 64))
def test_the_limit_stays_in_its_bounds(refusals: list[bool], bound: int) -> None:
    pacer = Pacer(bound)
    for now, refused in enumerate(refusals):
        assert pacer.wait_s(float(now), 1) == 0  # alone, a request may always go
        ticket = pacer.sent(float(now), 1)
        if refused:
            pacer.refused(ticket, now + 0.5, {}, None)
        else:
            pacer.answered(ticket, now + 0.5, {})
        assert 1 <= pacer.limit <= bound


def test_a_pause_holds_everything() -> None:
    pacer = Pacer(4)
    pacer.refused(pacer.sent(0.0, 1), 1.0, {}, 20.0)
    assert pacer.wait_s(1.0, 1) == pytest.approx(20)
    assert pacer.wait_s(15.0, 1) == pytest.approx(6)
    assert pacer.wait_s(21.0, 1) == 0


def test_tokens_are_waited_for() -> None:
    pacer = Pacer(8)
    # 600 of 1,000 are gone and come back within 60 s: 10 a second
    pacer.answered(pacer.sent(0.0, 600), 0.0, bucket(1000, 400, "1m0s"))
    assert pacer.wait_s(0.0, 400) == 0
    assert pacer.wait_s(0.0, 500) == pytest.approx(10)
    pacer.sent(0.0, 300)
    assert pacer.wait_s(0.0, 300) == pytest.approx(20)
    assert pacer.wait_s(20.0, 300) == 0
    assert pacer.wait_s(1000.0, 10**9) == 0  # more than fits in at all may be tried when full


def test_requests_per_minute_are_waited_for() -> None:
    pacer = Pacer(8)
    headers = {name.replace("tokens", "requests"): v for name, v in bucket(60, 2, "58s").items()}
    pacer.answered(pacer.sent(0.0, 500), 0.0, headers)
    pacer.sent(0.0, 500)
    pacer.sent(0.0, 500)
    assert pacer.wait_s(0.0, 500) == pytest.approx(1)
    assert pacer.wait_s(1.0, 500) == 0


def test_what_went_out_later_is_not_in_the_headers() -> None:
    pacer = Pacer(8)
    first = pacer.sent(0.0, 100)
    pacer.sent(1.0, 700)
    pacer.answered(first, 2.0, bucket(1000, 900, "6s"))
    assert pacer.wait_s(2.0, 300) == pytest.approx(100 / (100 / 6))


@given(st.lists(st.tuples(st.integers(1, 300), st.floats(0, 2)), min_size=1, max_size=80))
def test_a_true_bucket_is_never_overdrawn(wishes: list[tuple[int, float]]) -> None:
    """An endpoint that takes from its bucket at once, and tells: nothing is ever refused."""
    limit, rate = 1000.0, 50.0
    left, now = limit, 0.0
    pacer = Pacer(4)
    for tokens, idle in wishes:
        now += idle
        left = min(limit, left + idle * rate)
        while wait := pacer.wait_s(now, tokens):
            now += wait
            left = min(limit, left + wait * rate)
        ticket = pacer.sent(now, tokens)
        left -= tokens
        # the first request goes out before anything is known
        assert left >= -1, (tokens, left)
        shown = max(0, math.floor(left))
        reset = f"{(limit - shown) / rate + 0.001:.3f}s"
        pacer.answered(ticket, now, bucket(int(limit), shown, reset))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("6m0s", 360.0),
        ("1.5s", 1.5),
        ("20ms", 0.02),
        ("1h2m3s", 3723.0),
        ("1d", 86400.0),
        ("", None),
        (None, None),
        ("5", None),
        ("-1s", None),
        ("soon", None),
        ("1.2.3s", None),
    ],
)
def test_durations(text: str | None, seconds: float | None) -> None:
    assert duration_s(text) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.25"}, 0.25),
        ({"retry-after-ms": "40", "retry-after": "7"}, 0.04),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, 60.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"retry-after": "a while"}, None),
        ({"retry-after": "-3"}, None),
        ({}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers, unix_now=1792567620.0) == seconds


# --- against a server


def test_concurrency_finds_what_the_endpoint_has_room_for(
    openai_server: Start, openai_server_module: ModuleType, store: VerdictStore
) -> None:
    room, lock = 4, threading.Lock()
    busy = refused = 0

    def small(prompt: str, body: object) -> Any:
        nonlocal busy, refused
        with lock:
            if busy >= room:
                refused += 1
                return openai_server_module.Reply("busy", status=429, retry_after=0.02)
            busy += 1
        time.sleep(0.02)
        with lock:
            busy -= 1
        return score(prompt, body)

    server = openai_server(small)
    asked = settings(server.url, concurrency=16, max_retries=20)
    verdicts = judge_responses(items(*map(str, range(120))), PROMPT, asked, store)
    assert statuses(verdicts) == ["scored"] * 120
    # without adapting, 12 of 16 would be refused again and again
    assert refused < 60


def test_tokens_per_minute_are_respected(
    openai_server: Start, openai_server_module: ModuleType, store: VerdictStore
) -> None:
    """The server counts prompt and max_tokens, from a bucket that fills steadily, as OpenAI."""
    limit, rate, lock = 4000.0, 8000.0, threading.Lock()
    left, at, refused = limit, time.monotonic(), 0

    def metered(prompt: str, body: Any) -> Any:
        nonlocal left, at, refused
        need = len(prompt) / 4 + body["max_tokens"]
        with lock:
            now = time.monotonic()
            left, at = min(limit, left + (now - at) * rate), now
            enough = left >= need
            left -= need if enough else 0
            refused += not enough
            headers = bucket(int(limit), int(left), f"{(limit - left) / rate * 1000:.0f}ms")
        if not enough:
            return openai_server_module.Reply("tokens", status=429, headers=headers)
        return openai_server_module.Reply(score(prompt, body), headers=headers)

    server = openai_server(metered)
    asked = settings(server.url, concurrency=8, max_retries=6, max_tokens=400)
    verdicts = judge_responses(items(*map(str, range(60))), PROMPT, asked, store)
    assert statuses(verdicts) == ["scored"] * 60
    assert refused <= 8  # at most the first round, before any header was seen


# --- structured output


def test_structured_output_where_the_endpoint_has_it(
    openai_server: Start, store: VerdictStore
) -> None:
    def judge(prompt: str, body: Any) -> str:
        assert body["response_format"]["json_schema"]["strict"] is True
        return json.dumps({"reason": "Score: 9\nlooks bad", "score": 2})

    server = openai_server(judge)
    asked = settings(server.url, structured="on")
    (verdict,) = judge_responses(items("a"), PROMPT, asked, store)
    assert (verdict.status.value, verdict.value) == ("scored", 2)
    assert verdict.reason == "Score: 9\nlooks bad"
    assert verdict.parameters["response_format"] == "reason_score"
    # the wire format is not part of the question: the verdict serves text settings, too
    assert judge_responses(items("a"), PROMPT, settings(server.url), store) == [verdict]
    assert len(server.chats) == 1


def test_text_where_the_endpoint_takes_no_schema(
    openai_server: Start,
    openai_server_module: ModuleType,
    store: VerdictStore,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def old(prompt: str, body: Any) -> Any:
        if "response_format" in body:
            return openai_server_module.Reply("unknown field response_format", status=400)
        return score(prompt, body)

    server = openai_server(old)
    asked = settings(server.url, structured="on", concurrency=1)
    verdicts = judge_responses(items("wrong", "b", "c"), PROMPT, asked, store)
    assert [verdict.value for verdict in verdicts] == [1, 0, 0]
    assert len(server.chats) == 4  # tried once
    assert "response_format" not in verdicts[0].parameters
    assert caplog.text.count("without response_format from now on") == 1


@pytest.mark.parametrize(
    ("model", "url", "structured", "json_asked"),
    [
        (DEFAULT_MODEL, None, "auto", True),
        ("gpt-6-luna", None, "auto", True),
        ("gpt-4o-2024-05-13", None, "auto", False),
        ("gpt-3.5-turbo", None, "auto", False),
        (DEFAULT_MODEL, None, "off", False),
        (DEFAULT_MODEL, "http://localhost:8000/v1", "auto", False),
        ("llama", "http://localhost:8000/v1", "on", True),
    ],
)
def test_who_is_asked_for_json(
    model: str, url: str | None, structured: Any, json_asked: bool
) -> None:
    judge = EndpointJudge(JudgeSettings(model, url, "k", structured=structured))
    assert judge.asks_for_json is json_asked


# --- money


@given(st.text())
def test_no_prompt_has_more_tokens_than_the_bound(text: str) -> None:
    tokens = len(text.encode("utf-8", "surrogatepass"))  # what a tokenizer of bytes makes of it
    assert most_prompt_tokens(text) > tokens


def test_a_budget_is_never_passed(openai_server: Start, store: VerdictStore) -> None:
    server = openai_server(score)
    asked = settings(server.url, model=DEFAULT_MODEL, concurrency=8, max_tokens=50)
    budget = budget_for(Purse(0.004), asked)
    verdicts = judge_responses(items(*map(str, range(60))), PROMPT, asked, store, budget=budget)
    done = [verdict for verdict in verdicts if verdict.status.value == "scored"]
    cost = (100 * 2 + 10 * 8) / 1e6
    assert 0 < len(done) < 60
    assert len(server.chats) == len(done)
    assert budget.spent_usd == pytest.approx(cost * len(done))
    assert budget.spent_usd <= 0.004
    assert budget.spent_usd + budget.worst_usd(server.prompts()[0]) > 0.004 * 0.99  # used up
    assert all("not sent: the budget of 0.004 USD" in str(v.error) for v in verdicts if v.error)
    more = budget_for(Purse(10), asked)
    judge_responses(items(*map(str, range(60))), PROMPT, asked, store, budget=more)
    assert len(server.chats) == 60  # the rest, and only that


def test_lost_replies_count_as_paid(
    openai_server: Start, openai_server_module: ModuleType, store: VerdictStore
) -> None:
    reply = openai_server_module.Reply
    server = openai_server(lambda *_: reply("x", fault="reset"))
    asked = settings(server.url, model=DEFAULT_MODEL, max_retries=1, concurrency=1)
    budget = budget_for(Purse(1), asked)
    judge_responses(items("a"), PROMPT, asked, store, budget=budget)
    assert budget.spent_usd == pytest.approx(2 * budget.worst_usd(server.prompts()[0]))
    refusing = openai_server(lambda *_: reply("no", status=500))
    asked = settings(refusing.url, model=DEFAULT_MODEL, concurrency=1)
    free = budget_for(Purse(1), asked)
    judge_responses(items("a"), PROMPT, asked, store, budget=free)
    assert (free.spent_usd, free.reserved_usd) == (0, 0)


@pytest.mark.parametrize("usd", [0, -1, math.nan, math.inf])
def test_budgets_must_be_sums(usd: float) -> None:
    with pytest.raises(ConfigError, match="US dollars above 0"):
        budget_for(Purse(usd), settings("http://x/v1", model=DEFAULT_MODEL))


def test_a_budget_needs_a_price() -> None:
    with pytest.raises(ConfigError, match=r"price of 'local'.*EFT_JUDGE_PRICES"):
        budget_for(Purse(1), settings("http://x/v1", model="local"))


def test_prices_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "prices.json"
    prices = {"local": {"input": 1, "output": 3}, DEFAULT_MODEL: {"input": 4, "output": 16}}
    file.write_text(json.dumps({"date": "2026-11-01", "models": prices}))
    monkeypatch.setenv("EFT_JUDGE_PRICES", str(file))
    assert cost_usd("local", 10**6, 10**6) == (4.0, "2026-11-01")
    assert cost_usd("local", 10**6, 10**6, batch=True) == (2.0, "2026-11-01")
    assert cost_usd(DEFAULT_MODEL, 10**6, 0) == (4.0, "2026-11-01")
    assert cost_usd("gpt-4o-2024-08-06", 10**6, 0) == (2.5, "2025-04-14")
    free = judge_for(settings("http://x/v1", model="hf:x")).price
    assert free is not None
    assert (free.cost_usd(10, 10), free.table) == (0.0, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no JSON"),
        ("[]", "must be"),
        ('{"models": {}}', "needs a date"),
        ('{"date": "today", "models": {}}', "needs a date"),
        ('{"date": "2026-01-01", "modls": {}, "models": {}}', "did you mean 'models'"),
        ('{"date": "2026-01-01", "models": {"m": {"input": 1}}}', "the prices of 'm'"),
        ('{"date": "2026-01-01", "models": {"m": {"input": -1, "output": 1}}}', "input of 'm'"),
        ('{"date": "2026-01-01", "models": {"m": {"input": 1, "output": "2"}}}', "output of 'm'"),
        ('{"date": "2026-01-01", "batch_factor": 0, "models": {}}', "batch_factor"),
        (f'{{"date": "2026-01-01", "batch_factor": {10**400}, "models": {{}}}}', "batch_factor"),
    ],
)
def test_wrong_price_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    file = tmp_path / "prices.json"
    file.write_text(text)
    monkeypatch.setenv("EFT_JUDGE_PRICES", str(file))
    with pytest.raises(ConfigError, match=message):
        price_of("m")
    monkeypatch.setenv("EFT_JUDGE_PRICES", str(tmp_path / "none.json"))
    with pytest.raises(ConfigError, match="cannot be read"):
        price_of("m")


# --- people


def test_progress_is_silent_where_nobody_looks(capfd: pytest.CaptureFixture[str]) -> None:
    with judging_progress("Judging", 3) as tell:
        tell(1, 3)
        tell(3, 3)
    assert capfd.readouterr() == ("", "")


def test_progress_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    import io
    import sys

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    with judging_progress("Judging things", 3) as tell:
        tell(3, 3)
    assert "Judging things" in screen.getvalue()
    assert "3/3" in screen.getvalue()


def test_asyncio_is_left_as_it_was(openai_server: Start, store: VerdictStore) -> None:
    server = openai_server(score)
    judge_responses(items("a"), PROMPT, settings(server.url), store)
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()
