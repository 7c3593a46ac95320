"""Streams and inputs that are odd: one line, never a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from judged_runs import counted, write_judged_run
from typer.testing import CliRunner
from written_runs import write_run

from eft_eval.cli import main
from eft_eval.cli.app import app
from eft_eval.errors import ComparabilityError, ConfigError, EftEvalError
from eft_eval.recipe import parse_recipe

SHELL = 'exec "$0" -c "from eft_eval.cli import main; main()" '
RUN = {"t": {"acc": [1.0, 0.0] * 10}}


def shell(command: str, folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", f"{SHELL} {command}", sys.executable],
        cwd=folder, capture_output=True, text=True, errors="replace",
        env={**os.environ, "PYTHONUNBUFFERED": "", **settings},  # as a user's shell has it
    )  # fmt: skip


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        ("compare old old >&-", 0, ""),
        ("recipes 2>&-", 0, ""),
        ("export old --format csv >&- 2>&-", 0, ""),
        ("recipes >/dev/full", 2, "eft-eval: error: [Errno 28] No space left on device"),
        ("export old --format csv >/dev/full", 2, "eft-eval: error: [Errno 28] No space left"),
    ],
)
def test_closed_and_full_streams(command: str, code: int, said: str, tmp_path: Path) -> None:
    write_run(tmp_path / "old", RUN)
    done = shell(command, tmp_path)
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith(said)
    assert len(done.stderr.splitlines()) == bool(said)


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_has_enough_is_no_error(tmp_path: Path, unbuffered: str) -> None:
    done = shell("recipes | head -n 1", tmp_path, PYTHONUNBUFFERED=unbuffered)
    assert (done.stderr, len(done.stdout.splitlines())) == ("", 1)


def test_a_terminal_that_cannot_show_a_character(tmp_path: Path) -> None:
    write_run(tmp_path / "ö→", RUN, model="模型")
    for settings in (
        {"PYTHONIOENCODING": "latin-1"},
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"},
    ):
        done = shell("compare 'ö→' 'ö→'", tmp_path, **settings)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        assert "\\u6a21\\u578b" in done.stdout
        assert "Pass: no regression in 1 gated metric." in done.stdout


def test_the_traceback_on_request(tmp_path: Path) -> None:
    done = shell("recipes nothing", tmp_path, EFT_EVAL_TRACEBACK="1")
    assert "Traceback" in done.stderr
    assert len(shell("recipes nothing", tmp_path).stderr.splitlines()) == 1


def test_usage_errors_are_told_as_every_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = "x\x1b[31m\n::error::boom ##[error]y https://me:s3cr3tvalue@host/?api-key=s3cr3tvalue"
    lines = (["families", evil], [evil], ["view", f"--{evil}"])
    for line in (*lines, ["compare", "a", "b", "--format", evil]):
        monkeypatch.setattr(sys, "argv", ["eft-eval", *line])
        monkeypatch.setenv("COLUMNS", "1000")
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr().err
        assert ended.value.code == 2
        assert "boom" in said
        for word in ("\x1b[31m", "\n::error", "##[error]", "s3cr3t"):
            assert word not in said, line


def test_a_task_with_a_slash_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """lm-eval cannot write its samples; the rest of such a run is read."""
    monkeypatch.chdir(tmp_path)
    write_run(Path("ok"), RUN)
    write_run(Path("slash"), {**RUN, "ab": {"acc": [1.0] * 9}})
    write_judged_run(Path("judged"), counted([1.0, 0.0]), task="ab")
    for folder in ("slash", "judged"):
        (file,) = Path(folder).rglob("results*.json")
        file.write_text(file.read_text().replace('"ab"', '"a/b"').replace("'ab'", "'a/b'"))
    for command, code in (
        ("compare slash slash", 0),
        ("bless slash --out base.json", 0),
        ("report slash slash --out r.html", 0),
        ("export slash --format csv", 0),
        ("labels export judged --out project", 1),
        ("judge judged --judge scripted:none.yaml", 1),
        ("agree --run judged --labels nothing.csv", 1),
        ("labels export judged --task a/b --out project", 1),
    ):
        done = CliRunner().invoke(app, command.split())
        assert done.exit_code in (code, 2), (command, done.output, done.exception)
        if done.exit_code:
            assert isinstance(done.exception, EftEvalError), (command, done.exception)
            assert "\n" not in str(done.exception)
    assert {path.name for path in tmp_path.iterdir()} <= {
        "ok", "slash", "judged", "base.json", "r.html", "verdicts.sqlite3",
    }  # fmt: skip


@pytest.mark.parametrize("weight", ["1e300", "-1e300", "1e39", "1000001", "inf", "nan"])
def test_a_weight_beyond_all_numbers_is_one_line(weight: str) -> None:
    with pytest.raises(ConfigError, match=r"recipe demo: deltas\.0\.weight: got") as refused:
        parse_recipe({"model": "demo", "weight": weight})
    assert "too short" not in str(refused.value)
    assert ";" not in str(refused.value)
    assert parse_recipe({"model": "demo", "weight": "-1e6"}).deltas[0].weight == -1e6


def test_label_files_without_labels_are_one_line(tmp_path: Path) -> None:
    run = write_judged_run(tmp_path / "judged", counted([1.0, 0.0]))
    for number, content in enumerate(
        (b"item_id,annotator,field,value\n", b"", b"[]", b"{}", b"\x00", "é,x\n".encode("utf-16"))
    ):
        file = tmp_path / f"labels{number}.{'json' if content[:1] in (b'[', b'{') else 'csv'}"
        file.write_bytes(content)
        for command in (
            ["agree", "--run", str(run), "--labels", str(file)],
            ["correct", str(run), "--labels", str(file)],
            ["gold", "sample", str(run), "--labels", str(file), "--out", str(tmp_path / "gold")],
            ["labels", "import", str(file), "--out", str(tmp_path / "out.csv")],
        ):
            done = CliRunner().invoke(app, command)
            assert isinstance(done.exception, (ConfigError, ComparabilityError)), (
                content, command, done.exception,
            )  # fmt: skip
            assert "\n" not in str(done.exception)


def test_report_refuses_what_compare_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mean of 0.5 must not stand beside an interval of the half of the documents that is left."""
    monkeypatch.chdir(tmp_path)
    write_run(Path("run"), RUN)
    (samples,) = Path("run").rglob("samples_*")
    samples.write_text("".join(samples.read_text().splitlines(keepends=True)[::2]))
    for command in ("compare run run", "report run --format md", "report run --out r.html",
                    "report run run --format md", "bless run --out b.json",
                    "export run --format csv"):  # fmt: skip
        done = CliRunner().invoke(app, command.split())
        assert isinstance(done.exception, EftEvalError), command
        assert "lacks 10 of 20 documents" in str(done.exception), command
    assert not Path("r.html").exists()
