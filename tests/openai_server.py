"""A judge for tests: a real HTTP server on loopback that speaks the OpenAI protocol.

In a test: the fixture `openai_server` of conftest.py. As a process of its own:
``python tests/openai_server.py --script FILE --port-file FILE``, where the script is a JSON list
of ``{"contains", "text", "finish_reason", "status"}``; the first entry whose ``contains`` is in
the prompt answers. The port file appears, complete, once the server listens.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote

Fault = Literal["reset", "hang", "cut", "truncate", "garbage", "list", "drip", "endless"]
"""``reset``: the connection is reset; ``hang``: nothing comes; ``cut``: the connection ends in
mid-reply; ``truncate``: a whole response with half a JSON; ``garbage``: a web page; ``list``: JSON
that is no completion; ``drip``: a slow reply; ``endless``: one that drips for ever."""

_DRIP_SECONDS = 0.01
_ENDLESS_SECONDS = 30.0


@dataclass(frozen=True)
class Reply:
    """What the server answers to one prompt; a status other than 200 is an OpenAI-shaped error."""

    text: str | None = None
    finish_reason: str = "stop"
    refusal: str | None = None
    status: int = 200
    code: str | None = None
    retry_after: float | None = None
    headers: dict[str, str] = field(default_factory=dict)
    fault: Fault | None = None
    """What goes wrong in place of, or while, sending the reply."""


@dataclass(frozen=True)
class Request:
    """What the server was asked. Header names are in lower case; ``body`` is {} for a GET."""

    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]


Answer = Callable[[str, dict[str, Any]], Reply | str]
Routes = Callable[[str, str, bytes], "tuple[int, bytes] | None"]
"""Called with method, path and body; answers with status and body, None for other addresses."""


class OpenAIServer:
    """The server; listens once constructed, on a port of its own.

    Args:
        answer: Called with (the last message's text, the request's JSON), one thread per
            connection; a plain str is a reply that stopped by itself.
        key: The only key accepted; None accepts all.
        models: The names that the lookups know; None answers all lookups with 404.
        shutdown_date: Of all models, YYYY-MM-DD.
        routes: Further addresses.
    """

    def __init__(
        self,
        answer: Answer,
        *,
        key: str | None = None,
        models: Sequence[str] | None = (),
        shutdown_date: str | None = None,
        routes: Routes | None = None,
    ) -> None:
        self.answer = answer
        self.key = key
        self.models = models
        self.shutdown_date = shutdown_date
        self.routes = routes
        self.paid: Counter[str] = Counter()  # whole replies sent, by prompt
        self.requests: list[Request] = []
        self.most_at_once = 0
        self.dead = False
        self.lock = threading.Lock()
        self.at_once = 0
        self._connections: set[socket.socket] = set()
        self._http = _HTTPServer(("127.0.0.1", 0), _Handler)
        self._http.owner = self
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,))
        self._thread.start()

    def __enter__(self) -> OpenAIServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        """The base URL that a client needs."""
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    @property
    def chats(self) -> list[Request]:
        """The chat requests so far, refused ones included."""
        with self.lock:
            return [request for request in self.requests if request.method == "POST"]

    def prompts(self) -> list[str]:
        """The prompts of all chat requests so far."""
        return [str(request.body["messages"][-1]["content"]) for request in self.chats]

    def die(self) -> None:
        """Stop answering, as a crash would: listen no more, drop all connections.

        May be called by ``answer``; the reply that it returns is then not sent.
        """
        self.dead = True
        self._http.shutdown()
        self._http.socket.close()
        with self.lock:
            connections = list(self._connections)
        for connection in connections:
            _drop(connection)

    def close(self) -> None:
        """Stop the server and wait for its threads."""
        self.die()
        self._thread.join()
        self._http.server_close()

    def joined(self, connection: socket.socket) -> None:
        with self.lock:
            self._connections.add(connection)

    def left(self, connection: socket.socket) -> None:
        with self.lock:
            self._connections.discard(connection)


class _HTTPServer(ThreadingHTTPServer):
    daemon_threads = False  # so that server_close waits for them
    request_queue_size = 128  # the default of 5 refuses a burst of connections
    owner: OpenAIServer

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # clients hang up as they please


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _HTTPServer

    def setup(self) -> None:
        super().setup()
        self.server.owner.joined(self.request)

    def finish(self) -> None:
        self.server.owner.left(self.request)
        super().finish()

    def do_GET(self) -> None:
        owner = self.server.owner
        if not self._admitted({}) or self._routed(b""):
            return
        name = unquote(self.path.removeprefix("/v1/models").removeprefix("/"))
        if owner.models is None or (name and name not in owner.models):
            self._send(404, _error(f"The model '{name}' does not exist", "model_not_found"))
        elif name:
            self._send(200, self._model(name))
        else:
            data = [self._model(known) for known in owner.models]
            self._send(200, {"object": "list", "data": data})

    def do_POST(self) -> None:
        owner = self.server.owner
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chat = self.path == "/v1/chat/completions"
        body = json.loads(content) if chat else {}
        if not self._admitted(body) or self._routed(content):
            return
        if not chat:
            self._send(404, _error(f"no such address: {self.path}", None))
            return
        with owner.lock:
            owner.at_once += 1
            owner.most_at_once = max(owner.most_at_once, owner.at_once)
        try:
            given = owner.answer(str(body["messages"][-1]["content"]), body)
        finally:
            with owner.lock:
                owner.at_once -= 1
        reply = Reply(given) if isinstance(given, str) else given
        if reply.fault is not None and reply.fault != "drip":
            self._fail(reply.fault, body, reply)
        elif reply.status == 200:
            self._send(200, _completion(body, reply), reply.headers, drip=reply.fault == "drip")
            with owner.lock:
                owner.paid[str(body["messages"][-1]["content"])] += not owner.dead
        else:
            headers = {} if reply.retry_after is None else {"Retry-After": str(reply.retry_after)}
            error = _error(reply.text or "scripted error", reply.code)
            self._send(reply.status, error, {**headers, **reply.headers})

    def _routed(self, content: bytes) -> bool:
        routes = self.server.owner.routes
        answered = None if routes is None else routes(self.command, self.path, content)
        if answered is None:
            return False
        status, payload = answered
        self._write(status, payload, {"Content-Type": "application/json"})
        return True

    def _fail(self, fault: Fault, body: dict[str, Any], reply: Reply) -> None:
        whole = json.dumps(_completion(body, reply)).encode()
        kind = {"Content-Type": "application/json"}
        if fault == "garbage":
            self._write(200, b"<html>Welcome</html>", {"Content-Type": "text/html"})
        elif fault == "list":
            self._write(200, b"[1, 2, 3]", kind)
        elif fault == "truncate":
            self._write(200, whole[: len(whole) // 2], kind)
        else:
            self.close_connection = True
            if fault in ("cut", "endless"):
                self.send_response(200)
                self.send_header("Content-Length", str(len(whole) + 10**6))
                self.end_headers()
                self.wfile.write(whole[: len(whole) // 2])
            if fault in ("hang", "endless"):
                self._wait(drip=fault == "endless")
            if fault == "reset":
                linger = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.connection.close()

    def _wait(self, *, drip: bool) -> None:
        """Keep the client waiting until it or the server gives up."""
        self.connection.settimeout(0.05)
        until = time.monotonic() + _ENDLESS_SECONDS
        while time.monotonic() < until and not self.server.owner.dead:
            if drip:
                self.wfile.write(b" ")
            with contextlib.suppress(TimeoutError):
                if not self.connection.recv(1):
                    return

    def _admitted(self, body: dict[str, Any]) -> bool:
        owner = self.server.owner
        headers = {name.lower(): value for name, value in self.headers.items()}
        with owner.lock:
            owner.requests.append(Request(self.command, self.path, headers, body))
        if owner.key is None or headers.get("authorization") == f"Bearer {owner.key}":
            return True
        given = headers.get("authorization", "").removeprefix("Bearer ")
        self._send(401, _error(f"Incorrect API key provided: {given}.", "invalid_api_key"))
        return False

    def _model(self, name: str) -> dict[str, Any]:
        model = {"id": name, "object": "model", "created": 1, "owned_by": "tests"}
        date = self.server.owner.shutdown_date
        return model if date is None else {**model, "shutdown_date": date}

    def _send(
        self,
        status: int,
        payload: object,
        headers: dict[str, str] | None = None,
        *,
        drip: bool = False,
    ) -> None:
        content = json.dumps(payload).encode()
        fixed = {"Content-Type": "application/json"}
        self._write(status, content, {**fixed, **(headers or {})}, drip=drip)

    def _write(
        self, status: int, content: bytes, headers: dict[str, str], *, drip: bool = False
    ) -> None:
        if self.server.owner.dead:
            self.close_connection = True
            return
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        for piece in (
            [content[i : i + 64] for i in range(0, len(content), 64)] if drip else [content]
        ):
            self.wfile.write(piece)
            if drip:
                time.sleep(_DRIP_SECONDS)

    def log_message(self, format: str, *args: object) -> None:
        pass


def _completion(body: dict[str, Any], reply: Reply) -> dict[str, Any]:
    message = {"role": "assistant", "content": reply.text, "refusal": reply.refusal}
    sent, received = 100, 10
    return {
        "id": "chatcmpl-test",
        "object": "chat.completion",
        "created": 1,
        "model": body["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": reply.finish_reason}],
        "usage": {
            "prompt_tokens": sent,
            "completion_tokens": received,
            "total_tokens": sent + received,
        },
    }


def _error(message: str, code: str | None) -> dict[str, Any]:
    kind = "invalid_request_error"
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def _drop(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the client was faster
        connection.shutdown(socket.SHUT_RDWR)


def _scripted(entries: list[dict[str, Any]]) -> Answer:
    def answer(prompt: str, _: dict[str, Any]) -> Reply:
        for entry in entries:
            if entry["contains"] in prompt:
                return Reply(
                    entry.get("text"),
                    entry.get("finish_reason", "stop"),
                    status=entry.get("status", 200),
                )
        return Reply("no entry of the script fits this prompt", status=400)

    return answer


def main() -> None:
    """Serve a script until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--script", type=Path, required=True)
    parser.add_argument("--port-file", type=Path, required=True)
    parser.add_argument("--key")
    parser.add_argument("--models", nargs="*", default=[])
    options = parser.parse_args()
    answer = _scripted(json.loads(options.script.read_text("utf-8")))
    with OpenAIServer(answer, key=options.key, models=options.models) as server:
        # Renamed into place, so that nobody reads half a number.
        unfinished = options.port_file.with_suffix(".tmp")
        unfinished.write_text(server.url.rsplit(":", 1)[1].removesuffix("/v1"))
        os.replace(unfinished, options.port_file)
        threading.Event().wait()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
