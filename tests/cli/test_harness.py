"""What `eft-eval run` reads of our own task files before lm-eval is loaded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from eft_eval import hook
from eft_eval.cli.app import app
from eft_eval.cli.harness import our_tasks
from eft_eval.errors import ConfigError


def test_tasks_that_ask_a_judge_are_known() -> None:
    free = {"demo", "demo_fact", "demo_help", "demo_harm"}
    judged = {f"{data}{end}" for data in ("eli5", "hh") for end in ("", "_fact", "_help")}
    asks = dict.fromkeys(free, False) | dict.fromkeys(judged | {"hh_harm", "eft_paper"}, True)
    assert our_tasks() == asks


def test_task_files_are_read_as_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However YAML spells it; what an include says holds unless the task says otherwise."""
    files = {
        "a.yaml": "class: !function no.such.module\n"
        "filter_list: [{name: j, filter: [{prompt: harm, function: 'eft_judge'}]}]\n"
        "task: 'a-task'  # quoted, last\n",
        "sub/b.yaml": "task: b\ninclude: ../a.yaml\n",
        "sub/c.yaml": "task: c\ninclude: b.yaml\nfilter_list:\n- name: n\n  filter:\n"
        "  - {function: take_first}\n",
        "d.yaml": "task: d\ndoc_to_text: |\n  function: eft_judge\n",
        "g.yaml": "task: [c, d]\ngroup: free\n",
        "h.yaml": "group: judged\ntask:\n- free\n- b\n",
    }
    (tmp_path / "sub").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.setattr(hook, "task_folder", lambda: tmp_path)
    asks = {"a-task": True, "b": True, "c": False, "d": False, "free": False, "judged": True}
    assert our_tasks() == asks


RUN = ["--model_args", "model=demo-up", "--tasks", "demo_fact", "--limit", "2"]


@pytest.mark.parametrize("output", ["file", "file/deep/er", "file/results.json", "link"])
def test_an_output_path_that_cannot_be_written_ends_the_command_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("link").symlink_to("link")
    for option in (["--output_path", output], [f"--output_path={output}"], ["-o", output]):
        error = CliRunner().invoke(app, ["run", *RUN, *option]).exception
        assert isinstance(error, ConfigError), error
        assert str(error).startswith(f"--output_path {output}: ")
        assert "\n" not in str(error)
    assert sorted(os.listdir()) == ["file", "link"]


@pytest.mark.skipif(os.geteuid() == 0, reason="this user may write everywhere")
def test_a_write_protected_output_path(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ConfigError, match="write-protected"):
        hook.check_results(str(tmp_path / "out"))


@pytest.mark.parametrize("output", ["out", "a/b/c", "there", "there/results.json", ".", "new.json"])
def test_an_output_path_that_can_be_written_is_left_to_lm_eval(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there").mkdir()
    hook.check_results(output)
    assert os.listdir() == ["there"]


def lm_eval(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the stock command where there is no git repository."""
    program = (
        "import sys; from eft_eval import hook; hook.install(); "
        "from lm_eval.__main__ import cli_evaluate; sys.argv[0] = 'lm_eval'; cli_evaluate()"
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    settings: dict[str, Any] = {**kept, "GIT_CEILING_DIRECTORIES": str(folder.parent)}
    return subprocess.run(
        [sys.executable, "-c", program, "--model", "eft", *RUN, *arguments],
        cwd=folder, env=settings, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_the_stock_command_notices_before_generation(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = lm_eval(tmp_path, "--output_path", "file/out")
    assert done.returncode != 0
    assert (
        done.stderr.strip().splitlines()[-1].startswith("eft-eval: error: --output_path file/out: ")
    )
    assert "Running" not in done.stderr  # lm-eval's word before requests are sent


@pytest.mark.slow
def test_git_says_nothing_where_there_is_no_repository(tmp_path: Path) -> None:
    done = lm_eval(tmp_path, "--output_path", "out")
    assert done.returncode == 0
    assert "demo_fact" in done.stdout
    assert "fatal" not in done.stderr
    assert "git repository" not in done.stderr


GIT = """
import sys
import eft_eval.hook as hook
hook.install()
import lm_eval.evaluator as evaluator
if sys.argv[1] == "ours":
    import eft_eval.cli.app
print(evaluator.get_git_commit_hash())
"""


@pytest.mark.slow
@pytest.mark.parametrize("repository", ["none", "empty", "whole"])
def test_the_commit_in_the_results_is_lm_evals(tmp_path: Path, repository: str) -> None:
    """With or without us; and git is heard in other people's runs, as without us."""
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    if repository != "none":
        subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    if repository == "whole":
        command = ["git", *identity, "commit", "-q", "--allow-empty", "-m", "x"]
        subprocess.run(command, cwd=tmp_path, check=True)
    settings = {**os.environ, "GIT_CEILING_DIRECTORIES": str(tmp_path.parent)}
    ours, theirs = (
        subprocess.run(
            [sys.executable, "-c", GIT, whose],
            cwd=tmp_path, env=settings, capture_output=True, text=True, check=True,
        )
        for whose in ("ours", "theirs")
    )  # fmt: skip
    assert ours.stdout == theirs.stdout
    assert (ours.stdout.strip() == "None") == (repository != "whole")
    assert "fatal" not in ours.stderr
    assert ("fatal" in theirs.stderr) == (repository != "whole")
