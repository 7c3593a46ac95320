"""Records that cannot be read, and stores that cannot be written."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from verdict_stores import call, verdict

import eft_eval
from eft_eval.judging import JudgeItem, JudgeSettings, VerdictStore, judge_responses, load_prompt

DAMAGED = {
    "half": b"{",
    "list": b"[]",
    "fields": b'{"key": "half"}',
    "deep": b"[" * 100_000,
    "bytes": b'"\xff\xfe',
}


def damage(store: VerdictStore) -> None:
    """Store records that nobody can read, and two of which a value alone is wrong."""
    typed = {"status": {**verdict("x").to_dict(), "status": "done", "key": "status"}}
    typed["value"] = {**verdict("x").to_dict(), "value": float("nan"), "key": "value"}
    typed["created"] = {**verdict("x").to_dict(), "created": 20260101, "key": "created"}
    typed["key"] = verdict("another").to_dict()
    records = {**DAMAGED, **{key: json.dumps(one).encode() for key, one in typed.items()}}
    connection = sqlite3.connect(store.path)
    with connection:
        connection.executemany(
            "INSERT INTO verdicts VALUES (?, CAST(? AS TEXT))", [*records.items()]
        )
    connection.close()


def test_damaged_records_lock_nothing(filled: VerdictStore, tmp_path: Path) -> None:
    damage(filled)
    listed = call("list").stdout
    assert "14 verdicts, 0.4000 USD; 1 without a known price" in listed
    assert re.search(r"unreadable\s+│\s+9 ", listed), listed
    assert "9 verdicts" in call("list", "--status", "unreadable").stdout
    assert "4 verdicts" in call("list", "--judge", "m").stdout

    target = tmp_path / "out.jsonl"
    said = call("export", target).stdout
    assert "5 verdicts written" in said
    assert "9 records cannot be read any more" in said
    assert [json.loads(line)["key"] for line in target.read_text().splitlines()] == [*"abcde"]
    assert "9 not read: the records are damaged" in call("reparse").stdout
    assert call("reparse", "--write").exit_code == 0

    assert "1 verdicts removed" in call("prune", "--judge", "other", "--yes").stdout
    assert "9 verdicts removed" in call("prune", "--status", "unreadable", "--yes").stdout
    assert [one.key for one in filled] == [*"abde"]


def test_a_damaged_record_costs_its_own_verdict_only(
    filled: VerdictStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "rules.yaml"
    script.write_text("- {match: ., reply: 'Score: 2'}")
    judge = JudgeSettings.from_environment({}, judge=f"scripted:{script}")
    given = [JudgeItem("a"), JudgeItem("b"), JudgeItem("c")]
    prompt = load_prompt("factuality")
    (first,) = judge_responses(given[:1], prompt, judge, filled)
    with filled.connection() as connection:
        connection.execute("UPDATE verdicts SET record='{' WHERE key=?", [first.key])
    found = judge_responses(given, prompt, judge, filled)
    assert [one.status.value for one in found] == ["api_error", "scored", "scored"]
    assert f"the verdict {first.key} in" in str(found[0].error)
    assert "verdicts prune" in str(found[0].error)
    call("prune", "--status", "unreadable", "--yes")
    assert [one.value for one in judge_responses(given, prompt, judge, filled)] == [2, 2, 2]


# Looks first at a store of its own, so that all is imported before it may read no more.
PACKAGE = Path(str(eft_eval.__file__))
AS_NOBODY = """
import json, os, sys, traceback
from typer.testing import CliRunner
from eft_eval.cli.app import app
runner = CliRunner()
calls = json.loads(sys.argv[2])
for store in sys.argv[1], os.environ["EFT_VERDICT_STORE"]:
    said = []
    for call in calls:
        done = runner.invoke(app, ["verdicts", *call, "--store", store])
        said.append([done.output, str(done.exception or "")])
    os.seteuid(65534)
print(json.dumps(said))
"""


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs another user")
@pytest.mark.parametrize("layout", [1, 2])
def test_a_read_only_store_is_read(layout: int, tmp_path: Path) -> None:
    """Looked at by a user who may write neither the store nor its folder."""
    if closed := [one for one in PACKAGE.parents if one.stat().st_mode & 0o005 != 0o005]:
        pytest.skip(f"other users cannot read {closed[-1]}, where the package lies")
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        store = VerdictStore(Path(name) / "v.sqlite3")
        store.put_many([verdict("a"), verdict("b")])
        warm = VerdictStore(tmp_path / "warm.sqlite3")
        warm.put_many([verdict("a"), verdict("b")])
        with store.connection() as connection:
            if layout == 1:
                connection.execute("DROP TABLE readings")
                connection.execute("PRAGMA user_version=1")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        calls = [
            ["list"],
            ["reparse"],
            ["prune", "--judge", "m"],
            ["prune", "--judge", "m", "--yes"],
        ]
        done = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, str(warm.path), json.dumps(calls)],
            capture_output=True,
            text=True,
            env={**os.environ, "EFT_VERDICT_STORE": str(store.path)},
            check=True,
        )
        (listed, _), (read_again, _), (looked, _), (_, refused) = json.loads(done.stdout)
        assert "2 verdicts" in listed
        assert "2 verdicts read again" in read_again
        assert "nothing was removed" in looked
        assert "readonly database" in refused
        assert len(store) == 2
