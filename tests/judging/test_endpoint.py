"""Judging against a real server on loopback: what is asked, stored, retried and given up."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from types import ModuleType
from typing import Any

import openai
import pytest
from judging_helpers import KEY, PROMPT, items, readings, score, settings, shown, statuses

from eft_eval.errors import ConfigError
from eft_eval.judging import (
    DEFAULT_MODEL,
    JudgeItem,
    JudgeSettings,
    Status,
    Verdict,
    VerdictStore,
    cost_usd,
    judge_responses,
    load_prompt,
    preflight,
)
from eft_eval.judging.judges.client import explain
from eft_eval.judging.judges.registry import judge_for, prefix_of

Start = Callable[..., Any]


@pytest.fixture
def store(tmp_path: Path) -> VerdictStore:
    return VerdictStore(tmp_path / "verdicts.sqlite3")


# --- what is asked


def test_order_duplicates_and_the_store(openai_server: Start, store: VerdictStore) -> None:
    server = openai_server(score, key=KEY)
    given = items("wrong", "fine", " wrong\n", "wrong wrong", "", "fine")
    seen: list[tuple[int, int]] = []
    verdicts = judge_responses(
        given, PROMPT, settings(server.url), store, lambda done, total: seen.append((done, total))
    )
    assert [verdict.value for verdict in verdicts] == [1, 0, 1, 2, 0, 0]
    assert sorted(map(shown, server.prompts())) == ["", "fine", "wrong", "wrong wrong"]
    assert len(store) == 4
    assert seen[0] == (0, 6)
    assert seen[-1] == (6, 6)
    assert seen == sorted(seen)

    again = judge_responses(given, PROMPT, settings(server.url), store, None)
    assert again == verdicts
    assert len(server.chats) == 4


def test_a_verdict_records_the_call(openai_server: Start, store: VerdictStore) -> None:
    server = openai_server(score)
    (verdict,) = judge_responses(
        items("wrong"), PROMPT, settings(server.url, model=DEFAULT_MODEL), store
    )
    body = server.chats[0].body
    assert body["messages"] == [{"role": "user", "content": PROMPT.render(response="wrong")}]
    assert (body["model"], body["temperature"], body["max_tokens"]) == (DEFAULT_MODEL, 0, 2048)
    assert verdict.parameters == {"temperature": 0, "max_tokens": 2048}
    assert verdict.raw == "Reason: counted.\nScore: 1"
    assert (verdict.reason, verdict.finish_reason, verdict.error) == ("counted.", "stop", None)
    assert (verdict.prompt_name, verdict.prompt_sha256) == ("factuality", PROMPT.sha256)
    assert (verdict.judge_model, verdict.judge_model_returned) == (DEFAULT_MODEL, DEFAULT_MODEL)
    assert (verdict.prompt_tokens, verdict.completion_tokens) == (100, 10)
    assert verdict.cost_usd == pytest.approx((100 * 2 + 10 * 8) / 1e6)
    assert verdict.price_table == "2025-04-14"
    assert list(store) == [verdict]


def test_reasoning_models_get_no_temperature(openai_server: Start, store: VerdictStore) -> None:
    server = openai_server(score)
    judge_responses(items("a"), PROMPT, settings(server.url, model="gpt-6-luna"), store)
    body = server.chats[0].body
    assert body["max_completion_tokens"] == 2048
    assert not {"temperature", "max_tokens"} & set(body)


@pytest.mark.parametrize(
    ("model", "reasons"),
    [
        *[(name, True) for name in ("o1", "o3-mini", "o4-mini-2025-04-16", "gpt-5", "gpt-6-luna")],
        *[(name, True) for name in ("openai/gpt-5-mini", "openai/o3", "GPT-10", "ft:o4-mini:x")],
        *[
            (name, False)
            for name in ("gpt-4o", "gpt-4.1-2025-04-14", "gpt-35-turbo", "gpt-oss-20b")
        ],
        *[(name, False) for name in ("olmo-2", "allenai/OLMo-2-7B", "o", "llama-o1", "gpt-50k")],
    ],
)
def test_parameters_follow_the_kind_of_model(model: str, reasons: bool) -> None:
    expected = {"max_completion_tokens": 7} if reasons else {"temperature": 0, "max_tokens": 7}
    judge = judge_for(settings("http://127.0.0.1:1/v1", model=model, max_tokens=7))
    assert judge.key() == expected


def test_another_model_or_limit_is_another_call(openai_server: Start, store: VerdictStore) -> None:
    server = openai_server(score)
    for changes in ({}, {"model": "other"}, {"max_tokens": 64}, {}):
        judge_responses(items("a"), PROMPT, settings(server.url, **changes), store)
    assert len(server.chats) == 3


def test_a_corrected_scale_reads_stored_replies_anew(
    openai_server: Start, store: VerdictStore, tmp_path: Path
) -> None:
    path = tmp_path / "mine.jinja"
    head = "{{#-\nname: mine\nversion: 1\nscale: {}\nbetter: lower\nparser: reason_score\n"
    body = "variables: [response]\n-#}\nRate: {{ response }}"
    server = openai_server(lambda *_: "Score: 0.5")
    values = []
    for scale in ("count", "percent"):
        path.write_text(head.format(scale).replace("{{#", "{#") + body, "utf-8")
        prompt = load_prompt(str(path))
        (verdict,) = judge_responses(items("a"), prompt, settings(server.url), store)
        assert verdict.prompt_sha256 == prompt.sha256
        values.append((verdict.status, verdict.value))
    assert values == [(Status.out_of_range, None), (Status.scored, 50.0)]
    assert len(server.chats) == 1


def test_a_lacking_query_is_named(openai_server: Start, store: VerdictStore) -> None:
    server = openai_server(score)
    prompt = load_prompt("factuality_with_query")
    with pytest.raises(ConfigError, match=r"item 1: .* needs a query"):
        judge_responses([JudgeItem("a", "q"), JudgeItem("b")], prompt, settings(server.url), store)
    assert server.chats == []


def test_no_more_at_once_than_allowed(openai_server: Start, store: VerdictStore) -> None:
    def slow(prompt: str, body: object) -> str:
        time.sleep(0.02)
        return score(prompt, body)

    server = openai_server(slow)
    given = items(*map(str, range(20)))
    judge_responses(given, PROMPT, settings(server.url, concurrency=4), store)
    assert len(server.chats) == 20
    assert 2 <= server.most_at_once <= 4


# --- what the judge may answer


def test_every_kind_of_answer(
    openai_server: Start, openai_server_module: ModuleType, store: VerdictStore
) -> None:
    reply = openai_server_module.Reply
    answers = {
        "good": (reply("**Score:** 2"), "scored"),
        "unethical": (reply("Reason: no.\nScore: None"), "abstained"),
        "prose": (reply("There are 3 errors."), "malformed"),
        "nothing": (reply(None), "malformed"),
        "cut": (reply("Reason: a\nScore: 1", finish_reason="length"), "truncated"),
        "sorry": (reply("I’m sorry, but I can’t."), "refused"),
        "refusal": (reply(None, refusal="I can't help with that."), "refused"),
        "filter": (reply("", finish_reason="content_filter"), "refused"),
        "minus": (reply("Score: -3"), "out_of_range"),
        "bad": (reply("no such parameter", status=400), "api_error"),
    }
    server = openai_server(lambda prompt, _: answers[shown(prompt)][0])
    verdicts = judge_responses(items(*answers), PROMPT, settings(server.url), store)
    assert statuses(verdicts) == [status for _, status in answers.values()]
    assert [verdict.value for verdict in verdicts] == [2, *[None] * 9]
    assert verdicts[6].raw == "I can't help with that."
    assert "no such parameter" in str(verdicts[-1].error)
    assert len(store) == 9  # all but the api_error

    judge_responses(items(*answers), PROMPT, settings(server.url), store)
    assert list(map(shown, server.prompts()))[10:] == ["bad"]


def test_text_that_cannot_be_sent_harms_itself_only(
    openai_server: Start, store: VerdictStore
) -> None:
    server = openai_server(score)
    given = items(*(f"\ud800 {number}" for number in range(5)), "fine")
    verdicts = judge_responses(given, PROMPT, settings(server.url, concurrency=1), store)
    assert statuses(verdicts) == ["api_error"] * 5 + ["scored"]


# --- failures


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


# --- event loops and interrupts


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
            over.wait(20)
        return score(prompt, body)

    server = openai_server(stuck_after_ten)
    path = tmp_path / "v.sqlite3"
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, server.url, str(path), str(inside_a_loop)]
    )
    try:
        assert reached.wait(20)
        time.sleep(0.3)  # the other request of the two may still be on its way
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(10) == 42
    finally:
        process.kill()
        process.wait()
        over.set()
    assert len(VerdictStore(path)) == 10


# --- before the run


def test_preflight_finds_the_judge(openai_server: Start) -> None:
    server = openai_server(score, key=KEY, models=["judge"])
    assert preflight(settings(server.url)) is None
    assert [request.path for request in server.requests] == ["/v1/models/judge"]
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"


def test_preflight_names_a_near_shutdown(openai_server: Start) -> None:
    server = openai_server(score, models=["judge"], shutdown_date="2027-01-14")
    asked = settings(server.url)
    assert preflight(asked, today=date(2026, 10, 1)) is None
    assert "in 90 days (2027-01-14)" in str(preflight(asked, today=date(2026, 10, 16)))
    assert "was due to be shut down" in str(preflight(asked, today=date(2027, 2, 1)))


def test_preflight_names_other_models(openai_server: Start) -> None:
    names = ["judge-2", *(f"m{number:02}" for number in range(12))]
    server = openai_server(score, models=names)
    with pytest.raises(ConfigError, match=r"no model 'judge' \(did you mean 'judge-2'") as caught:
        preflight(settings(server.url))
    assert "EFT_JUDGE_MODEL" in str(caught.value)
    assert "m08, ..." in str(caught.value)
    assert "m09" not in str(caught.value)


@pytest.mark.parametrize("models", [None, []])
def test_preflight_trusts_endpoints_without_lookups(
    openai_server: Start, models: list[str] | None
) -> None:
    assert preflight(settings(openai_server(score, models=models).url)) is None


def test_preflight_with_a_refused_key(openai_server: Start) -> None:
    server = openai_server(score, key="another", models=["judge"])
    with pytest.raises(ConfigError, match=r"key refused: .* OPENAI_API_KEY") as caught:
        preflight(settings(server.url.replace("//", "//user:secret@")))
    assert len(server.requests) == 1
    assert server.url in str(caught.value)
    assert KEY not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_preflight_with_the_endpoint_down(openai_server: Start) -> None:
    server = openai_server(score)
    server.close()
    with pytest.raises(ConfigError, match="endpoint down: ") as caught:
        preflight(settings(server.url))
    assert server.url in str(caught.value)
    assert "\n" not in str(caught.value)


# --- settings and prices


def test_settings_from_the_environment() -> None:
    plain = JudgeSettings.from_environment({"OPENAI_API_KEY": KEY + "\n"})
    assert (plain.model, plain.base_url, plain.api_key) == (DEFAULT_MODEL, None, KEY)
    assert judge_for(plain).place == "https://api.openai.com/v1"
    local = JudgeSettings.from_environment(
        {
            "OPENAI_API_KEY": "",
            "EFT_JUDGE_BASE_URL": "http://me:pw@localhost:8000/v1",
            "OPENAI_BASE_URL": "http://elsewhere/v1",
            "EFT_JUDGE_MODEL": "local",
            "EFT_JUDGE_CONCURRENCY": "4",
            "EFT_JUDGE_MAX_TOKENS": "9000",
            "EFT_JUDGE_TIMEOUT": "600",
            "EFT_JUDGE_STRUCTURED": "On",
        }
    )
    assert (local.model, local.concurrency) == ("local", 4)
    assert (local.max_tokens, local.timeout_s, local.structured) == (9000, 600, "on")
    named = JudgeSettings.from_environment({"EFT_JUDGE_MODEL": "x"}, judge="hf:some/model@main")
    assert (named.model, judge_for(named).place) == ("hf:some/model@main", "this process")
    assert [prefix_of(name) for name in (named.model, "llama3:8b", "hf", "x")] == ["hf", "", "", ""]
    assert judge_for(local).place == "http://localhost:8000/v1"
    assert local.api_key


@pytest.mark.parametrize(
    ("judge", "base", "model", "place", "key"),
    [
        ("m@http://a:1/v1", "", "m", "http://a:1/v1", "key-a1"),
        ("m@http://A:2/v1", "", "m", "http://A:2/v1", "key-a"),
        ("m@http://b/v1/chat/completions", "", "m", "http://b/v1", "no-key"),
        ("x@20@https://b:1/v1", "http://b/v1", "x@20", "https://b:1/v1", "no-key"),
        ("m@http://b/v2", "http://b/v1", "m", "http://b/v2", KEY),
        ("gpt@https://api.openai.com/v1", "http://b/v1", "gpt", "https://api.openai.com/v1", KEY),
        ("gpt@http://api.openai.com/v1", "", "gpt", "http://api.openai.com/v1", "no-key"),
        ("m@https://c/v1", "", "m", "https://c/v1", "key-c"),
        ("m@http://[::1]:8000/v1", "", "m", "http://[::1]:8000/v1", "key-six"),
        ("@cf/m", "http://b/v1", "@cf/m", "http://b/v1", KEY),
        ("m", "http://a:1/v1", "m", "http://a:1/v1", "key-a1"),
        ("m", "", "m", "https://api.openai.com/v1", KEY),
    ],
)
def test_a_key_goes_to_its_own_host(
    judge: str, base: str, model: str, place: str, key: str
) -> None:
    env = {
        "OPENAI_API_KEY": KEY,
        "EFT_JUDGE_BASE_URL": base,
        "EFT_JUDGE_KEYS": '{"A": "key-a", "a:1": "key-a1", "[::1]:8000": "key-six", '
        '"c:443": "key-c"}',
    }
    for found in (
        JudgeSettings.from_environment(env, judge=judge),
        JudgeSettings.from_environment({**env, "EFT_JUDGE_MODEL": judge}),
    ):
        assert (found.model, judge_for(found).place, found.api_key) == (model, place, key)


@pytest.mark.parametrize(
    "keys",
    ["sk-secret", '["sk-secret"]', '{"h": 1}', '{"http://h": "k"}', '{"sk/secret=": "a.b"}'],
)
def test_keys_that_cannot_be_read_are_not_shown(keys: str) -> None:
    with pytest.raises(ConfigError, match="EFT_JUDGE_KEYS") as caught:
        JudgeSettings.from_environment({"OPENAI_API_KEY": KEY, "EFT_JUDGE_KEYS": keys})
    assert "secret" not in str(caught.value)


def test_no_judge_at_all_is_one_line_with_three_ways_on() -> None:
    with pytest.raises(ConfigError) as caught:
        judge_for(JudgeSettings.from_environment({"OPENAI_API_KEY": " "}))
    message = str(caught.value)
    for way in ("OPENAI_API_KEY", "EFT_JUDGE_BASE_URL", "--predict_only", "eft-eval judge RUN_DIR"):
        assert way in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "env",
    [
        {"EFT_JUDGE_CONCURRENCY": "0"},
        {"EFT_JUDGE_CONCURRENCY": "many"},
        {"EFT_JUDGE_MAX_TOKENS": "-1"},
        {"EFT_JUDGE_TIMEOUT": "0"},
        {"EFT_JUDGE_STRUCTURED": "maybe"},
        {"EFT_JUDGE_BASE_URL": "localhost:8000"},
        {"EFT_JUDGE_BASE_URL": "http://h:pass/v1"},
        {"EFT_JUDGE_BASE_URL": "http://h/v1?api-version=1"},
        {"EFT_JUDGE_BASE_URL": "http://h/v1#here"},
        {"OPENAI_API_KEY": "sk two words"},
    ],
)
def test_wrong_settings(env: dict[str, str]) -> None:
    with pytest.raises(ConfigError):
        JudgeSettings.from_environment({"OPENAI_API_KEY": KEY, **env})


def test_no_secret_of_the_address_is_explained() -> None:
    judge = settings("http://me%40home:p%21ss@host:1/v1")
    said = "cannot reach http://me%40home:p%21ss@host:1/v1 as me@home with p!ss or p%21ss"
    text = explain(openai.OpenAIError(said), judge)
    for secret in ("me%40home", "p%21ss", "me@home", "p!ss"):
        assert secret not in text
    assert "host:1/v1" in text


def test_prices() -> None:
    assert cost_usd("gpt-4.1-2025-04-14", 10**6, 10**6) == (10.0, "2025-04-14")
    assert cost_usd("local", 1, 1) == (None, None)
    assert cost_usd("gpt-4.1-2025-04-14", None, 1) == (None, None)


# --- the package, and the server as a process


def test_importing_is_light() -> None:
    heavy = ("openai", "jinja2", "yaml", "torch", "transformers", "lm_eval")
    code = f"import sys, eft_eval.judging; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_server_as_a_process(tmp_path: Path, store: VerdictStore) -> None:
    script, port = tmp_path / "script.json", tmp_path / "port"
    script.write_text(json.dumps([{"contains": "earth", "text": "Score: 4"}]), "utf-8")
    server = Path(__file__).parents[1] / "openai_server.py"
    process = subprocess.Popen(
        [sys.executable, str(server), "--script", str(script), "--port-file", str(port)]
    )
    try:
        deadline = time.monotonic() + 20
        while not port.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        asked = settings(f"http://127.0.0.1:{port.read_text()}/v1")
        verdicts = judge_responses(items("flat earth", "moon"), PROMPT, asked, store)
    finally:
        process.kill()
        process.wait()
    assert [verdict.value for verdict in verdicts] == [4, None]


# --- what the first version stored


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
