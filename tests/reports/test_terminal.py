"""Documents in the terminal: every figure whole at every width, and nothing in a text is obeyed."""

from __future__ import annotations

import io
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from judged_runs import PEOPLE, VERDICTS, counted, items_in_order, write_judged_run, write_labels
from reported_runs import HOSTILE, study, trace_record
from rich.cells import cell_len
from rich.console import Console
from written_runs import write_run

from eft_eval.agreement import agree_files
from eft_eval.comparing import compare_runs, read_run
from eft_eval.records import restored
from eft_eval.reports import document
from eft_eval.reports.ci.forms import FORMS
from eft_eval.reports.document import Cell, Document, Facts, Table, Texts, cells, columns
from eft_eval.reports.numbers import number, p_value, percent
from eft_eval.reports.renderers.markdown import document_markdown
from eft_eval.reports.renderers.terminal import document_text, print_document
from eft_eval.reports.views.agreement import agreement
from eft_eval.reports.views.comparison import comparison
from eft_eval.reports.views.demo import answers, arms
from eft_eval.reports.views.judging import judged
from eft_eval.reports.views.traces import trace
from eft_eval.runs.judged import Judging
from eft_eval.runs.traces import read_trace
from eft_eval.statistics.interval import Interval
from eft_eval.streams import say

WIDTHS = (60, 80, 120)
UNSEEN = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
COMMAND = re.compile(r"^\s*::|##\w*\[", re.MULTILINE)
COMMANDS = (
    "::error title=x::gone",
    "##[error]gone",
    "##vso[task.complete result=Failed;]",
    "\n::e",
)


METRICS = ("errors", "errors_normalised", "helpfulness", "helpfulness_normalised")
FOUND = {"estimate": 0.512345, "lower": -0.412345, "upper": 0.612345}
SCORES = {"fact_any_error,factuality": 0.54321, "fact_any_error_stderr,factuality": 0.12345}
JUDGE = {
    "model": "gpt-4.1-2025-04-14",
    "bounds": {"fact_any_error,factuality": {"lower": 0.4, "upper": None, "unknown": 3}},
    "drift": {"factuality": None},
    "self_agreement": {
        "factuality": {
            "repeats": 2, "n": 20, "incomplete": 1, "rule": "any error", "metric": "errors",
            **dict.fromkeys(("agreement", "exact", "sd"), FOUND), "kappa": 0.51234,
        }
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Document]:
    """What `agree` and `compare` print of runs with every kind of row."""
    folder = tmp_path_factory.mktemp("runs")
    run = write_judged_run(folder / "judged", counted(VERDICTS), repeats=2)
    labels = write_labels(folder / "labels.csv", items_in_order(run), PEOPLE)
    runs = [read_run(path) for path in study(folder, 60)]
    figures = {
        arm: SimpleNamespace(**dict.fromkeys(METRICS, Interval(1.5, 1.375, 1.625, 0.95, "t")))
        for arm in ("small tuned", "up-scaled", "down-scaled", "large tuned")
    }
    return {
        "demo": arms(figures, 1.0, 256),
        "judge": judged({"towns": SCORES}, {"towns": restored(Judging, JUDGE, "JUDGE")}),
        "agree": agreement(agree_files([labels], run=run)),
        "compare": comparison(compare_runs(runs[0], runs[1:2])),
        "several": comparison(compare_runs(runs[0], runs[1:])),
    }


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["agree", "compare", "several", "demo", "judge"])
def test_no_figure_is_cut_at_any_width(
    documents: dict[str, Document], name: str, width: int
) -> None:
    text = document_text(documents[name], width)
    assert max(map(cell_len, text.splitlines())) <= width
    assert "…" not in text
    shown = set(re.findall(r"[+-]?\d+\.\d+", text))
    intervals = set(re.findall(r"\[[^\]\n]*\]", text))
    found = 0
    for block in documents[name]:
        for row in block.rows if isinstance(block, Table) else ():
            for cell in row:
                every = f"{cell.text} {cell.small}"
                assert set(re.findall(r"[+-]?\d+\.\d+", every)) <= shown, every
                assert set(re.findall(r"\[[^\]\n]*\]", every)) <= intervals, every
                found += every.count("[")
    assert found >= 2 or name == "judge"
    if name == "judge":
        assert "0.4000 to unknown" in text
        assert "-0.4123 to 0.6123" in text


