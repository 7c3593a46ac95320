"""Stores, servers and runs of the tests of judging."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from judged_pairs import words
from judged_runs import Run, command_line
from pairs_of_runs import write_responses

from eft_eval.judging import VerdictStore


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    return command_line(capsys, monkeypatch)


@pytest.fixture
def judge(openai_server: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Start a judge at a server; its replies are made of what it is shown."""

    def start(answer: Callable[[str, Any], Any]) -> Any:
        server = openai_server(answer, models=["judge"])
        monkeypatch.setenv("EFT_JUDGE_BASE_URL", server.url)
        monkeypatch.setenv("EFT_JUDGE_MODEL", "judge")
        return server

    return start


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    """Two runs of the same documents; A's responses tend to be longer."""
    a = write_responses(tmp_path / "a", words(1, 30, "alpha"), "org/model-of-a")
    return a, write_responses(tmp_path / "b", words(2, 20, "beta"), "org/model-of-b")


@pytest.fixture
def store(tmp_path: Path) -> VerdictStore:
    return VerdictStore(tmp_path / "verdicts.sqlite3")
