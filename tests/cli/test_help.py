"""What `eft-eval --help` shows, and what a shell completes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from eft_eval.cli.app import PURPOSES, app


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