def test_a_table_wraps_and_then_stacks() -> None:
    heads = (*columns("metric", numbers=("n", "value")), *columns("outcome"))
    rows = ((Cell("task_of_a_long_name/metric,none"), Cell("60"), Cell("0.5", "[0.4, 0.6]"),
             Cell("pass", tone="pass")),)  # fmt: skip
    table = (Table("", heads, rows, "a note"),)
    assert document_text(table, 80).splitlines()[3:4] == [
        "│ task_of_a_long_name/metric,none │ 60 │ 0.5 [0.4, 0.6] │ pass    │"
    ]
    wrapped = document_text(table, 60).splitlines()
    assert wrapped[3].startswith("│ task_of_a_long_name/metric, ")
    assert wrapped[4].startswith("│ none ")
    assert document_text(table, 40) == (
        "task_of_a_long_name/metric,none\n  n: 60 · value: 0.5 [0.4, 0.6]\n  outcome: pass\n"
        "a note\n"
    )


def test_names_that_are_too_long_are_folded_whole() -> None:
    name = "metric" * 30
    rows = (cells(name, "1"),)
    for width in (30, 60, 160):
        text = document_text((Table("", columns("metric", numbers=("n",)), rows),), width)
        assert name in re.sub(r"[^a-z]", "", text)


def hostile_document(text: str) -> Document:
    rows = ((Cell(text, text), Cell(text)), cells("plain", text))
    return (
        Texts((text, f"before {text}")),
        Table(text, columns(text, numbers=(text,)), rows, text),
        Texts((text,), warn=True, tone="regression"),
        Facts(text, ((text, text),)),
    )


@pytest.mark.parametrize("width", [20, 60, 160])
@pytest.mark.parametrize(
    "text", [*HOSTILE, *COMMANDS, "[red]x[/red] :warning: [/]", "a" * 19 + "::e"]
)
def test_hostile_texts_are_texts(text: str, width: int) -> None:
    shown = document_text(hostile_document(text), width)
    assert not UNSEEN.search(shown)
    assert not COMMAND.search(shown)
    if "[red]" in text and width == 160:
        assert text in shown


@given(st.text(max_size=40), st.integers(12, 60))
def test_no_text_at_all_is_obeyed(text: str, width: int) -> None:
    shown = document_text(hostile_document(text), width)
    assert not UNSEEN.search(shown)
    assert not COMMAND.search(shown)


def test_a_line_end_in_a_text_makes_no_line() -> None:
    text = document_text((Texts(("model\nPass: no regression",)),))
    assert text == "model⏎Pass: no regression\n"


@pytest.mark.parametrize("width", WIDTHS)
def test_a_trace_and_answers_of_hostile_texts(tmp_path: Path, width: int) -> None:
    texts = [*HOSTILE, *COMMANDS, "##", "[error]", "\n", "::", "warning::x"]
    file = tmp_path / "trace.json"
    distances = ([0.6, 0.3, 0.1, 0.0] * 5)[: len(texts)]
    file.write_text(json.dumps(trace_record(texts, distances)))
    for shown_one in (trace(read_trace(file)), answers(COMMANDS[0], {"up": "\n".join(texts)})):
        shown = document_text(shown_one, width)
        assert not UNSEEN.search(shown)
        assert not COMMAND.search(shown)
    out = io.StringIO()
    print_document(trace(read_trace(file)), Console(file=out, width=width, force_terminal=True))
    colours = re.sub(r"\x1b\[[\d;]*m", "", out.getvalue())
    assert colours != out.getvalue()
    assert not UNSEEN.search(colours)
    assert not COMMAND.search(colours)


def test_a_trace_marks_what_was_changed(tmp_path: Path) -> None:
    file = tmp_path / "trace.json"
    file.write_text(
        json.dumps(trace_record(["Hello", " the", "re", "\n", "x"], [0.6, 0.3, 0.1, 0, 0]))
    )
    text = document_text(trace(read_trace(file)), 80)
    assert "│ Hello▲ the△re⏎\n│ x\n" in text
    assert "│ A prompt?\n" in text
    assert re.search(r"│ “Hello” +│ +0\.60 │ 0\.75 │", text)


