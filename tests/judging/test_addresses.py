"""Where a judge is asked: addresses as people write them, proxies, TLS, redirects; all before."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from judging_helpers import KEY, PROMPT, Start, items, score, settings, statuses

from eft_eval.errors import ConfigError
from eft_eval.judging import JudgeSettings, VerdictStore, judge_responses, preflight
from eft_eval.judging.judges.registry import judge_for

NOT_FOUND = (404, b'{"detail":"Not Found"}')


def fastapi(method: str, path: str, content: bytes) -> tuple[int, bytes] | None:
    """Routes as vLLM's: a list of models, no look-up of one."""
    if path == "/v1/models":
        return 200, json.dumps({"object": "list", "data": []}).encode()
    if path == "/v1/chat/completions":
        return None
    return NOT_FOUND


@pytest.mark.parametrize("ending", ["", "/", "/chat/completions", "/chat/completions/"])
def test_what_requests_add_may_stand_there(
    openai_server: Start, store: VerdictStore, ending: str
) -> None:
    server = openai_server(score, models=["judge"])
    asked = settings(server.url + ending)
    assert preflight(asked) is None
    assert statuses(judge_responses(items("a"), PROMPT, asked, store)) == ["scored"]
    assert judge_for(asked).place == server.url


@pytest.mark.parametrize("ending", ["", "/", "/v2", "/chat/completions"])
def test_an_address_without_v1_is_one_line_before_any_prompt(
    openai_server: Start, ending: str
) -> None:
    server = openai_server(score, routes=fastapi)
    bare = server.url.removesuffix("/v1")
    with pytest.raises(ConfigError) as caught:
        preflight(settings(bare + ending))
    assert f"{bare}/v1 has: set EFT_JUDGE_BASE_URL" in str(caught.value)
    assert server.chats == []


def lm_studio(method: str, path: str, content: bytes) -> tuple[int, bytes] | None:
    """Answers 200 to whatever it does not know, and lists its models at its own address."""
    if path == "/v1/models":
        return 200, b'{"object": "list", "data": [{"id": "judge", "object": "model"}]}'
    if path in ("/v1/chat/completions", "/v1/models/judge"):
        return None
    said = {"error": f"Unexpected endpoint or method. ({method} {path})"}
    return 200, json.dumps(said).encode()


def test_an_address_that_answers_200_to_everything_is_told_from_the_right_one(
    openai_server: Start, store: VerdictStore
) -> None:
    server = openai_server(score, routes=lm_studio, models=["judge"])
    assert preflight(settings(server.url)) is None
    bare = server.url.removesuffix("/v1")
    with pytest.raises(ConfigError, match="/v1 has: set EFT_JUDGE_BASE_URL to that"):
        preflight(settings(bare))
    asked = settings(bare, concurrency=1, max_retries=5)
    verdicts = judge_responses(items("a", "b"), PROMPT, asked, store)
    assert "Unexpected endpoint or method" in str(verdicts[0].error)
    assert len(server.chats) == 1, "not tried again, and no other text sent"


@pytest.mark.parametrize(
    "listed",
    [b'[{"id": "m"}]', b'{"data": [{"name": "m"}, "m", null]}', b'{"data": {"m": 1}}', b'"m"',
     b'{"data": [{"id": 7}]}', b'{"error": "x"}', b"<html>", b'{"data": null}'],
)  # fmt: skip
def test_a_list_of_models_in_another_shape_proves_nothing(
    openai_server: Start, listed: bytes
) -> None:
    """So the judge is asked, as one without a list is."""

    def routes(method: str, path: str, content: bytes) -> tuple[int, bytes] | None:
        return (200, listed) if path == "/v1/models" else NOT_FOUND

    assert preflight(settings(openai_server(score, routes=routes).url)) is None


def test_an_endpoint_without_look_ups_is_asked_nothing_that_costs(openai_server: Start) -> None:
    server = openai_server(score, routes=fastapi)
    assert preflight(settings(server.url)) is None
    assert server.chats == []


