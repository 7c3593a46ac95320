"""Secrets planted everywhere in a run's arguments: none comes out of a command."""
# ruff: noqa: E501  # texts read best in one line

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import exported_runs
import judged_runs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from eft_eval.cli.app import app
from eft_eval.errors import ConfigError
from eft_eval.recipe import parse_model_args
from eft_eval.secrets import without_secret_flags, without_secrets

SECRETS = [f"s3cr3tvalue{number:02d}" for number in range(10)]
ARGUMENTS = {
    "api_key": SECRETS[0],
    "base_url": f"https://me:{SECRETS[1]}@host/v1?api-key={SECRETS[2]}&x=1",
    "model_kwargs": {
        "headers": {"Authorization": f"Bearer {SECRETS[3]}"},
        "nested": [{"hf_token": SECRETS[4]}, [f"token={SECRETS[5]}"]],
    },
    "HF_AUTH": SECRETS[6],
    "tokenizer": "some/tokenizer",
    "add_bos_token": True,
    "max_tokens": 77,
}
GENERATION = {"extra_headers": {"x-api-key": SECRETS[9]}, "eos_token_id": 7, "temperature": 1.0}


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("https://me:pw@host/v1", "https://***@host/v1"),
        ("base_url=http://h/v1?key=abc&x=1,api_key=abc", "base_url=http://h/v1?key=***&x=1,api_key=***"),
        ("{'Authorization': 'Bearer abc', 'x': 'y'}", "{'Authorization': 'Bearer ***', 'x': 'y'}"),
        ("sk-abcdefghijklmnopqrst", "***"),
        ("tokenizer=a/b,max_tokens=5,add_bos_token=True", "tokenizer=a/b,max_tokens=5,add_bos_token=True"),
        ("base=Qwen/Qwen2.5-1.5B,weight=0.5", "base=Qwen/Qwen2.5-1.5B,weight=0.5"),
        ({"eos_token_id": 3, "stop": ["Key: value"]}, {"eos_token_id": 3, "stop": ["Key: value"]}),
        ({"api_key": None, "key": "abc"}, {"api_key": None, "key": "(not shown)"}),
    ],
)  # fmt: skip
def test_what_is_masked(given: Any, shown: Any) -> None:
    assert without_secrets(given) == shown
    assert without_secrets(shown) == shown
    pairs = "api_key=(not shown),x=1"
    assert without_secrets(pairs) == pairs


