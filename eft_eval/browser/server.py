"""The browser's server: this machine alone, GET alone, and no file by its name."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import Any
from urllib.parse import parse_qs, urlsplit

from eft_eval.browser.answers import Answers, spelt
from eft_eval.browser.selection import Selection
from eft_eval.errors import ConfigError, EftEvalError
from eft_eval.secrets import without_credentials

__all__ = ["BrowserServer"]

HOST = "127.0.0.1"
_HOSTS = {"127.0.0.1", "localhost", "[::1]"}
_SECONDS = 30  # in which a request has to come
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_PAGES = {
    "/": ("eft_eval.browser", "page/view.html", "text/html"),
    "/view.css": ("eft_eval.browser", "page/view.css", "text/css"),
    "/view.js": ("eft_eval.browser", "page/view.js", "text/javascript"),
    "/report.css": ("eft_eval.reports.renderers.html", "report.css", "text/css"),
}


class BrowserServer(ThreadingHTTPServer):
    """Serves one folder's documents to this machine.

    Attributes:
        answers: What the page is told.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, answers: Answers, port: int) -> None:
        self.answers = answers
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            raise ConfigError(
                f"--port {port}: {error.strerror or error}; give another, or none for a free one"
            ) from error

    @property
    def address(self) -> str:
        """The page's address."""
        return f"http://{HOST}:{self.server_address[1]}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a connection that broke off."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "eft-eval"
    sys_version = ""
    timeout = _SECONDS
    server: BrowserServer

    def do_GET(self) -> None:
        """Answer with the page, its style or script, or what the page asks for."""
        address = urlsplit(self.path)
        if self._is_foreign():
            self._send_json(403, {"error": "open the page by the address that eft-eval printed"})
        elif address.path in _PAGES:
            package, name, kind = _PAGES[address.path]
            self._send(200, kind, (resources.files(package) / name).read_bytes())
        elif address.path in _QUESTIONS:
            self._send_json(*self._answer(_QUESTIONS[address.path], address.query))
        else:
            self._send_json(404, {"error": "there is nothing at this address"})

    def do_other(self) -> None:
        """Refuse whatever is not GET."""
        self.close_connection = True
        self._send_json(405, {"error": "nothing can be changed here"}, {"Allow": "GET"})

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_other

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing of each request."""

    def _is_foreign(self) -> bool:
        """Whether a page of another site asks, under a name of its own for this machine."""
        hosts = self.headers.get_all("Host") or []
        name = hosts[0].strip().lower() if len(hosts) == 1 else ""
        host, colon, port = name.rpartition(":")
        if not colon or not port.isdigit():
            host = name
        site = self.headers.get("Sec-Fetch-Site", "none")
        return host not in _HOSTS or site not in ("none", "same-origin")

    def _answer(self, question: _Question, query: str) -> tuple[int, Mapping[str, Any]]:
        try:
            given = {name: values[-1] for name, values in parse_qs(query, True).items()}
            return 200, question(self.server.answers, given)
        except (EftEvalError, OSError, MemoryError, RecursionError) as error:
            return 400, {"error": without_credentials(str(error)) or type(error).__name__}
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            text = f"this run is damaged, or of a fork that writes another shape ({error!r:.200})"
            return 400, {"error": text}

    def _send_json(
        self, status: int, content: Mapping[str, Any], more: Mapping[str, str] | None = None
    ) -> None:
        text = json.dumps(spelt(content), ensure_ascii=True)
        self._send(status, "application/json", text.encode("ascii"), more)

    def _send(
        self, status: int, kind: str, content: bytes, more: Mapping[str, str] | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        for name, value in {**_HEADERS, **(more or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


_Given = Mapping[str, str]
_Question = Callable[[Answers, _Given], Mapping[str, Any]]


def _documents(answers: Answers, given: _Given) -> Mapping[str, Any]:
    wanted = Selection(
        filter=given.get("filter", ""),
        status=given.get("status", ""),
        metric=given.get("metric", ""),
        least=_number(given, "least"),
        most=_number(given, "most"),
        change=given.get("change", ""),
    )
    return answers.documents(
        _needed(given, "run"),
        _needed(given, "task"),
        wanted,
        given.get("other", ""),
        _count(given.get("first", "0"), "first"),
    )


def _document(answers: Answers, given: _Given) -> Mapping[str, Any]:
    at = _count(_needed(given, "at"), "at")
    return answers.document(
        _needed(given, "run"), _needed(given, "task"), at, given.get("other", "")
    )


_QUESTIONS: Mapping[str, _Question] = {
    "/api/runs": lambda answers, _: answers.runs(),
    "/api/run": lambda answers, given: answers.run(_needed(given, "run")),
    "/api/documents": _documents,
    "/api/document": _document,
}


def _needed(given: _Given, name: str) -> str:
    if not given.get(name):
        raise ConfigError(f"the address lacks {name}")
    return given[name]


def _count(text: str, name: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 15:
        raise ConfigError(f"{name} is {text[:40]!r}; expected a number of documents")
    return int(text)


def _number(given: _Given, name: str) -> float | None:
    text = given.get(name, "")
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"{name} is {text[:40]!r}; expected a number") from None