def test_without_a_look_before_the_first_answer_ends_the_sending(
    openai_server: Start, store: VerdictStore
) -> None:
    server = openai_server(score, routes=lambda *_: NOT_FOUND)
    asked = settings(server.url, concurrency=2, max_retries=5)
    verdicts = judge_responses(items(*map(str, range(9))), PROMPT, asked, store)
    assert statuses(verdicts) == ["api_error"] * 9
    assert len(server.chats) <= 2
    assert "usually ends in /v1" in str(verdicts[0].error)


@pytest.mark.parametrize(
    ("status", "target", "says"),
    [
        (307, "http://other.invalid/v1/chat/completions", "sends requests on to http://other"),
        (302, "https://other.invalid/", "sends requests on to https://other"),
        (301, "/v2/chat/completions", "has moved to "),
        (308, "//other.invalid/x", "sends requests on to http://other"),
        (307, "http://[", "sends requests on to what is no address"),
        (307, "http://127.0.0.1:99999/", "sends requests on to what is no address"),
    ],
)
def test_redirects(
    openai_server: Start, openai_server_module: Any, store: VerdictStore,
    status: int, target: str, says: str,
) -> None:  # fmt: skip
    reply = openai_server_module.Reply("moved", status=status, headers={"Location": target})
    server = openai_server(lambda *_: reply)
    asked = settings(server.url, concurrency=1, max_retries=3)
    verdicts = judge_responses(items("a", "b"), PROMPT, asked, store)
    assert says in str(verdicts[0].error)
    assert len(server.chats) == 1


def test_a_redirect_of_the_look_up_is_one_line(openai_server: Start) -> None:
    here = openai_server(score)
    there = openai_server(score, key="nobody's")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=redirect, args=(listener, there.url), daemon=True)
        thread.start()
        port = listener.getsockname()[1]
        with pytest.raises(ConfigError, match=r"sends requests on to .* which is not followed"):
            preflight(settings(f"http://127.0.0.1:{port}/v1"))
    assert there.requests == here.requests == []


def redirect(listener: socket.socket, target: str) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            connection.recv(65536)
            head = f"HTTP/1.1 307 x\r\nLocation: {target}/models/judge\r\nContent-Length: 0\r\n\r\n"
            connection.sendall(head.encode())


# --- proxies


@pytest.mark.parametrize("proxy", ["localhost:3128", "ftp://localhost:1", "http://u:pw@[::bad"])
def test_a_proxy_that_is_none_is_one_line(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy)
    monkeypatch.setenv("http_proxy", proxy)
    with pytest.raises(ConfigError) as caught:
        preflight(settings("http://judge.invalid/v1"))
    assert "\n" not in str(caught.value)
    assert "pw" not in str(caught.value)
    assert "HTTP_PROXY" in str(caught.value)


@pytest.mark.parametrize(
    ("status", "says"), [(407, "asks for a login"), (None, "through the proxy")]
)
def test_a_proxy_that_lets_nobody_through(
    openai_server: Start, monkeypatch: pytest.MonkeyPatch, status: int | None, says: str
) -> None:
    routes = None if status is None else lambda *_: (status, b"<html>Squid</html>")
    proxy = openai_server(score, routes=routes)
    address = proxy.url.removesuffix("/v1")
    if status is None:
        proxy.close()
    monkeypatch.setenv("http_proxy", address.replace("//", "//me:secret@"))
    with pytest.raises(ConfigError, match=says) as caught:
        preflight(settings("http://judge.invalid/v1"))
    assert "secret" not in str(caught.value)
    assert "HTTP_PROXY" in str(caught.value)


# --- TLS


@pytest.fixture
def tls_server(tmp_path: Path) -> Iterator[tuple[int, str]]:
    """A judge with a certificate that nobody trusts: port and certificate."""
    names = [str(tmp_path / name) for name in ("key.pem", "cert.pem")]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-keyout", names[0], "-out", names[1], "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost"]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(names[1], names[0])
    message = {"role": "assistant", "content": "Reason: r.\nScore: 2"}
    body = json.dumps({"choices": [{"message": message, "finish_reason": "stop"}]}).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
                with context.wrap_socket(connection, server_side=True) as wrapped:
                    with wrapped.makefile("rb") as asked:
                        lines = iter(lambda: asked.readline().strip().lower(), b"")
                        fields = dict(line.partition(b":")[::2] for line in lines)
                        asked.read(int(fields.get(b"content-length", 0)))
                    wrapped.sendall(head.encode() + body)
            except ssl.SSLError:
                continue
            except OSError:
                if listener.fileno() < 0:
                    return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1], names[1]


