"""The exported project in a real Potato 2.x: started, annotated over HTTP, exported, imported.

See potato_server for how Potato is found.
"""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from potato_server import BROWSER, Server, Session, free_port, in_browser, potato_python

from eft_eval.labels import Item, LabelSet, clean_text, export_potato, read_labels, text_hash
from eft_eval.labels.scheme import INSTRUCTIONS

pytestmark = pytest.mark.slow

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


def make_items() -> list[Item]:
    items = []
    for number, text in enumerate(TEXTS):
        texts = clean_text("Why <i>is</i> it?"), clean_text(text)
        digest = text_hash(*texts)
        name = f"eli5_fact-0123456789abcdef-r{number}-{digest[:8]}"
        items.append(Item(name, *texts, digest, "eli5_fact", "c", 7177717.0, f"doc {number}"))
    return items


@pytest.fixture(scope="module")
def items() -> list[Item]:
    return make_items()


@pytest.fixture(scope="module")
def server(items: list[Item], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    potato_python()  # skips before anything is written
    port = free_port()
    folder = tmp_path_factory.mktemp("potato") / "the project"
    exported = export_potato(items, folder, about={"seed": 0}, port=port)
    server = Server(exported.folder, port, exported.next_step)
    try:
        server.wait()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def answered(server: Server, items: list[Item]) -> Answers:
    """Answer every item as two annotators; the second leaves one out."""
    answers: Answers = {}
    for number, name in enumerate(ANNOTATORS):
        session = Session(server.url)
        page = session.log_in(name)
        assert "7177717" not in page
        for place, item in enumerate(items[: len(items) - number]):
            word = ("no", "yes", "unsure")[(place + number) % 3]
            given = {"error_count:::number": str(place + number), f"has_error:::{word}": word}
            if place == 1:
                given["notes:::text_box"] = "two\nlines; mail x@y.org, '=1"
            session.answer(item.item_id, given)
            answers[name, item.item_id] = given
    server.stored(ANNOTATORS)
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


def test_live_store(server: Server, answered: Answers, items: list[Item]) -> None:
    for path in (server.project, server.project / "annotation_output"):
        for known in (items, None):
            check(read_labels(path, items=known), items, answered)


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl"])
def test_potatos_own_export(
    server: Server, answered: Answers, items: list[Item], tmp_path: Path, kind: str
) -> None:
    labels = read_labels(server.export(kind, tmp_path), items=items)
    check(labels, items, answered)


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
def test_page_in_a_browser(server: Server, items: list[Item], tmp_path: Path) -> None:
    """The first item's text is hostile: it is shown to the letter, and does nothing."""
    form = '<input name="email" value="Eve"><input name="pass">'
    script = "<script>document.forms[0].submit()</script>"
    start = tmp_path / "start.html"
    start.write_text(f'<form method="post" action="{server.url}/auth">{form}</form>{script}')
    shown = in_browser(tmp_path, start.as_uri())
    assert INSTRUCTIONS in shown
    page = Page(shown)
    item = items[0]
    assert [text.replace("\xa0", " ") for text in page.texts] == [item.question, item.response]
    assert "owned" not in page.title
    assert "x" not in page.images
    number, *rest = page.controls
    assert (number["type"], number["min"], number["label_name"]) == ("number", "0", "number")
    assert [control["label_name"] for control in rest] == ["yes", "no", "unsure", "text_box"]
