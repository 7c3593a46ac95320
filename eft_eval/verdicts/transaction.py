"""Writing to a store: whose turn it is, and how verdicts are added."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

from eft_eval.verdicts.tally import note
from eft_eval.verdicts.verdict import Verdict

__all__ = ["add", "begin", "in_parts", "stored_among"]

_FIRST_LOOK_SECONDS = 0.002
_LAST_LOOK_SECONDS = 0.0002
_AGED_SECONDS = 0.1  # who has waited so long looks most often
_LONG_WAIT_SECONDS = 1.0
_SELDOM_LOOK_SECONDS = 0.01
_ROWS_PER_STATEMENT = 100

_Row = TypeVar("_Row")


def begin(connection: sqlite3.Connection) -> None:
    """Begin to write, as soon as nobody else does.

    SQLite's own waiting sleeps the longer the longer it has waited, and so lets those that came
    later go first; here who has waited longer looks more often.

    Raises:
        sqlite3.Error: The store cannot be written, or is locked for too long.
    """
    (patience_ms,) = connection.execute("PRAGMA busy_timeout").fetchone()
    connection.execute("PRAGMA busy_timeout=0")
    start = time.monotonic()
    try:
        while True:
            try:
                connection.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as error:
                waited = time.monotonic() - start
                if "locked" not in str(error) or waited > patience_ms / 1000:
                    raise
            aged = min(1.0, waited / _AGED_SECONDS)
            pause = _FIRST_LOOK_SECONDS * (1 - aged) + _LAST_LOOK_SECONDS * aged
            time.sleep(pause if waited < _LONG_WAIT_SECONDS else _SELDOM_LOOK_SECONDS)
    finally:
        connection.execute(f"PRAGMA busy_timeout={patience_ms}")


def add(connection: sqlite3.Connection, rows: Sequence[tuple[Verdict, str]]) -> None:
    """Add verdicts and their records, in the caller's transaction; the first under a key stays."""
    for part in in_parts(rows):
        # One statement for many rows: at each the interpreter's lock is waited for again, which
        # takes milliseconds while the replies of a whole round are being read.
        there = stored_among(connection, "verdicts", [verdict.key for verdict, _ in part])
        fresh: dict[str, tuple[Verdict, str]] = {}
        for one, record in part:
            if one.key not in there:
                fresh.setdefault(one.key, (one, record))
        if fresh:
            values = ",".join(["(?,?)"] * len(fresh))
            connection.execute(
                f"INSERT INTO verdicts VALUES {values}",
                [field for key, (_, record) in fresh.items() for field in (key, record)],
            )
            read_again = stored_among(connection, "readings", [*fresh])  # the newest reading counts
            note(connection, {k: one for k, (one, _) in fresh.items() if k not in read_again})


def in_parts(rows: Sequence[_Row]) -> Iterator[Sequence[_Row]]:
    for start in range(0, len(rows), _ROWS_PER_STATEMENT):
        yield rows[start : start + _ROWS_PER_STATEMENT]


def stored_among(connection: sqlite3.Connection, table: str, keys: Sequence[str]) -> set[str]:
    """Return those of some keys that a table has."""
    marks = ",".join("?" * len(keys))
    query = f"SELECT key FROM {table} WHERE key IN ({marks})"
    return {key for (key,) in connection.execute(query, list(keys))}
