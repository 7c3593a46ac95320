"""`eft-eval report`: its errors, its arms, and the file that it writes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from reported_runs import report_command, study, trace_record

from eft_eval.comparing import read_runs
from eft_eval.errors import ConfigError
from eft_eval.reporting.report import make_report
from eft_eval.reports.renderers.html.html import page_html
from eft_eval.reports.views.report import page_of


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
        done = report_command(*arguments)
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
    plain = report_command(*paths, "--format", "md").output
    assert "What the arms carry over" not in plain
    named = report_command(
        *paths[:3], "--format", "md", "--arm", f"small={paths[0]}", "--arm", f"large={paths[3]}"
    )
    assert "What the arms carry over" in named.output
    assert "large tuned - small tuned" in named.output


def test_a_page_that_is_there_is_replaced_whole(tmp_path: Path) -> None:
    paths = study(tmp_path, 20)
    out = tmp_path / "r.html"
    for _ in range(2):
        assert report_command(paths[0], "--out", str(out)).exit_code == 0
    assert out.read_text("utf-8").rstrip().endswith("</html>")
    assert not list(tmp_path.glob(".*part"))