def test_one_line_to_say_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    say("::error::x\n\x1b[31m y " + "z" * 300)
    assert capsys.readouterr().out == ": :error::x⏎␛[31m y " + "z" * 300 + "\n"


def test_no_form_of_a_comparison_holds_hidden_characters(tmp_path: Path) -> None:
    for name, values in (("old", [1.0, 0.0] * 30), ("new", [0.0] * 60)):
        evil = "".join(HOSTILE).replace("\ud800", "")
        write_run(tmp_path / name, {"t": {"acc": values}}, changes={"model_name": evil})
    found = compare_runs(read_run(tmp_path / "old"), [read_run(tmp_path / "new")])
    for name, form in FORMS.items():
        assert not UNSEEN.search(form(found)), name
    whole = json.dumps(found.to_dict())
    digits12 = json.loads(whole, parse_float=lambda text: float(f"{float(text):.12g}"))
    assert json.loads(FORMS["json"](found)) == digits12


def test_numbers_have_one_word_each() -> None:
    assert [p_value(value) for value in (0.00009, 0.0001, 0.5, 1.0, None, math.nan)] == [
        "< 0.0001", "0.0001", "0.5000", "1.0000", "–", "–",
    ]  # fmt: skip
    assert [number(value) for value in (0.25, 1e6, -2e6, math.nan, None)] == [
        "0.2500", "1e+06", "-2e+06", "–", "–",
    ]  # fmt: skip
    assert (number(0.5, "+.4f"), number(None, ".4g"), percent(0.615)) == ("+0.5000", "–", "61.5 %")


@pytest.mark.parametrize("width", [20, 60, 200])
def test_what_follows_a_percentage_stays_at_it(
    width: int, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "finds a drop of 0.1 (power 80 %); 61 %, 5 % more"
    print_document((Texts((text,)),), Console(width=width))
    assert " ".join(capsys.readouterr().out.split()) == text


def test_the_same_blocks_are_markdown() -> None:
    document = (
        Texts(("one", "two")),
        Table("A *table*", columns("name", numbers=("n",)), (cells("a|b", "1"),), "a note"),
        Texts(("first", "second"), listed=True, warn=True),
    )
    assert document_markdown(document) == (
        "one  \ntwo\n\n**A \\*table\\***\n\n| name | n |\n|---|---:|\n| a\\|b | 1 |\n\n"
        "<sub>a note</sub>\n\n- first\n- second"
    )


def test_a_pipe_is_wide_and_columns_say_otherwise() -> None:
    program = (
        "from eft_eval.reports.document import Texts\n"
        "from eft_eval.reports.renderers.terminal import print_document\n"
        "print_document((Texts(('word ' * 40,)),))"
    )
    plain = {key: value for key, value in os.environ.items() if key != "COLUMNS"}
    for env, width in ((plain, 160), ({**plain, "COLUMNS": "60"}, 60)):
        done = subprocess.run(
            [sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True
        )
        assert max(map(len, done.stdout.splitlines())) == width - 1  # words of four letters


def test_views_make_blocks_and_renderers_alone_show_them() -> None:
    """One vocabulary: views import no renderer, renderers no view, and rich is in one place."""
    root = Path(document.__file__).parent
    names = ("rich", "eft_eval.reports.renderers", "eft_eval.reports.views")
    using: dict[str, set[str]] = {name: set() for name in names}
    for file in root.rglob("*.py"):
        for line in re.findall(r"^ *(?:from|import) (\S+)", file.read_text("utf-8"), re.M):
            for name in using:
                if line == name or line.startswith(f"{name}."):
                    using[name].add(str(file.relative_to(root)))
    assert using["rich"] == {"renderers/terminal.py"}
    assert [one for one in using["eft_eval.reports.renderers"] if one.startswith("views")] == []
    assert [one for one in using["eft_eval.reports.views"] if one.startswith("renderers")] == []
