"""Stores, servers and runs of the tests of judging."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from judged_pairs import words
from judged_panels import COUNT, REFUSED, SCORES
from judged_runs import Run, command_line, counted, write_judged_run
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


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a judged run, and a script for each judge."""
    monkeypatch.chdir(tmp_path)
    write_judged_run(tmp_path / "out", counted([0] * COUNT), response="Answer no. {} here".format)
    for name, scores in SCORES.items():
        rules = [
            {"match": rf"no\. {i} here", "reply": f"Reason: r.\n\nScore: {score}"}
            for i, score in enumerate(scores)
        ]
        if name == "c":
            rules[REFUSED] = {"match": rf"no\. {REFUSED} here", "refusal": "I will not."}
        (tmp_path / f"{name}.json").write_text(json.dumps(rules))
    (tmp_path / "down.json").write_text(json.dumps([{"match": ".", "status": 503}]))
    return tmp_path