@pytest.mark.parametrize(
    "source",
    [
        "https://me:s3cr3tvalue00@host/model",
        "weight=1,https://me:s3cr3tvalue00@host/model",
        "base=a,tuned=b,reference=c,weight=https://me:s3cr3tvalue00@host",
        {"base": {"api_key": "s3cr3tvalue00"}, "tuned": "b", "reference": "c"},
        "model=https://me:s3cr3tvalue00@host/model.yaml",
        {"base": "a", "Bearer s3cr3tvalue00": 1},
        {"model": "a", "https://me:s3cr3tvalue00@host/": 1},
        {"base": "a", "tuned": "b", "reference": "c", "weight": {"hf_token": "s3cr3tvalue00"}},
    ],
)
def test_errors_of_recipes_repeat_no_secret(source: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_model_args(source)
    assert "s3cr3tvalue00" not in str(caught.value)


KEYS = st.sampled_from(["api_key", "hf_token", "Authorization", "password", "x-api-key", "secret"])


@given(st.recursive(
    st.dictionaries(KEYS, st.just(SECRETS[0]), max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
))  # fmt: skip
def test_no_nesting_hides_a_secret_from_the_mask(planted: Any) -> None:
    assert SECRETS[0] not in json.dumps(without_secrets(planted))
    assert SECRETS[0] not in without_secrets(str(planted))


@pytest.mark.parametrize("form", ["mapping", "text"])
def test_commands_show_no_secret(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    exported_runs.write_composite_run(Path("run"))
    (file,) = Path("run").rglob("results_*.json")
    content = json.loads(file.read_text())
    own = content["config"]["model_args"]
    if form == "mapping":
        content["config"]["model_args"] = {**dict(own), **ARGUMENTS}
    else:
        pairs = [f"{name}={value}" for name, value in ARGUMENTS.items() if name != "model_kwargs"]
        content["config"]["model_args"] = ",".join(
            [f"{k}={v}" for k, v in dict(own).items()] + pairs
        )
    content["config"]["gen_kwargs"] = GENERATION
    file.write_text(json.dumps(content))
    shown = ""
    for command, out in (
        ("report run --format md", None),
        ("report run --out r.html", "r.html"),
        ("export run --format csv", None),
        ("export run --format csv --samples", None),
        ("export run --format eee --organization Lab --samples --out eee", "eee"),
        ("export run --format model-card --repo me/x", None),
        ("compare run run --format json", None),
        ("compare run run --format markdown", None),
        ("bless run --out base.json", "base.json"),
    ):
        done = CliRunner().invoke(app, command.split())
        assert done.exit_code == 0, (command, done.exception)
        shown += done.output
        for path in [] if out is None else [Path(out), *Path(out).rglob("*")]:
            shown += path.read_text("utf-8") if path.is_file() else ""
    assert [secret for secret in SECRETS if secret in shown] == []
    assert "some/tokenizer" in shown
    assert "77" in shown


@pytest.mark.parametrize("address", ["user", "query"])
def test_judging_keeps_no_secret(
    address: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    openai_server_module: Any,
    openai_server: Callable[..., Any],
) -> None:
    """A key in the environment, credentials in the address, and an endpoint that echoes them."""
    monkeypatch.chdir(tmp_path)
    run = judged_runs.write_judged_run(tmp_path / "run", judged_runs.counted([0, 1]))
    echo = f"Bearer {SECRETS[0]}; user me, password {SECRETS[1]}; ?api-key={SECRETS[2]}"

    def answer(prompt: str, body: object) -> Any:
        return openai_server_module.Reply(f"Reason: {echo}\nScore: 1", finish_reason="stop")

    server = openai_server(answer)
    url = server.url.replace("//", f"//me:{SECRETS[1]}@")
    if address == "query":
        url = f"{server.url}?api-key={SECRETS[2]}"  # the server knows no such address, and says so
    monkeypatch.setenv("OPENAI_API_KEY", SECRETS[0])
    monkeypatch.setenv("EFT_JUDGE_BASE_URL", url)
    monkeypatch.setenv("EFT_JUDGE_MODEL", "judge")
    done = [
        CliRunner().invoke(app, command.split())
        for command in (f"judge {run}", "verdicts list", f"report {run} --format md")
    ]
    shown = "".join(f"{one.output}{one.exception or ''}" for one in done)
    for path in tmp_path.rglob("*"):
        shown += path.read_bytes().decode("utf-8", "replace") if path.is_file() else ""
    planted = SECRETS[:2] if address == "user" else [SECRETS[0], SECRETS[2]]
    assert [secret for secret in planted if secret in shown] == []


def test_the_words_of_a_command() -> None:
    words = [
        "serve",
        "a/b",
        "--api-key",
        SECRETS[0],
        SECRETS[1],
        "--port",
        "1",
        "--eos-token",
        "</s>",
    ]
    words += [f"--hf-token={SECRETS[2]}", "-tp", "2", "--url", f"http://me:{SECRETS[3]}@h/v1"]
    words += [
        "--gen_kwargs",
        f"api_key={SECRETS[4]},top_k=2",
        f'{{"x": {{"token": "{SECRETS[5]}"}}}}',
    ]
    assert without_secret_flags(words) == [
        "serve", "a/b", "--api-key", "(not shown)", "(not shown)", "--port", "1", "--eos-token",
        "</s>", "--hf-token=***", "-tp", "2", "--url", "http://***@h/v1", "--gen_kwargs",
        "api_key=***,top_k=2", '{"x": {"token": "***"}}',
    ]  # fmt: skip
