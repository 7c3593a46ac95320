"""The store of verdicts: an append-only SQLite file that several processes may share.

Knows nothing of judges. A connection lives for one operation, so that threads, forks and kills
cannot leave one behind.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from eft_eval.errors import ConfigError, EftEvalError
from eft_eval.verdicts.verdict import Status, Verdict

__all__ = ["STORE_VARIABLE", "VerdictStore", "default_store_path"]

STORE_VARIABLE = "EFT_VERDICT_STORE"

_BUSY_SECONDS = 60
_KEYS_PER_QUERY = 500  # SQLite before 3.32 allows 999 parameters
_ROWS_PER_PAGE = 1000
_LAYOUT = 2  # 1 was the table of verdicts alone; opening such a file adds the others
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS verdicts (key TEXT PRIMARY KEY NOT NULL, record TEXT NOT NULL)",
    # what later parsers made of the same replies; the newest counts
    "CREATE TABLE IF NOT EXISTS readings (id INTEGER PRIMARY KEY, key TEXT NOT NULL,"
    " record TEXT NOT NULL)",
    "CREATE INDEX IF NOT EXISTS readings_by_key ON readings (key, id)",
    # who is asking for what right now; see claims.py
    "CREATE TABLE IF NOT EXISTS claims (key TEXT PRIMARY KEY NOT NULL, owner TEXT NOT NULL,"
    " expires REAL NOT NULL)",
    # Batch API jobs and their requests; see batch_state.py
    "CREATE TABLE IF NOT EXISTS batch_jobs (job TEXT PRIMARY KEY NOT NULL, state TEXT NOT NULL,"
    " record TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS batch_items (job TEXT NOT NULL, key TEXT NOT NULL,"
    " open INTEGER NOT NULL, record TEXT NOT NULL, PRIMARY KEY (job, key))",
    "CREATE INDEX IF NOT EXISTS batch_items_by_key ON batch_items (key, open)",
)
_RECORD = (
    "COALESCE((SELECT r.record FROM readings r WHERE r.key = v.key ORDER BY r.id DESC LIMIT 1),"
    " v.record)"
)


def default_store_path(env: Mapping[str, str] = os.environ) -> Path:
    """Return where verdicts are kept unless a command says otherwise.

    ``EFT_VERDICT_STORE``, else ``eft-eval/verdicts.sqlite3`` in ``XDG_DATA_HOME`` (by default
    ``~/.local/share``). Not a cache folder: verdicts are paid for, and caches get cleared.
    """
    if env.get(STORE_VARIABLE):
        return Path(env[STORE_VARIABLE]).expanduser()
    data = env.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(data).expanduser() / "eft-eval" / "verdicts.sqlite3"


class VerdictStore:
    """Verdicts by key. The first verdict under a key stays; only `prune` removes any.

    Args:
        path: The SQLite file; it and its folders are made if missing.

    Raises:
        ConfigError: The file cannot be made, opened or written, or is no verdict store.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unusable(error) from error
        with self.connection() as connection:
            layout = int(connection.execute("PRAGMA user_version").fetchone()[0])
            if layout > _LAYOUT:
                raise ConfigError(
                    f"the verdict store {self.path} has the layout {layout} of a later eft-eval; "
                    f"this one knows {_LAYOUT}: upgrade, or set {STORE_VARIABLE} to another file"
                )
            # Some file systems have no shared memory; the default journal is safe there too.
            with contextlib.suppress(sqlite3.OperationalError):
                connection.execute("PRAGMA journal_mode=WAL").fetchone()
            # Asking for the write lock tells a read-only file now, not after a paid call.
            connection.execute("BEGIN IMMEDIATE")
            for statement in _SCHEMA:
                connection.execute(statement)
            connection.execute("SELECT key, record FROM verdicts LIMIT 1").fetchone()
            if layout != _LAYOUT:
                connection.execute(f"PRAGMA user_version={_LAYOUT}")
            connection.execute("COMMIT")

    def get_many(self, keys: Iterable[str]) -> dict[str, Verdict]:
        """Return the stored verdicts among ``keys``, each as it was read last.

        Raises:
            EftEvalError: A stored record cannot be read; its key is named.
        """
        wanted = list(dict.fromkeys(keys))
        found: dict[str, Verdict] = {}
        with self.connection() as connection:
            for start in range(0, len(wanted), _KEYS_PER_QUERY):
                part = wanted[start : start + _KEYS_PER_QUERY]
                marks = ",".join("?" * len(part))
                rows = connection.execute(
                    f"SELECT v.key, {_RECORD} FROM verdicts v WHERE v.key IN ({marks})", part
                )
                found.update((key, self._read(key, record)) for key, record in rows)
        return found

    def put(self, verdict: Verdict) -> None:
        """Store a verdict for good; it is on disk when this returns.

        Raises:
            ValueError: Its status is api_error, for an outage must not be remembered.
            ConfigError: The file cannot be written.
        """
        self.put_many([verdict])

    def put_many(self, verdicts: Iterable[Verdict]) -> None:
        """Store several verdicts at once, all or none; as `put`."""
        rows = [(verdict.key, to_record(verdict)) for verdict in verdicts]
        with self.connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT OR IGNORE INTO verdicts VALUES (?, ?)", rows)
            connection.execute("COMMIT")

    def add_readings(self, verdicts: Iterable[Verdict]) -> None:
        """Note how a later parser reads stored replies; the replies and the old readings stay."""
        rows = [(verdict.key, to_record(verdict)) for verdict in verdicts]
        with self.connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT INTO readings (key, record) VALUES (?, ?)", rows)
            connection.execute("COMMIT")

    def prune(self, keys: Sequence[str]) -> int:
        """Remove the verdicts of these keys with all their readings; return how many there were.

        The one way in which anything leaves the store.
        """
        removed = 0
        with self.connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            for key in keys:
                removed += connection.execute("DELETE FROM verdicts WHERE key=?", [key]).rowcount
                connection.execute("DELETE FROM readings WHERE key=?", [key])
            connection.execute("COMMIT")
        return removed

    def newest(self, count: int) -> list[Verdict]:
        """Return up to ``count`` verdicts, those stored last first."""
        with self.connection() as connection:
            rows = connection.execute(
                f"SELECT v.key, {_RECORD} FROM verdicts v ORDER BY v.rowid DESC LIMIT ?", [count]
            )
            return [self._read(key, record) for key, record in rows]

    def __len__(self) -> int:
        with self.connection() as connection:
            return int(connection.execute("SELECT COUNT(*) FROM verdicts").fetchone()[0])

    def __iter__(self) -> Iterator[Verdict]:
        """Iterate over all verdicts in the order in which they were stored, page by page."""
        last = -1
        while True:
            with self.connection() as connection:
                page = connection.execute(
                    f"SELECT v.rowid, v.key, {_RECORD} FROM verdicts v WHERE v.rowid > ?"
                    " ORDER BY v.rowid LIMIT ?",
                    [last, _ROWS_PER_PAGE],
                ).fetchall()
            if not page:
                return
            for row, key, record in page:
                last = row
                yield self._read(key, record)

    @contextlib.contextmanager
    def connection(self) -> Iterator[sqlite3.Connection]:
        """Open a connection for one operation of this package; commits are on disk.

        Raises:
            ConfigError: SQLite cannot do what is asked; the file is named.
        """
        try:
            with contextlib.closing(self.connect()) as connection:
                yield connection
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def connect(self, *, durable: bool = True) -> sqlite3.Connection:
        """Open a connection that the caller closes, and may hand to another thread.

        Args:
            durable: Whether commits outlast a power failure, too; a killed process loses none
                in any case.
        """
        connection = sqlite3.connect(
            self.path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
        return connection

    def _read(self, key: str, record: str) -> Verdict:
        try:
            return Verdict.from_dict(json.loads(record))
        except (EftEvalError, ValueError, TypeError, AttributeError) as error:
            raise EftEvalError(
                f"the verdict {key} in {self.path} cannot be read: {error}"
            ) from error

    def _unusable(self, error: Exception) -> ConfigError:
        return ConfigError(
            f"the verdict store {self.path} cannot be used ({error}); set {STORE_VARIABLE} to "
            "another file"
        )


def to_record(verdict: Verdict) -> str:
    """Return a verdict as the store keeps it.

    Raises:
        ValueError: Its status is api_error, which is never stored.
    """
    if verdict.status is Status.api_error:
        raise ValueError("a verdict with the status api_error is never stored")
    return json.dumps(verdict.to_dict(), allow_nan=False)
