"""The exported project in a real Potato 2.x: started, annotated over HTTP, exported, imported.

Potato is found by EFT_TEST_POTATO, the path of its command or of a python that has it, else in the
environment of the tests. It is not one of their requirements, as it brings a web server.
"""

from __future__ import annotations

import http.cookiejar
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib import metadata
from pathlib import Path

import pytest

from eft_eval.agreement.labels import (
    Item,
    LabelSet,
    clean_text,
    export_potato,
    read_labels,
    text_hash,
)

pytestmark = pytest.mark.slow

GIVEN = os.environ.get("EFT_TEST_POTATO")  # before the fixture that clears the environment
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
TEXTS = (
    "</script><img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
    '\nsecond\n\n  indented & <b>bold</b> &lt;b&gt; it\'s "q" javascript:alert(1) the data: 1\n'
    "expression(2) {{7*7}} \\u003c ${1} `x`\nשלום עולם \u202egnp.exe\nend",
    "=HYPERLINK(1)",
    "word " * 2000 + "x" * 3000,
    "plain",
)
ANNOTATORS = ("jane@example.com", "Bob")
Answers = dict[tuple[str, str], dict[str, str]]  # by user and item: what is posted


def potato_python() -> Path:
    """Return the python that has Potato."""
    if GIVEN:
        given = Path(GIVEN)
        return given if given.name.startswith("python") else given.with_name("python")
    try:
        version = metadata.version("potato-annotation")
    except metadata.PackageNotFoundError:
        pytest.skip("no Potato: set EFT_TEST_POTATO to its command, or install potato-annotation")
    if not version.startswith("2."):
        pytest.skip(f"potato-annotation {version} is not 2.x")
    return Path(sys.executable)


def make_items() -> list[Item]:
    items = []
    for number, text in enumerate(TEXTS):
        texts = clean_text("Why <i>is</i> it?"), clean_text(text)
        digest = text_hash(*texts)
        name = f"eli5_fact-0123456789abcdef-r{number}-{digest[:8]}"
        items.append(Item(name, *texts, digest, "eli5_fact", "c", 7177717.0, f"doc {number}"))
    return items


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Session:
    """One annotator's browser."""

    def __init__(self, url: str) -> None:
        jar = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        self._open = urllib.request.build_opener(jar).open
        self._url = url

    def post(self, path: str, data: bytes, kind: str) -> str:
        request = urllib.request.Request(self._url + path, data, {"Content-Type": kind})
        with self._open(request, timeout=60) as reply:
            return str(reply.read().decode())

    def log_in(self, name: str) -> str:
        form = urllib.parse.urlencode({"email": name, "pass": ""}).encode()
        return self.post("/auth", form, "application/x-www-form-urlencoded")

    def answer(self, item_id: str, annotations: dict[str, str]) -> None:
        data = json.dumps({"instance_id": item_id, "annotations": annotations}).encode()
        assert json.loads(self.post("/updateinstance", data, "application/json"))["status"] == (
            "success"
        )


class Server:
    """The exported project, started by the command that the export returned."""

    def __init__(self, folder: Path) -> None:
        self.items = make_items()
        port = free_port()
        exported = export_potato(self.items, folder, about={"seed": 0}, port=port)
        self.url = f"http://127.0.0.1:{port}"
        self.project = exported.folder
        self.python = potato_python()
        self.log = folder.with_suffix(".log")
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                ["bash", "-c", exported.next_step],
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "PATH": f"{self.python.parent}{os.pathsep}{os.environ['PATH']}"}

    def wait(self, seconds: float = 180) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and self._process.poll() is None:
            try:
                with urllib.request.urlopen(self.url, timeout=10):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.5)
        pytest.fail(f"Potato did not start:\n{self.log.read_text()[-3000:]}")

    def stop(self) -> None:
        os.killpg(self._process.pid, signal.SIGTERM)
        self._process.wait(timeout=60)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    potato_python()  # skips before anything is written
    server = Server(tmp_path_factory.mktemp("potato") / "the project")
    try:
        server.wait()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def answered(server: Server) -> Answers:
    """Answer every item as two annotators; the second leaves one out."""
    answers: Answers = {}
    for number, name in enumerate(ANNOTATORS):
        session = Session(server.url)
        page = session.log_in(name)
        assert "7177717" not in page
        for place, item in enumerate(server.items[: len(server.items) - number]):
            word = ("no", "yes", "unsure")[(place + number) % 3]
            given = {"error_count:::number": str(place + number), f"has_error:::{word}": word}
            if place == 1:
                given["notes:::text_box"] = "two\nlines; mail x@y.org, '=1"
            session.answer(item.item_id, given)
            answers[name, item.item_id] = given
    expected = [server.project / "annotation_output" / n / "user_state.json" for n in ANNOTATORS]
    end = time.monotonic() + 60
    while time.monotonic() < end and not all(path.exists() for path in expected):
        time.sleep(0.2)
    return answers


