"""The report's page: hostile texts are texts, and its policy names what is on it."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import subprocess
import sys
import time
from base64 import b64encode
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reported_runs import ARMS, HOSTILE, report_command, study, trace_record, write_arm

from eft_eval.characters import visible
from eft_eval.comparing import read_run, read_runs
from eft_eval.reporting.report import make_report
from eft_eval.reports.renderers.html.html import page_html
from eft_eval.reports.renderers.markdown import LARGEST, ROOM, page_markdown
from eft_eval.reports.views.quotes import quote
from eft_eval.reports.views.report import page_of

UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


class Reader(HTMLParser):
    """Reads a page: elements with their attributes, and the text of each."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        self.texts.setdefault(self._open[-1] if self._open else "", []).append(data)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Every form of a report whose names and texts are all hostile."""
    folder = tmp_path_factory.mktemp("hostile")
    paths = study(folder, 48, HOSTILE)
    for path in paths:
        (results,) = Path(path, "model").glob("results_*.json")
        content = json.loads(results.read_text())
        content["model_name"] = HOSTILE[0]
        content["config"]["eft_decoding"]["plain_reason"] = HOSTILE[0]
        content["results"] = json.loads(
            json.dumps(content["results"]).replace("any_right", "any_right<img src=x>")
        )
        results.write_text(json.dumps(content))
        (samples,) = Path(path, "model").glob("samples_*.jsonl")
        text = samples.read_text().replace("any_right", "any_right<img src=x>")
        samples.write_text(text)
    traced = folder / "trace.json"
    traced.write_text(json.dumps(trace_record(HOSTILE, [0.6, 0.3, 0.1, 0.0, 0.9, 0.2, 0.5, 0.0])))
    shared = ["--trace", str(traced), "--title", HOSTILE[0], "--flips", "20"]
    for name, options in (("html", []), ("interactive", ["--interactive"])):
        done = report_command(*paths, "--out", str(folder / f"{name}.html"), *shared, *options)
        assert done.exit_code == 0, done.exception
    done = report_command(*paths, "--out", str(folder / "report.md"), "--format", "md", *shared)
    assert done.exit_code == 0, done.exception
    names = {"html": "html.html", "interactive": "interactive.html", "md": "report.md"}
    return {form: (folder / name).read_text("utf-8") for form, name in names.items()}


@pytest.mark.parametrize("form", ["html", "interactive"])
def test_hostile_texts_are_texts(hostile: dict[str, str], form: str) -> None:
    page = hostile[form]
    read = Reader(page)
    assert read.named("img") == []
    assert read.named("b") == []
    assert [one for one in read.named("svg") if one.get("role") != "img"] == []
    assert len(read.named("style")) == 1
    assert len(read.named("script")) == (3 if form == "interactive" else 2)
    handlers = [
        key for _, attributes in read.elements for key in attributes if key.startswith("on")
    ]
    assert handlers == []
    assert not any("style" in attributes for _, attributes in read.elements)
    targets = {one.get("href") for one in read.named("a")}
    assert all(target and target.startswith("#") for target in targets)
    shown = "".join(text for texts in read.texts.values() for text in texts)
    assert "</script><img src=x onerror=alert(1)>" in shown
    assert "{{ 7*7 }}" in shown
    assert not UNSEEN.search(page)
    assert "⟨U+202E RO⟩" in shown
    assert "␀" in shown


