"""What `eft-eval --help` shows, and what a shell completes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

import eft_eval
from eft_eval.cli.app import PURPOSES, app
from eft_eval.cli.environment import VARIABLES, help_of


def test_every_command_has_one_purpose() -> None:
    grouped = [name for names in PURPOSES.values() for name in names]
    command = get_command(app)
    assert sorted(grouped) == sorted(command.commands)  # type: ignore[attr-defined]


def test_the_help_groups_commands_by_purpose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = CliRunner().invoke(app, ["--help"]).output
    words = [word for purpose, names in PURPOSES.items() for word in (f"─ {purpose} ─", *names)]
    places = []
    for word in words:
        where = text.find(word if "─" in word else f"│ {word} ", places[-1] if places else 0)
        assert where > 0, word
        places.append(where)
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_commands(shell: str) -> None:
    words = "eft-eval ver"
    asked = {
        "_EFT_EVAL_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": words,
        "COMP_CWORD": "1",
        "_TYPER_COMPLETE_ARGS": words,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    program = "import sys; sys.argv[0] = 'eft-eval'; from eft_eval.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **asked}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "verdicts" in done.stdout
    assert "compare" not in done.stdout
    assert done.stderr == ""


def test_the_option_installs_completion() -> None:
    assert "--install-completion" in CliRunner().invoke(app, ["--help"]).output


def test_environment_variables_are_named_where_they_act() -> None:
    ours = re.compile(r"\b(?:EFT_[A-Z][A-Z0-9_]*|OPENAI_API_KEY)\b")
    root = Path(eft_eval.__file__).parents[1]
    rooms = (root / "eft_eval", root / "tasks", root / "model_adapters")
    read = set().union(
        *(
            ours.findall(file.read_text("utf-8"))
            for room in rooms
            for file in room.rglob("*.py")
            if file.name != "environment.py"
        )
    )
    shown = {name for variables in VARIABLES.values() for name in variables}
    assert shown == read
    for command, variables in VARIABLES.items():
        arguments = [command, "--help"] if command else ["--help"]
        if command == "run":  # its help is lm-eval's, and ours at its end
            continue
        printed = CliRunner().invoke(app, arguments).stdout
        assert set(variables) <= set(ours.findall(printed)), command


def test_the_help_of_run_names_them_too() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "eft_eval", "run", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.rstrip().endswith(help_of("run"))