def check(labels: LabelSet, items: list[Item], answers: Answers) -> None:
    """Compare imported labels with what was posted."""
    expected = sorted(
        sorted(
            (item_id, key.split(":::")[0], float(value) if value.isdigit() else value)
            for (user, item_id), given in answers.items()
            for key, value in given.items()
            if user == name
        )
        for name in ANNOTATORS
    )
    found = sorted(
        sorted(
            (label.item_id, label.field, label.value)
            for label in labels.labels
            if label.annotator == annotator
        )
        for annotator in labels.annotators
    )
    assert str(found) == str(expected).replace("x@y.org,", "[e-mail],")
    assert labels.dropped == ()
    text = repr(labels)
    assert not [word for word in ("jane", "Bob", "example.com", "@") if word in text]
    counts = labels.matrix("error_count", item_ids=[item.item_id for item in items])
    assert counts.values.shape == (len(items), 2)


def test_live_store(server: Server, answered: Answers) -> None:
    for path in (server.project, server.project / "annotation_output"):
        for items in (server.items, None):
            check(read_labels(path, items=items), server.items, answered)


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl"])
def test_potatos_own_export(server: Server, answered: Answers, tmp_path: Path, kind: str) -> None:
    command = [str(server.python), "-m", "potato.export", "-c", "config.yaml", "-f", kind]
    subprocess.run(
        [*command, "-o", str(tmp_path)],
        cwd=server.project,
        env=server.environment,
        check=True,
        capture_output=True,
        timeout=300,
    )
    labels = read_labels(tmp_path / f"annotations.{kind}", items=server.items)
    check(labels, server.items, answered)


class Page(HTMLParser):
    """What a browser shows of the texts, and which controls it has."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.controls: list[dict[str, str | None]] = []
        self.images: list[str | None] = []
        self.title = ""
        self._inside = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        if tag == "div" and "text-display-content" in (attributes.get("class") or ""):
            self.texts.append("")
            self._inside = tag
        elif tag == "title":
            self._inside = tag
        elif tag == "br" and self._inside == "div":
            self.texts[-1] += "\n"
        elif tag == "img":
            self.images.append(attributes.get("src"))
        elif tag in ("input", "textarea") and attributes.get("schema"):
            self.controls.append(attributes)

    def handle_endtag(self, tag: str) -> None:
        if tag == self._inside:
            self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "div":
            self.texts[-1] += data
        elif self._inside == "title":
            self.title += data


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here to look at the page with")
def test_page_in_a_browser(server: Server, tmp_path: Path) -> None:
    """The first item's text is hostile: it is shown to the letter, and does nothing."""
    form = '<input name="email" value="Eve"><input name="pass">'
    script = "<script>document.forms[0].submit()</script>"
    start = tmp_path / "start.html"
    start.write_text(f'<form method="post" action="{server.url}/auth">{form}</form>{script}')
    page = Page(in_browser(tmp_path, start.as_uri()))
    item = server.items[0]
    assert [text.replace("\xa0", " ") for text in page.texts] == [item.question, item.response]
    assert "owned" not in page.title
    assert "x" not in page.images
    number, *rest = page.controls
    assert (number["type"], number["min"], number["label_name"]) == ("number", "0", "number")
    assert [control["label_name"] for control in rest] == ["yes", "no", "unsure", "text_box"]


def in_browser(folder: Path, url: str) -> str:
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=10000"]
    done = subprocess.run(
        [str(BROWSER), *options, f"--user-data-dir={folder / 'profile'}", "--dump-dom", url],
        check=True,
        capture_output=True,
        timeout=180,
    )
    return done.stdout.decode()
