"""The parts of the report's page and of its Markdown."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

from reported_runs import report_command, study, trace_record, verdict
from written_runs import write_run

from eft_eval.comparing import read_run, read_runs
from eft_eval.errors import ConfigError
from eft_eval.reporting.report import make_report
from eft_eval.reports.document import Bar, Figure, Plane
from eft_eval.reports.renderers.html.figures import draw
from eft_eval.reports.renderers.html.html import page_html
from eft_eval.reports.renderers.markdown import LARGEST, ROOM, page_markdown
from eft_eval.reports.views.report import page_of


def test_the_page_has_its_parts_in_order(tmp_path: Path) -> None:
    traced = tmp_path / "trace.json"
    traced.write_text(json.dumps(trace_record(["A", " b", "\n", "c"], [0.6, 0.3, 0.1, 0.0])))
    out = tmp_path / "report.html"
    done = report_command(*study(tmp_path, 40), "--trace", str(traced), "--out", str(out))
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
            done = report_command(*paths, "--out", str(out), "--format", form, *options)
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
    done = report_command(paths[0], "--gate", "--format", "md")
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
    done = report_command(str(folder), "--agreement", str(file), "--out", str(out))
    assert done.exit_code == 0, done.exception
    page = html.unescape(out.read_text("utf-8"))
    assert found.pair is not None
    assert f"{found.pair.agreement.rate:.1%}".replace("%", " %") in page
    assert f"{found.pair.kappa.interval.estimate:.3f}" in page
    for one in corrected.metrics:
        assert f"{one.task}/{one.metric}_ppi" in page.replace("<wbr>", "")
    assert "Krippendorff's α" in page
    assert "May judge-1 replace a person?" in page
    text = report_command(str(folder), "--agreement", str(file), "--format", "md").output
    assert "Cohen's κ" in text
