"""What a store's file is: its tables, how it comes to be, and what is taken for none."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
from pathlib import Path

from eft_eval.errors import ConfigError
from eft_eval.files import check_readable
from eft_eval.verdicts.tally import SCHEMA

__all__ = ["LAYOUT", "STORE_VARIABLE", "check_layout", "check_place", "create", "make_tables"]

STORE_VARIABLE = "EFT_VERDICT_STORE"
_SQLITE = b"SQLite format 3\x00"
LAYOUT = 2  # 1 was the table of verdicts alone; opening such a file to write adds the others
_TABLES = (
    "CREATE TABLE IF NOT EXISTS verdicts (key TEXT PRIMARY KEY NOT NULL, record TEXT NOT NULL)",
    # what later parsers made of the same replies; the newest counts
    "CREATE TABLE IF NOT EXISTS readings (id INTEGER PRIMARY KEY, key TEXT NOT NULL,"
    " record TEXT NOT NULL)",
    "CREATE INDEX IF NOT EXISTS readings_by_key ON readings (key, id)",
    # who is asking for what right now; see leases.py
    "CREATE TABLE IF NOT EXISTS claims (key TEXT PRIMARY KEY NOT NULL, owner TEXT NOT NULL,"
    " expires REAL NOT NULL)",
    # Batch API jobs and their requests; see judging/batch
    "CREATE TABLE IF NOT EXISTS batch_jobs (job TEXT PRIMARY KEY NOT NULL, state TEXT NOT NULL,"
    " record TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS batch_items (job TEXT NOT NULL, key TEXT NOT NULL,"
    " open INTEGER NOT NULL, record TEXT NOT NULL, PRIMARY KEY (job, key))",
    "CREATE INDEX IF NOT EXISTS batch_items_by_key ON batch_items (key, open)",
    *SCHEMA,
)


def check_place(path: Path) -> None:
    """Check that a store lies at a path or may be made there; nothing is touched.

    What might be the remains of a store is refused: a new one in its place would have everything
    paid for again.

    Raises:
        ConfigError: It is a device, a pipe, an empty file, a link to what is not there, no
            database or another program's, or what SQLite keeps beside a store that is gone.
    """
    check_readable(path)
    journal = path.with_name(f"{path.name}-wal")
    try:
        beside = journal.exists()  # looked at first, as it comes after the store
        start = _start(path) if path.is_file() else None
        if start is None and path.is_symlink() and not path.exists():
            raise _refused(path, f"is a link to {os.readlink(path)}, which is not there")
    except OSError as error:
        raise _refused(path, f"cannot be used ({error.strerror or error})") from error
    if start is None and beside and not path.exists():
        raise _refused(path, f"is gone, but {journal} is there, which holds its newest verdicts")
    if start == b"":
        raise _refused(path, "is an empty file, which holds no verdicts")
    if start not in (None, _SQLITE):  # SQLite itself makes a database of a file of a few bytes
        raise _refused(path, "cannot be used (file is not a database)")
    if start:
        _check_tables(path)


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(len(_SQLITE))


def _check_tables(path: Path) -> None:
    """Refuse another program's database before SQLite tidies up beside it."""
    address = f"{path.resolve().as_uri()}?immutable=1"
    with (
        contextlib.suppress(sqlite3.Error),  # said by whoever opens it
        contextlib.closing(sqlite3.connect(address, uri=True)) as connection,
    ):
        check_layout(connection, path)


def _refused(path: Path, why: str) -> ConfigError:
    return ConfigError(
        f"the verdict store {path} {why}; move it away for a new store, or set {STORE_VARIABLE} to "
        "another file"
    )


def check_layout(connection: sqlite3.Connection, path: Path) -> int:
    """Return the layout of a store.

    Raises:
        ConfigError: It is a later one, or the file is another program's.
    """
    layout = int(connection.execute("PRAGMA user_version").fetchone()[0])
    columns = {row[1] for row in connection.execute("PRAGMA table_info(verdicts)")}
    empty = connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is None
    if not (empty or {"key", "record"} <= columns):
        raise ConfigError(
            f"{path} is another program's database; set {STORE_VARIABLE} to another file"
        )
    if layout > LAYOUT:
        raise ConfigError(
            f"the verdict store {path} has the layout {layout} of a later eft-eval; "
            f"this one knows {LAYOUT}: upgrade, or set {STORE_VARIABLE} to another file"
        )
    return layout


def make_tables(connection: sqlite3.Connection) -> None:
    """Make the tables that are not there, in the caller's transaction."""
    for statement in _TABLES:
        connection.execute(statement)
    if connection.execute("PRAGMA user_version").fetchone()[0] != LAYOUT:
        connection.execute(f"PRAGMA user_version={LAYOUT}")


def create(path: Path) -> None:
    """Make an empty store where nothing is: whole, or not at all.

    Raises:
        OSError: It cannot be made.
        sqlite3.Error: The same.
    """
    if path.exists():
        return
    with tempfile.TemporaryDirectory(prefix=".eft-eval-", suffix=".part", dir=path.parent) as own:
        part = Path(own) / "new"
        with contextlib.closing(sqlite3.connect(part, isolation_level=None)) as connection:
            connection.execute("BEGIN")
            make_tables(connection)
            connection.execute("COMMIT")
        # another process may have made one meanwhile; where there are no links it is made in place
        with contextlib.suppress(OSError):
            os.link(part, path)
