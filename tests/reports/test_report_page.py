"""The page as a file: command, hostile texts, policy, size, same bytes, Markdown."""

from __future__ import annotations

import hashlib
import html
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
from reported_runs import ARMS, HOSTILE, study, trace_record, write_arm
from typer.testing import CliRunner
from written_runs import write_run

from eft_eval.characters import visible
from eft_eval.cli.app import app
from eft_eval.comparing import read_run, read_runs
from eft_eval.errors import ConfigError
from eft_eval.reporting.report import make_report
from eft_eval.reports.document import Bar, Figure, Plane
from eft_eval.reports.renderers.html.figures import draw
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


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["report", *arguments])


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
        done = run(*paths, "--out", str(folder / f"{name}.html"), *shared, *options)
        assert done.exit_code == 0, done.exception
    done = run(*paths, "--out", str(folder / "report.md"), "--format", "md", *shared)
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


# --- what is on it


def test_the_page_has_its_parts_in_order(tmp_path: Path) -> None:
    traced = tmp_path / "trace.json"
    traced.write_text(json.dumps(trace_record(["A", " b", "\n", "c"], [0.6, 0.3, 0.1, 0.0])))
    out = tmp_path / "report.html"
    done = run(*study(tmp_path, 40), "--trace", str(traced), "--out", str(out))
    assert done.exit_code == 0, done.exception
    page = out.read_text("utf-8")
    names = re.findall(r'<section id="([a-z]+)"', page)
    assert names == ["improvements", "scores", "differences", "traces", "flips", "speed",
                     "provenance"]  # fmt: skip
    assert "87.5 %" in page  # acceptance
    assert "eft-eval report" in page
    assert str(out) in html.unescape(page)  # the command


def test_a_study_has_no_verdict_and_a_gate_opens_with_it(tmp_path: Path) -> None:
    paths = study(tmp_path, 40)
    pages = {}
    for name, options in (("study", []), ("gate", ["--gate"])):
        for form in ("html", "md"):
            out = tmp_path / f"{name}.{form}"
            done = run(*paths, "--out", str(out), "--format", form, *options)
            assert done.exit_code == 0, done.exception
            pages[f"{name}.{form}"] = out.read_text("utf-8")
    words = r'class="verdict|class="badge|p worse|outcome|Holm|regression|inconclusive'
    for form in ("html", "md"):
        body = re.sub(r"(?s)<style>.*?</style>", "", pages[f"study.{form}"])
        assert not re.search(words, body, re.IGNORECASE)
        assert "difference: candidate - baseline on the same documents" in body
    assert re.search(r'class="verdict (regression|pass|inconclusive)"', pages["gate.html"])
    assert re.findall(r'<section id="([a-z]+)"', pages["gate.html"])[:3] == [
        "differences", "scores", "improvements",
    ]  # fmt: skip
    assert re.search(r"^### .*(Regression|Inconclusive|Pass): ", pages["gate.md"])
    assert "--gate" in pages["gate.md"]
    assert pages["study.md"].startswith("### model\n")


def test_a_gate_of_one_run_is_refused(tmp_path: Path) -> None:
    paths = study(tmp_path, 10)
    done = run(paths[0], "--gate", "--format", "md")
    assert isinstance(done.exception, ConfigError)
    assert "at least one candidate" in str(done.exception)


def test_every_number_of_the_markdown_is_on_the_page(tmp_path: Path) -> None:
    report = make_report(read_runs(study(tmp_path, 40)))
    text, page = page_markdown(page_of(report, ROOM)), page_html(page_of(report))
    numbers = set(re.findall(r"(?<![\d.\w])[+-]?\d+\.\d{4}(?!\d)", text))
    assert len(numbers) > 30
    shown = html.unescape(page)
    assert [one for one in numbers if one not in shown] == []


def test_the_markdown_stays_below_githubs_limit_and_says_what_is_missing(tmp_path: Path) -> None:
    names = [f"{'metric' * 40}_{i}" for i in range(2500)]
    runs = [
        read_run(write_run(tmp_path / name, {"t": dict.fromkeys(names, values)}))
        for name, values in (("old", [1.0, 0.0, 1.0]), ("new", [1.0, 1.0, 0.0]))
    ]
    text = page_markdown(page_of(make_report(runs), ROOM))
    assert len(text.encode()) < LARGEST
    assert "Left out for want of room" in text


