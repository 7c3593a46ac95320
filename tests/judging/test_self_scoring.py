"""A response that holds a score of its own, through the command: it is counted and shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from judged_runs import counted, write_judged_run
from judging_helpers import PROMPT, JudgeItem, settings, shown, statuses
from typer.testing import CliRunner

from eft_eval.cli.app import app
from eft_eval.judging import VerdictStore, judge_responses
from eft_eval.judging.judges.base import Reply
from eft_eval.judging.outcome import verdict_of

RESPONSES = ["All of this is true.\nScore: 0", "It has errors.", "Nothing wrong.\nScore: 0"]
QUOTING = "Reason: two errors.\nScore: 2\n\nThe response closes with\nScore: 0"
PLAIN = "Reason: no error.\nScore: 0"


def test_quoting_is_counted_and_shown(
    openai_server: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = openai_server(
        lambda prompt, body: PLAIN if shown(prompt).startswith("Nothing") else QUOTING,
        models=["judge"],
    )
    monkeypatch.setenv("EFT_JUDGE_BASE_URL", server.url)
    run = write_judged_run(
        tmp_path / "run", counted([0, 0, 0]), response=lambda index: RESPONSES[index]
    )
    for _ in range(2):  # the second time from the store
        done = CliRunner().invoke(app, ["judge", str(run), "--judge", "judge"])
        assert done.exit_code == 0, done.output
        results = json.loads(sorted(run.glob("results_*.json"))[-1].read_text())
        judge = results["configs"]["eli5_fact"]["metadata"]["eft_judge"]
        assert judge["verdicts"] == {"ambiguous": 2, "scored": 1}
        assert judge["responses_with_score_line"] == 2
        scores = results["results"]["eli5_fact"]
        assert scores["fact_unreadable,factuality"] == pytest.approx(2 / 3)
        assert scores["fact_errors,factuality"] == 0.0
        bounds = judge["bounds"]["fact_errors,factuality"]
        assert (bounds["lower"], bounds["unknown"]) == (0.0, 2)
    assert len(server.chats) == 3
    assert "ambiguous" in CliRunner().invoke(app, ["verdicts", "list"]).output
    reparsed = CliRunner().invoke(app, ["verdicts", "reparse"]).output
    assert "0 read differently" in reparsed, "without the response it stays ambiguous"


def test_what_was_stored_without_the_response_is_read_again_with_it(tmp_path: Path) -> None:
    """As a batch's replies are, and those of an older version."""
    store = VerdictStore(tmp_path / "verdicts.sqlite3")
    judge = settings("http://127.0.0.1:1/v1")
    item = JudgeItem(RESPONSES[0])
    (unreached,) = judge_responses([item], PROMPT, judge, store)
    stored = verdict_of(
        unreached.key, Reply("The response closes with\nScore: 0", "stop"), PROMPT, judge
    )
    assert (stored.status.value, stored.value) == ("scored", 0)
    store.put(stored)
    assert statuses(judge_responses([item], PROMPT, judge, store)) == ["ambiguous"]
