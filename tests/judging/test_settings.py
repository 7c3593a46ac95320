"""A judge's settings, keys and prices."""

from __future__ import annotations

import openai
import pytest
from judging_helpers import KEY, settings

from eft_eval.errors import ConfigError
from eft_eval.judging import DEFAULT_MODEL, JudgeSettings, cost_usd
from eft_eval.judging.judges.client import explain
from eft_eval.judging.judges.registry import judge_for, prefix_of


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