def test_many_metrics_are_not_all_drawn(tmp_path: Path) -> None:
    names = [f"m{i}" for i in range(20)]
    runs = [
        read_run(write_run(tmp_path / name, {"t": dict.fromkeys(names, values)}))
        for name, values in (("old", [1.0, 0.0, 1.0]), ("new", [1.0, 1.0, 0.0]))
    ]
    page = page_html(page_of(make_report(runs)))
    assert page.count("<svg") == 24
    assert page.count("8 more metrics are in the tables alone") == 2


def test_figures_are_told_in_words() -> None:
    across = Bar("", 0.5, 0.4, 0.6, False, "0.5000 [0.4000, 0.6000]")
    up = Bar("", 0.7, None, None, False, "0.7000")
    plane = Plane("The trade-off", "harm ↓", "helpfulness ↑", (("base", (("α = 0", across, up),)),))
    (drawn,) = draw(Figure("figure-x", "A caption", (plane,)))
    assert drawn.text == (
        "The trade-off: α = 0: harm ↓ 0.5000 [0.4000, 0.6000], helpfulness ↑ 0.7000"
    )


def test_a_single_run_and_runs_without_samples_have_a_page(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", {"t": {"acc": [1.0, 0.0, 1.0]}})
    page = page_html(page_of(make_report([read_run(folder)])))
    assert "compared with nothing" in page
    for samples in folder.glob("samples_*"):
        samples.unlink()
    page = page_html(page_of(make_report([read_run(folder)])))
    assert "no samples file" in page
    assert "0.6667" in page


def test_unscored_verdicts_are_counted_on_the_page(tmp_path: Path) -> None:
    from reported_runs import verdict

    def mixed(name: str) -> Path:
        return write_run(
            tmp_path / name,
            {"t": {"errors": [1.0, None, 2.0, None]}},
            better={"errors": False},
            filter_name="judge",
            filtered=[
                verdict(1, "a"), verdict(None, "", "abstained"), verdict(2, "b"),
                verdict(None, "", "malformed"),
            ],
        )  # fmt: skip

    page = page_html(page_of(make_report([read_run(mixed("a")), read_run(mixed("b"))])))
    assert "1 abstained, 1 malformed, 2 scored" in page
    assert "2 (2 missing)" in page


def test_agreement_and_corrected_scores_are_on_the_page(tmp_path: Path) -> None:
    from judged_runs import (
        PEOPLE,
        VERDICTS,
        counted,
        items_in_order,
        write_judged_run,
        write_labels,
    )

    from eft_eval.agreement import agree_files
    from eft_eval.agreement.correct import correct_run
    from eft_eval.records import write_report

    folder = write_judged_run(tmp_path / "run", counted(VERDICTS))
    labels = write_labels(tmp_path / "labels.csv", items_in_order(folder), PEOPLE)
    found = agree_files([labels], folder)
    file = tmp_path / "agreement.json"
    write_report(file, found.to_dict())
    corrected = correct_run(folder, [labels])
    for samples in folder.glob("samples_*"):  # these lines lack hashes; aggregates are enough here
        samples.unlink()
    out = tmp_path / "r.html"
    done = run(str(folder), "--agreement", str(file), "--out", str(out))
    assert done.exit_code == 0, done.exception
    page = html.unescape(out.read_text("utf-8"))
    assert found.pair is not None
    assert f"{found.pair.agreement.rate:.1%}".replace("%", " %") in page
    assert f"{found.pair.kappa.interval.estimate:.3f}" in page
    for one in corrected.metrics:
        assert f"{one.task}/{one.metric}_ppi" in page.replace("<wbr>", "")
    assert "Krippendorff's α" in page
    assert "May judge-1 replace a person?" in page
    text = run(str(folder), "--agreement", str(file), "--format", "md").output
    assert "Cohen's κ" in text


# --- the command


def test_errors_are_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    study(Path(), 20)
    Path("broken.json").write_text('{"tokens": 1}')
    Path("list.json").write_text("[]")
    Path("none.json").write_text(json.dumps({**trace_record([], []), "tokens": []}))
    Path("other.json").write_text(json.dumps({"format": "eft-eval gold"}))
    bad = trace_record(["a"], [0.5])
    bad["tokens"][0]["choices"][0]["probability"] = "high"
    Path("bad.json").write_text(json.dumps(bad))
    Path("folder").mkdir()
    for arguments, complaint in (
        (["small"], "a page needs a file: --out report.html"),
        (["small", "--out", "no/r.html"], "there is no folder no"),
        (["small", "--out", "folder"], "is a folder; expected a file such as"),
        (["small", "--out", "small.json"], "expected a name such as report.html"),
        (["nowhere", "--out", "r.html"], "there is no file or folder nowhere"),
        (["small", "--out", "r.html", "--trace", "no.json"], "cannot read no.json"),
        (["small", "--out", "r.html", "--trace", "broken.json"], "broken.json lacks composite"),
        (["small", "--out", "r.html", "--trace", "list.json"], "holds no JSON object"),
        (["small", "--out", "r.html", "--trace", "none.json"], "has no tokens"),
        (
            ["small", "--out", "r.html", "--trace", "bad.json"],
            "bad.json.tokens[0].choices[0].probability is 'high'; expected a number",
        ),
        (["small", "--out", "r.html", "--agreement", "other.json"], "is 'eft-eval gold'; expected"),
        (["small", "--out", "r.html", "--arm", "small"], "expected ARM=RUN"),
        (["small", "--out", "r.html", "--arm", "smol=up"], "unknown arm 'smol' (did you mean"),
        (
            ["small", "--out", "r.html", "--arm", "small=up", "--arm", "large=up"],
            "up is already said to be small",
        ),
    ):
        done = run(*arguments)
        assert isinstance(done.exception, ConfigError), (arguments, done.output)
        assert complaint in str(done.exception), str(done.exception)
        assert "\n" not in str(done.exception)
    assert not Path("r.html").exists()


@pytest.mark.parametrize("library", ["altair", "vl_convert"])
def test_without_the_libraries_the_page_has_its_tables_and_a_line_says_so(
    tmp_path: Path, library: str
) -> None:
    paths = study(tmp_path, 20)
    program = f"import sys; sys.modules[{library!r}] = None; from eft_eval.cli import main; main()"
    command = [sys.executable, "-c", program, "report", *paths]

    def report(*options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *options], cwd=tmp_path, capture_output=True, text=True, check=False
        )

    done = report("--out", "r.html")
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stderr.splitlines() if "not installed" in line] == [
        f"eft-eval: the page has tables and no figures: {library} is not installed "
        '(pip install "eft-eval[report]")'
    ]
    page = (tmp_path / "r.html").read_text("utf-8")
    whole = page_html(page_of(make_report(read_runs([*map(str, paths)]))))
    assert page.count("<table") == whole.count("<table") > 3
    assert "<figure" not in page
    assert page.count("A figure is left out: ") == whole.count("<figure") > 0
    asked = report("--out", "i.html", "--interactive")
    assert asked.returncode == 2
    assert f"{library}, which is not installed" in asked.stderr
    assert asked.stderr.count("\n") == 1
    assert not (tmp_path / "i.html").exists()
    assert report("--format", "md").returncode == 0


def test_arms_can_be_named_on_the_command_line(tmp_path: Path) -> None:
    paths = study(tmp_path, 40)
    for path in paths[:1] + paths[3:]:
        (results,) = Path(path, "model").glob("results_*.json")
        content = json.loads(results.read_text())
        content["config"] = {"model": "local-completions", "model_args": {"model": "x"}}
        results.write_text(json.dumps(content))
    plain = run(*paths, "--format", "md").output
    assert "What the arms carry over" not in plain
    named = run(
        *paths[:3], "--format", "md", "--arm", f"small={paths[0]}", "--arm", f"large={paths[3]}"
    )
    assert "What the arms carry over" in named.output
    assert "large tuned - small tuned" in named.output


def test_a_page_that_is_there_is_replaced_whole(tmp_path: Path) -> None:
    paths = study(tmp_path, 20)
    out = tmp_path / "r.html"
    for _ in range(2):
        assert run(paths[0], "--out", str(out)).exit_code == 0
    assert out.read_text("utf-8").rstrip().endswith("</html>")
    assert not list(tmp_path.glob(".*part"))
