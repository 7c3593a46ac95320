"""A store that holds some verdicts."""

from __future__ import annotations

from pathlib import Path

import pytest
from verdict_stores import verdict

from eft_eval.judging import VerdictStore


@pytest.fixture
def filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> VerdictStore:
    store = VerdictStore(tmp_path / "v.sqlite3")
    monkeypatch.setenv("EFT_VERDICT_STORE", str(store.path))
    store.put_many(
        [
            verdict("a", created="2026-01-01T00:00:00+00:00"),
            verdict("b", status="malformed", value=None, raw="Score: many", cost_usd=None),
            verdict("c", judge_model="other", created="2026-03-01T00:00:00+00:00"),
            # read by an older parser, which did not see the number
            verdict("d", status="malformed", value=None, parser_version=0),
            verdict("e", prompt_name="mine", status="malformed", value=None),
        ]
    )
    return store
