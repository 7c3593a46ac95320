"""The Batch API for tests: /v1/files and /v1/batches, for `OpenAIServer(routes=...)`.

Nothing moves by itself: a test calls `run` to let a batch end.
"""

from __future__ import annotations

import json
import random
import re
import threading
from collections.abc import Callable
from typing import Any

Call = tuple[int, bytes]


class BatchEndpoint:
    """Keeps files and batches; answers requests when told to.

    Args:
        answer: Called with a request's body; returns a completion's JSON.
    """

    def __init__(self, answer: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self.answer = answer
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.before_create: Callable[[], None] = lambda: None
        self.after_create: Callable[[], None] = lambda: None
        self.answered: list[str] = []  # custom_ids, once per answer
        self._lock = threading.Lock()

    def routes(self, method: str, path: str, body: bytes) -> Call | None:
        """Answer the addresses of files and batches; None for others."""
        path, _, _ = path.removeprefix("/v1").partition("?")
        if (method, path) == ("POST", "/files"):
            return self._upload(body)
        if (method, path) == ("POST", "/batches"):
            return self._create(json.loads(body))
        if (method, path) == ("GET", "/batches"):
            listed = list(reversed(self.batches.values()))
            return _ok({"object": "list", "data": listed, "has_more": False})
        if found := re.fullmatch(r"/batches/([^/]+)", path):
            batch = self.batches.get(found[1])
            return _ok(batch) if batch else _lost(f"No batch found with id '{found[1]}'")
        if found := re.fullmatch(r"/files/([^/]+)/content", path):
            content = self.files.get(found[1])
            return (200, content) if content is not None else _lost("No such file")
        return None

    def requests(self, batch_id: str) -> list[dict[str, Any]]:
        """The lines of a batch's request file."""
        text = self.files[self.batches[batch_id]["input_file_id"]].decode()
        return [json.loads(line) for line in text.splitlines()]

    def run(
        self,
        batch_id: str,
        *,
        status: str = "completed",
        errors: dict[str, str] | None = None,
        seed: int = 0,
    ) -> None:
        """Let a batch end.

        Args:
            batch_id: Which.
            status: Its last status.
            errors: By custom_id: ``expired``, or the message of an HTTP status 400. All other
                requests are answered.
            seed: Of the order of the lines.
        """
        errors = errors or {}
        good, bad = [], []
        for request in self.requests(batch_id):
            name = request["custom_id"]
            if name not in errors:
                self.answered.append(name)
                good.append(_line(name, 200, self.answer(request["body"])))
            elif errors[name] == "expired":
                reason = {"code": "batch_expired", "message": "could not be executed in time"}
                bad.append({"id": "r", "custom_id": name, "response": None, "error": reason})
            else:
                bad.append(_line(name, 400, {"error": {"message": errors[name]}}))
        batch = self.batches[batch_id]
        for kind, lines in (("output_file_id", good), ("error_file_id", bad)):
            if lines:
                random.Random(seed).shuffle(lines)
                batch[kind] = self._keep("\n".join(map(json.dumps, lines)).encode())
        counts = {"total": len(good) + len(bad), "completed": len(good), "failed": len(bad)}
        batch |= {"status": status, "request_counts": counts}

    def _upload(self, body: bytes) -> Call:
        boundary = body.split(b"\r\n", 1)[0]
        parts = [part for part in body.split(boundary) if b'name="file"' in part]
        content = parts[0].split(b"\r\n\r\n", 1)[1].removesuffix(b"\r\n")
        name = self._keep(content)
        purpose = {"object": "file", "filename": "f", "purpose": "batch", "status": "processed"}
        return _ok({"id": name, "bytes": len(content), "created_at": 1, **purpose})

    def _create(self, given: dict[str, Any]) -> Call:
        self.before_create()
        with self._lock:
            name = f"batch_{len(self.batches)}"
            self.batches[name] = {
                "id": name,
                "object": "batch",
                "created_at": 1,
                "expires_at": 86401,
                "status": "validating",
                **given,
            }
        self.after_create()
        return _ok(self.batches[name])

    def _keep(self, content: bytes) -> str:
        with self._lock:
            name = f"file-{len(self.files)}"
            self.files[name] = content
        return name


def _line(name: str, status: int, body: dict[str, Any]) -> dict[str, Any]:
    response = {"status_code": status, "request_id": "r", "body": body}
    return {"id": "r", "custom_id": name, "response": response, "error": None}


def _ok(payload: object) -> Call:
    return 200, json.dumps(payload).encode()


def _lost(message: str) -> Call:
    return 404, json.dumps({"error": {"message": message, "code": None}}).encode()
