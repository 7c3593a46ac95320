"""The forms of a comparison: golden files, hostile names, and what reads them back.

    python -m pytest tests/reports/test_comparison_forms.py --regenerate-golden

writes the golden files anew; look at what changed before committing it.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import junitparser
import pytest
from written_runs import STAMP, write_run

from eft_eval.comparing import Comparison, GateSettings, MetricSettings, compare_runs, read_run
from eft_eval.reports.ci.forms import FORMS
from eft_eval.reports.renderers.markdown import LARGEST

GOLDEN = (Path(__file__).parents[1] / "data") / "comparison"
SUFFIXES = {"text": "txt", "json": "json", "markdown": "md", "junit": "xml", "github": "github.txt"}
BASE = [1.0, 0.0] * 30


@pytest.fixture
def found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Comparison:
    """Two candidates with every outcome, a missing metric and documents without a number."""
    monkeypatch.chdir(tmp_path)
    worse = [0.0] * 24 + BASE[24:]
    errors = [float(i % 3) for i in range(60)]
    tasks = {"facts": {"acc": BASE, "errors": errors, "f1": BASE}, "help": {"score": BASE}}
    better = {"errors": False}
    write_run(Path("old"), tasks, better=better)
    changed = {
        "facts": {"acc": worse, "errors": [None, 2.0, 1.0, *errors[3:]], "f1": BASE},
        "help": {"score": [*BASE[2:], 0.0, 0.0]},
    }
    named = {"model_name": "tuned|<b>model</b>"}
    write_run(Path("new"), changed, better=better, changes=named)
    partly = {"facts": {"acc": BASE, "errors": errors}, "help": {"score": BASE}}
    write_run(Path("partly"), partly, better=better)
    settings = GateSettings(metrics={"help/*": MetricSettings(tolerance=0.1)})
    return compare_runs(read_run("old"), [read_run("new"), read_run("partly")], settings)


@pytest.mark.parametrize("form", FORMS)
def test_golden_files(found: Comparison, form: str, request: pytest.FixtureRequest) -> None:
    text = FORMS[form](found)
    file = GOLDEN / f"comparison.{SUFFIXES[form]}"
    if request.config.getoption("--regenerate-golden"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
    assert text == file.read_text("utf-8")


def test_the_json_form_holds_every_number_of_the_others(found: Comparison) -> None:
    content = json.loads(FORMS["json"](found))
    assert content["format"] == "eft-eval comparison"
    assert (content["outcome"], content["exit_code"]) == ("regression", 1)
    shown = set()

    def walk(value: object) -> None:
        if isinstance(value, dict):
            for one in value.values():
                walk(one)
        elif isinstance(value, list):
            for one in value:
                walk(one)
        elif isinstance(value, (int, float)):
            shown.update({f"{value:.4f}", f"{value:+.4f}"})

    walk(content)
    for form in ("text", "markdown"):
        numbers = set(re.findall(r"(?<![\d.])[+-]?\d+\.\d{4}(?!\d)", FORMS[form](found)))
        assert numbers, form
        assert numbers - {"0.0001"} <= shown, form


def test_junit_is_read_back_by_junitparser(found: Comparison, tmp_path: Path) -> None:
    file = tmp_path / "report.xml"
    file.write_text(FORMS["junit"](found), encoding="utf-8")
    xml = junitparser.JUnitXml.fromfile(str(file))
    suites = list(xml)
    assert [(s.tests, s.failures, s.skipped) for s in suites] == [(4, 1, 1), (4, 1, 0)]
    assert (xml.tests, xml.failures, xml.skipped) == (8, 2, 1)
    for suite, candidate in zip(suites, found.candidates, strict=True):
        rows = {row.name: row for row in candidate.rows}
        for case in suite:
            row = rows[case.name]
            assert row.decision is not None
            kinds = {"regression": junitparser.Failure, "inconclusive": junitparser.Skipped}
            if row.decision.outcome == "pass":
                assert not case.result
            else:
                (result,) = case.result
                assert isinstance(result, kinds[row.decision.outcome])
                if row.decision.outcome == "regression":
                    assert result.text.startswith(row.decision.reason)
            listed = [one for some in case.iterchildren(junitparser.Properties) for one in some]
            facts = {one.name: one.value for one in listed}
            if row.difference is not None:
                assert float(facts["difference"]) == row.difference.estimate


def test_inconclusive_is_a_failure_where_it_is_to_fail(tmp_path: Path) -> None:
    new = [0.0, 1.0, *BASE[2:]]
    runs = [
        read_run(write_run(tmp_path / name, {"t": {"acc": values}}))
        for name, values in (("old", BASE), ("new", new))
    ]
    strict = compare_runs(runs[0], runs[1:], GateSettings(fail_on_inconclusive=True))
    assert strict.exit_code == 3
    assert '<failure message="inconclusive"' in FORMS["junit"](strict)
    assert FORMS["github"](strict).startswith("::error title=inconclusive%3A t/acc%2Cnone::")
    mild = compare_runs(runs[0], runs[1:])
    assert '<skipped message="' in FORMS["junit"](mild)
    assert FORMS["github"](mild).startswith("::warning ")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("accepted", [0.125, 0.0])
def test_every_form_shows_the_tolerance_even_where_all_pass(
    tmp_path: Path, form: str, accepted: float
) -> None:
    run = read_run(write_run(tmp_path / "run", {"t": {"acc": BASE}}))
    found = compare_runs(run, [run], GateSettings(tolerance=accepted))
    assert found.exit_code == 0
    text = FORMS[form](found)
    assert re.search(rf"tolerance\W+(value=\W)?{accepted:g}\b", " ".join(text.split())), text


def test_tolerances_stand_with_their_metrics(found: Comparison) -> None:
    for form in ("text", "markdown"):
        lines = [line for line in FORMS[form](found).splitlines() if re.match(r"[│|] \w+/", line)]
        with_one = [line for line in lines if "tolerance 0.1" in line]
        assert with_one == [line for line in lines if "help/score,none" in line] != []
        assert "tolerances 0 to 0.1" in " ".join(FORMS[form](found).split())
    errors = [line for line in FORMS["github"](found).splitlines() if "::error" in line]
    assert len(errors) == 2
    assert all(line.endswith("tolerance 0)") for line in errors)


def test_annotations_are_one_line_each(found: Comparison) -> None:
    for line in FORMS["github"](found).splitlines():
        assert re.fullmatch(r"::(error|warning|notice) title=[^:,]*::[^\r\n]+", line), line


def test_names_are_nobodys_markup(tmp_path: Path) -> None:
    evil = "a|b<script>alert(1)</script>\n## c 100%::x [d](e) `f` \x07"
    runs = [
        read_run(
            write_run(tmp_path / name, {"t": {evil: values}}, changes={"model_name": f"{evil}, b"})
        )
        for name, values in (("old", BASE), ("new", [0.0] * 60))
    ]
    found = compare_runs(runs[0], runs[1:])
    markdown = FORMS["markdown"](found)
    assert "<script" not in markdown
    assert "[d](e)" not in markdown
    rows = [line for line in markdown.splitlines() if line.startswith("| t/")]
    assert [len(re.findall(r"(?<!\\)\|", row)) for row in rows] == [10]
    assert not re.search(r"^## ", markdown, re.MULTILINE)
    assert len(FORMS["github"](found).splitlines()) == 2
    file = tmp_path / "report.xml"
    file.write_text(FORMS["junit"](found), encoding="utf-8")
    assert len(junitparser.JUnitXml.fromfile(str(file))) == 1
    assert "<script>" in FORMS["text"](found)


def test_markdown_stays_below_githubs_limit(tmp_path: Path) -> None:
    names = [f"{'metric' * 40}_{i}" for i in range(3000)]
    runs = [
        read_run(write_run(tmp_path / name, {"t": dict.fromkeys(names, values)}))
        for name, values in (("old", [1.0, 0.0, 1.0]), ("new", [1.0, 1.0, 0.0]))
    ]
    text = FORMS["markdown"](compare_runs(runs[0], runs[1:]))
    assert len(text.encode()) < LARGEST
    kept = sum(line.startswith("| t/") for line in text.splitlines())
    assert f"… and {3000 - kept} more metrics." in text
    assert STAMP in text