def test_an_untrusted_certificate_is_one_line(tls_server: tuple[int, str]) -> None:
    with pytest.raises(ConfigError, match="certificate is not trusted: SSL_CERT_FILE") as caught:
        preflight(settings(f"https://localhost:{tls_server[0]}/v1"))
    assert "\n" not in str(caught.value)


def test_a_judge_is_asked_over_tls_where_its_certificate_is_trusted(
    tls_server: tuple[int, str], store: VerdictStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = settings(f"https://localhost:{tls_server[0]}/v1")
    (refused,) = judge_responses(items("a"), PROMPT, asked, store)
    assert "certificate verify failed" in str(refused.error)
    monkeypatch.setenv("SSL_CERT_FILE", tls_server[1])
    (found,) = judge_responses(items("a"), PROMPT, asked, store)
    assert (found.value, found.error) == (2, None)


def test_https_where_there_is_none(openai_server: Start) -> None:
    server = openai_server(score)
    with pytest.raises(ConfigError, match="speaks no TLS"):
        preflight(settings(server.url.replace("http://", "https://")))


def test_http_where_https_is_needed(openai_server: Start) -> None:
    said = b"Client sent an HTTP request to an HTTPS server.\n"
    server = openai_server(score, routes=lambda *_: (400, said))
    with pytest.raises(ConfigError, match="begins with https://"):
        preflight(settings(server.url))


# --- settings of a request


def environment(params: str, **more: str) -> JudgeSettings:
    env = {"EFT_JUDGE_BASE_URL": "http://localhost:1/v1", "EFT_JUDGE_PARAMS": params, **more}
    return JudgeSettings.from_environment(env)


def test_params_are_sent_and_are_part_of_the_key(openai_server: Start, store: VerdictStore) -> None:
    server = openai_server(score)
    given = {"temperature": None, "seed": 7, "reasoning_effort": "low", "extra": {"a": [1]}}
    asked = settings(server.url, params=environment(json.dumps(given)).params)
    (verdict,) = judge_responses(items("a"), PROMPT, asked, store)
    body = server.chats[0].body
    assert (body["seed"], body["reasoning_effort"], body["extra"]) == (7, "low", {"a": [1]})
    assert "temperature" not in body
    assert verdict.parameters == {"max_tokens": 2048, **given}
    judge_responses(items("a"), PROMPT, settings(server.url), store)
    assert len(server.chats) == 2, "another call"


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ("{", "must be a JSON object"),
        ("[1]", "must be a JSON object"),
        ('{"seed": 1, "seed": 2}', "there twice"),
        ('{"top_p": NaN}', "NaN is no JSON"),
        ('{"top_p": 1e999}', "must be a JSON object"),
        ('{"model": "x"}', "EFT_JUDGE_MODEL"),
        ('{"messages": null}', "which every request has"),
        ('{"max_tokens": 5}', "EFT_JUDGE_MAX_TOKENS"),
        ('{"stream": true}', "read whole"),
        ('{"n": 3}', "--repeat"),
        ('{"response_format": {"type": "json_object"}}', "EFT_JUDGE_STRUCTURED"),
    ],
)
def test_params_that_cannot_be(params: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        environment(params)


def test_params_are_for_endpoints(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="fields of requests to an endpoint"):
        judge_for(environment('{"seed": 1}', EFT_JUDGE_MODEL="hf:model"))


def test_a_refused_seed_is_left_out_and_said(
    openai_server: Start, openai_server_module: Any, store: VerdictStore,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    def strict(prompt: str, body: Any) -> Any:
        if "seed" in body:
            return openai_server_module.Reply("property 'seed' is unsupported", status=400)
        return score(prompt, body)

    server = openai_server(strict)
    (verdict,) = judge_responses(
        items("a"), PROMPT, settings(server.url, params={"seed": 7}), store
    )
    assert verdict.parameters["sent"] == {"temperature": 0, "max_tokens": 2048}
    assert verdict.parameters["seed"] == 7
    assert "asked without seed from now on (property 'seed' is unsupported)" in caplog.text
    assert KEY not in caplog.text
