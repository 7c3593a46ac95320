"""Judging against a real server on loopback: what is asked, what comes back, what is stored."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest
from judging_helpers import KEY, PROMPT, Start, items, score, settings, shown, statuses

from eft_eval.errors import ConfigError
from eft_eval.judging import (
    DEFAULT_MODEL,
    JudgeItem,
    Status,
    VerdictStore,
    judge_responses,
    load_prompt,
)
from eft_eval.judging.judges.registry import judge_for


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
