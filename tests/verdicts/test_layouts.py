"""Stores of other layouts and of other programs: read, counted, or left as they are."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from verdict_stores import RECORD, counted, verdict

from eft_eval.errors import ConfigError
from eft_eval.judging import VerdictStore
from eft_eval.verdicts.leases import Claims


def old_store(path: Path, *records: dict[str, Any]) -> None:
    """A store as the first layout was."""
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(
            "CREATE TABLE verdicts (key TEXT PRIMARY KEY NOT NULL, record TEXT NOT NULL)"
        )
        rows = [(record["key"], json.dumps(record)) for record in records]
        connection.executemany("INSERT INTO verdicts VALUES (?, ?)", rows)
    connection.close()


def test_a_store_of_the_first_layout_is_read_and_written(tmp_path: Path) -> None:
    path = tmp_path / "v.sqlite3"
    old_store(path, {**RECORD, "key": "a"}, {**RECORD, "key": "b"})
    store = VerdictStore(path)
    assert [v.key for v in store] == ["a", "b"]
    store.put(verdict("c"))
    with Claims(store) as claims:
        assert claims.take(["a", "d"]) == ["stored", "mine"]
    assert len(VerdictStore(path)) == 3


def test_a_store_of_a_later_layout_is_refused(tmp_path: Path) -> None:
    store = VerdictStore(tmp_path / "v.sqlite3")
    with store.connection() as connection:
        connection.execute("PRAGMA user_version=99")
    with pytest.raises(ConfigError, match="layout 99 of a later eft-eval"):
        VerdictStore(store.path)


def test_the_newest_reading_counts_and_the_first_stays(tmp_path: Path) -> None:
    store = VerdictStore(tmp_path / "v.sqlite3")
    store.put(verdict("a", value=1))
    store.put(verdict("b", value=1))
    store.add_readings([verdict("a", value=2)])
    store.add_readings([verdict("a", value=3)])
    assert store.get_many(["a", "b"])["a"].value == 3
    assert [v.value for v in store] == [3, 1]
    assert [v.value for v in store.newest(5)] == [1, 3]
    with store.connection() as connection:
        kept = connection.execute("SELECT record FROM verdicts WHERE key='a'").fetchone()
    assert json.loads(kept[0])["value"] == 1


def test_an_older_store_is_counted(tmp_path: Path) -> None:
    """One that has no facts yet; and once it is written, the second look reads nothing."""
    store = VerdictStore(tmp_path / "v.sqlite3")
    store.put_many(verdict(str(number)) for number in range(2500))
    with sqlite3.connect(store.path) as connection:
        connection.execute("DELETE FROM facts")
    connection.close()
    (tally,) = counted(store)
    assert tally.verdicts == tally.priced == 2500
    with sqlite3.connect(store.path) as connection:
        (noted,) = connection.execute("SELECT COUNT(*) FROM facts").fetchone()
    connection.close()
    assert noted == 2500


@pytest.mark.parametrize("schema", ["CREATE TABLE theirs (a)", "CREATE TABLE verdicts (a)"])
def test_another_programs_database_stays_as_it_is(schema: str, tmp_path: Path) -> None:
    path = tmp_path / "theirs.sqlite3"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(schema)
        connection.commit()
    before = path.read_bytes()
    for writable in (True, False):
        with pytest.raises(ConfigError, match="another program's database"):
            VerdictStore(path, writable=writable)
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == [path.name]
