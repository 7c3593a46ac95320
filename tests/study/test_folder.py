"""The folder of a study: whose it is, who works in it, and what of it is whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner
from written_studies import planned

from eft_eval.cli.app import app
from eft_eval.errors import ConfigError
from eft_eval.study.running import Settings, _Maker, last_words


def test_a_folder_of_another_study_is_refused(tmp_path: Path) -> None:
    first = planned(tmp_path / "s", "scaling")
    with first.held(lambda: None):
        pass
    planned(tmp_path / "s", "scaling", batch_size=3).check()  # speed alone
    for name, changes, said in (
        ("scaling", {"tasks": "demo_fact"}, "its tasks differ"),
        ("scaling", {"seeds": [3]}, "its seeds differ"),
        ("weights", {}, "its analysis, arms, blocks differ"),
    ):
        with pytest.raises(ConfigError) as caught:
            planned(tmp_path / "s", name, **changes).check()
        assert said in str(caught.value)


def test_a_folder_with_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    planned(tmp_path / "s", "scaling").check()
    (tmp_path / "s" / "thesis.tex").write_text("x")
    with pytest.raises(ConfigError, match="holds no study"):
        planned(tmp_path / "s", "scaling").check()
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="no folder"):
        planned(tmp_path / "file", "scaling").check()


def test_done_outlasts_the_process_and_a_torn_note_does_not_count(tmp_path: Path) -> None:
    folder = planned(tmp_path / "s", "scaling")
    run = folder.plan.runs[0]
    folder.responses(run).mkdir(parents=True)
    assert not folder.is_done(run)
    folder.finish(run, 2.5)
    assert planned(tmp_path / "s", "scaling").seconds(run) == 2.5
    assert not folder.responses(run).exists()
    (folder.place(run) / "done.json").write_text('{"secon')
    assert not folder.is_done(run)


@pytest.mark.skipif(sys.platform == "win32", reason="no locks there")
def test_a_run_left_behind_keeps_others_out(tmp_path: Path) -> None:
    """The lock goes with the runs, so that it outlasts a study that was killed alone."""
    folder = planned(tmp_path / "s", "scaling")
    told = []
    code = "import sys; print('here', flush=True); sys.stdin.read()"
    with folder.held(lambda: None) as lock:
        assert lock is not None
        child = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            pass_fds=(lock,),
        )  # fmt: skip
        assert child.stdout is not None
        child.stdout.readline()
    with folder.held(lambda: (told.append("waits"), child.communicate())):  # type: ignore[arg-type,return-value]
        assert child.returncode == 0
    assert told == ["waits"]


def test_a_dry_run_shows_the_arms_and_writes_nothing(tmp_path: Path) -> None:
    words = ["study", "scaling", "--family", "demo", "--out", str(tmp_path / "s"), "--dry-run"]
    words += ["--tasks", "demo_fact", "--limit", "3", "--seeds", "1,2"]
    done = CliRunner().invoke(app, [*words, "--hardware", "CPU:8GB@10GBps"])
    assert done.exit_code == 0, done.output
    for arm in ("small-tuned", "up-scaled", "down-scaled", "large-tuned"):
        assert arm in done.output
    assert "4 arms × 2 seeds = 8 runs of demo_fact" in done.output
    assert "3 responses of up to 200 tokens" in done.output
    assert "1,800" in done.output, "passes of three models"
    assert "GiB" in done.output
    assert "judge: nobody is asked" in done.output
    assert not (tmp_path / "s").exists()


def test_families_are_listed() -> None:
    done = CliRunner().invoke(app, ["families"])
    assert done.exit_code == 0
    for word in ("demo", "llama2", "gemma-3", "unchecked", "small-base: MODEL"):
        assert word in done.output


@pytest.mark.parametrize(
    ("log", "said"),
    [
        ("eft-eval: error: no such model\nwarned of something\n", "no such model"),
        (
            "Traceback (most recent call last):\n  x\nRuntimeError: engine failed\n"
            "tracker.py:254: UserWarning: leaked\n  warnings.warn('leaked %d')\n",
            "RuntimeError: engine failed",
        ),
        ("(Core pid=7) torch.OutOfMemoryError: 1 GiB\nlast\n", "torch.OutOfMemoryError: 1 GiB"),
        ("KeyboardInterrupt\n", "KeyboardInterrupt"),
        ("HTTPError: 401 for https://me:word@host/x\n", "HTTPError: 401 for https://***@host/x"),
        ("", ""),
    ],
)
def test_the_reason_is_the_line_that_says_why(log: str, said: str) -> None:
    assert last_words(log).removeprefix("(Core pid=7) ") == said


def test_a_run_that_says_no_reason_has_none() -> None:
    """A process that was killed leaves what it said last; its exit code is the reason then."""
    assert last_words("  0%|  |\r100%|##|\nsaved\n  warnings.warn('leaked')\n") == ""


@pytest.mark.skipif(sys.platform == "win32", reason="no signals there")
def test_nothing_is_run_once_the_study_has_ended(tmp_path: Path) -> None:
    """A study that is stopped while the libraries are imported does not begin its run after it."""
    folder = planned(tmp_path / "s", "scaling", tasks="demo_fact", limit=1)
    maker = _Maker(folder, Settings(1, {}, None, lambda outcome: None))
    maker.end()
    outcome = maker.run(folder.plan.runs[0])
    assert (outcome.state, outcome.is_whole) == ("failed", False)
    assert outcome.reason.startswith("ended by signal 15")
    assert [path.name for path in folder.place(outcome.run).iterdir()] == ["log.txt"]


def test_speeds_are_of_one_batch_size(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text("analysis: speed\ntasks: demo_fact\narms:\n  a: {base: large-tuned}\n")
    for engine, rows in (("eft", 16), ("eft-vllm", "auto")):
        with planned(tmp_path / engine, str(file), engine=engine).held(lambda: None):
            pass
        planned(tmp_path / engine, str(file), engine=engine, batch_size=rows).check()
        with pytest.raises(ConfigError, match="its batch-size differ"):
            planned(tmp_path / engine, str(file), engine=engine, batch_size=4).check()