def test_ids_are_unique_and_references_lead_somewhere(hostile: dict[str, str]) -> None:
    read = Reader(hostile["html"])
    ids = [attributes["id"] for _, attributes in read.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in read.elements:
        for key in ("aria-labelledby", "href"):
            target = attributes.get(key)
            if target:
                assert target.lstrip("#") in ids


def test_tables_and_headings_are_in_order(hostile: dict[str, str]) -> None:
    read = Reader(hostile["html"])
    levels = [int(tag[1]) for tag, _ in read.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert all(one.get("scope") in ("col", "row") for one in read.named("th"))
    assert len(read.named("table")) == len(read.named("caption"))
    for one in read.named("svg"):
        assert one["aria-labelledby"]


@pytest.mark.parametrize("form", ["html", "interactive"])
def test_the_policy_names_exactly_what_is_on_the_page(hostile: dict[str, str], form: str) -> None:
    page = hostile[form]
    (policy,) = (
        one["content"]
        for one in Reader(page).named("meta")
        if one.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    inline = re.findall(r"<(style|script)>(.*?)</\1>", page, re.DOTALL)
    for _, text in inline:
        digest = b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert policy.count("sha256-") == len(inline)
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    outside = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    addresses = set(re.findall(r"https?://[^\s\"'<&]+", outside)) - {"http://www.w3.org/2000/svg"}
    assert {a for a in addresses if "vega" not in a} == set()


def test_the_embedded_json_is_the_traces(hostile: dict[str, str]) -> None:
    (text,) = re.findall(
        r'<script type="application/json" id="page-data">(.*?)</script>', hostile["html"], re.DOTALL
    )
    assert "<" not in text
    tokens = json.loads(text)["tokens"]["trace-1"]
    assert tokens[0]["token"] == f"“{HOSTILE[0]}”"
    assert tokens[0]["distance"] == "0.600"
    assert tokens[0]["choices"] == [["base", f"“{HOSTILE[0]}”", "0.90"]]


def test_hostile_texts_in_markdown(hostile: dict[str, str]) -> None:
    text = hostile["md"]
    allowed = r"</?(details|summary|sub)>"
    assert re.sub(allowed, "", text).count("<") == 0
    assert not re.search(r"(?<!\\)\[a(?<!\\)\]\(", text)
    assert "@everyone" not in text
    assert not re.search(r"^#{1,2} ", text, re.MULTILINE)
    assert re.search(r"^### \S", text, re.MULTILINE)
    heads = re.findall(r"^\|(.*)\|\n\|[-:|]+\|\n((?:\|.*\|\n)+)", text, re.MULTILINE)
    assert len(heads) > 8
    for head, body in heads:
        bars = len(re.findall(r"(?<!\\)\|", head))
        for row in body.splitlines():
            assert len(re.findall(r"(?<!\\)\|", row)) == bars + 2, row


@given(st.text(max_size=60))
def test_visible_texts_hide_nothing(text: str) -> None:
    shown = visible(text)
    assert not UNSEEN.search(shown)
    kept = "".join(one for one in text.replace("\r\n", "\n") if visible(one) == one)
    assert [one for one in shown if one in kept] or not kept
    assert visible(shown) == shown


@given(st.text(max_size=300), st.integers(1, 200))
def test_what_is_cut_is_said(text: str, longest: int) -> None:
    found = quote(text, len(text), longest)
    assert bool(found.cut) == (len(text) > longest)
    if found.cut:
        assert found.cut == f"cut: the first {longest:,} of {len(text):,} characters"


def test_a_megabyte_is_cut_and_said(tmp_path: Path) -> None:
    long = "word " * 200_000
    old = write_arm(tmp_path / "old", ARMS["small"], [0.0, 1.0] * 10)
    new = write_arm(
        tmp_path / "new", ARMS["up"], [2.0, 1.0] * 10, responses=[long] * 20, reasons=[long] * 20
    )
    report = make_report([read_run(old), read_run(new)])
    page = page_html(page_of(report))
    assert "cut: the first 4,000 of 1,000,000 characters" in page
    assert len(page) < 500_000
    text = page_markdown(page_of(report, ROOM))
    assert len(text.encode()) < LARGEST
    assert "of 1,000,000 characters" in text


@pytest.mark.slow
def test_256_documents_with_4_samples_stay_below_5_mb(tmp_path: Path) -> None:
    """Four arms, 1,024 responses of 2,000 characters each, with the judge's reasons."""
    text = "A rather long response, as a language model writes it. " * 37
    paths = study(tmp_path, 1024, [text])
    for path in paths:  # four documents share a prompt
        (samples,) = Path(path, "model").glob("samples_*.jsonl")
        lines = [json.loads(line) for line in samples.read_text().splitlines()]
        for number, line in enumerate(lines):
            line["prompt_hash"] = hashlib.sha256(str(number // 4).encode()).hexdigest()
        samples.write_text("".join(json.dumps(line) + "\n" for line in lines))
        (results,) = Path(path, "model").glob("results_*.json")
        content = json.loads(results.read_text())
        content["task_hashes"] = {}
        results.write_text(json.dumps(content))
    started = time.perf_counter()
    report = make_report(read_runs(paths), flips=10)
    page = page_html(page_of(report), interactive=True)
    spent = time.perf_counter() - started
    print(f"{spent:.1f} s, {len(page.encode()) / 1e6:.2f} MB")
    assert len(page.encode()) < 5_000_000
    assert spent < 60
    assert report.comparison is not None
    assert report.comparison.candidates[0].rows[0].samples == 4
    assert "n: documents" in page


@pytest.mark.slow
def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    paths = study(tmp_path, 24, HOSTILE)[:2]
    program = (
        "from eft_eval.cli.app import app; from typer.testing import CliRunner\n"
        "for form in ('html', 'md'):\n"
        f"    words = ['--format', form, '--out', {str(tmp_path)!r} + '/r.' + form]\n"
        f"    done = CliRunner().invoke(app, ['report', *{paths!r}, *words])\n"
        "    assert done.exit_code == 0"
    )
    pages = []
    for seed in ("1", "2"):
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
        )
        pages.append([(tmp_path / f"r.{form}").read_bytes() for form in ("html", "md")])
    assert pages[0] == pages[1]
    assert len(pages[0][0]) > 50_000
