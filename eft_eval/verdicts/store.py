"""The store of verdicts: an append-only SQLite file that several processes may share.

Knows nothing of judges. A connection lives for one operation, so that threads, forks and kills
cannot leave one behind.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from eft_eval.errors import ConfigError, EftEvalError
from eft_eval.files import user_path
from eft_eval.verdicts.layout import (
    LAYOUT,
    STORE_VARIABLE,
    check_layout,
    check_place,
    create,
    make_tables,
)
from eft_eval.verdicts.tally import SCHEMA, Tally, note, read_tallies, without_facts
from eft_eval.verdicts.transaction import add, begin, in_parts, stored_among
from eft_eval.verdicts.verdict import Verdict

__all__ = [
    "STORE_VARIABLE",
    "Unreadable",
    "VerdictStore",
    "default_store_path",
    "readable",
]

_BUSY_SECONDS = 60
_KEYS_PER_QUERY = 500  # SQLite before 3.32 allows 999 parameters
_ROWS_PER_PAGE = 1000
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
        return user_path(env[STORE_VARIABLE])
    data = env.get("XDG_DATA_HOME") or "~/.local/share"
    return user_path(data) / "eft-eval" / "verdicts.sqlite3"


class Unreadable(NamedTuple):
    """A stored record that nobody can read any more.

    Attributes:
        key: The key under which it is stored.
        why: What is wrong, with the key and the store.
    """

    key: str
    why: str


def readable(entry: Verdict | Unreadable) -> Verdict:
    """Return an entry's verdict.

    Raises:
        EftEvalError: It cannot be read.
    """
    if isinstance(entry, Unreadable):
        raise EftEvalError(entry.why)
    return entry


class VerdictStore:
    """Verdicts by key. The first verdict under a key stays; only `prune` removes any.

    Args:
        path: The SQLite file; it and its folders are made if missing.
        writable: Whether anything is to be written. Without, a store on a read-only disk can be
            read, nothing is made or brought up to date, and a missing file is a store of nothing.

    Raises:
        ConfigError: The file cannot be made, opened or written, or is no verdict store.
    """

    def __init__(self, path: str | os.PathLike[str], *, writable: bool = True) -> None:
        self.path = Path(path)
        self.unstored = 0
        """Verdicts that this process got and could not store."""
        self.failure: str | None = None
        """Why this process sends nothing more, once the store has failed."""
        self._source = str(self.path)
        self._record = _RECORD
        self._uri = False
        check_place(self.path)
        if not writable:
            self._open_to_read()
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            create(self.path)
        except (OSError, sqlite3.Error) as error:
            raise self._unusable(error) from error
        with self.connection() as connection:
            check_layout(connection, self.path)
            # Some file systems have no shared memory; the default journal is safe there too.
            # Whoever has the lock now is waited for below; a later opening sets the journal.
            with contextlib.suppress(sqlite3.OperationalError), self.patience(connection, 1):
                connection.execute("PRAGMA journal_mode=WAL").fetchone()
            # Asking for the write lock tells a read-only file now, not after a paid call.
            begin(connection)
            make_tables(connection)
            connection.execute("SELECT key, record FROM verdicts LIMIT 1").fetchone()
            connection.execute("COMMIT")

    def _can_be_written(self) -> bool:
        as_who = {"effective_ids": True} if os.access in os.supports_effective_ids else {}
        # SQLite puts files of its own beside the store
        return all(os.access(path, os.W_OK, **as_who) for path in (self.path, self.path.parent))

    def _open_to_read(self) -> None:
        self._uri = True
        if not self.path.exists():
            self._source = "file::memory:"
            return
        journal = self.path.with_name(f"{self.path.name}-wal")
        options = "mode=rw"  # nothing is made; what lacks is facts, which may be noted
        if not self._can_be_written():
            options = "mode=ro"
            if not journal.exists() or not journal.stat().st_size:
                options += "&immutable=1"  # no lock can be taken there; and nobody writes
        self._source = f"{self.path.resolve().as_uri()}?{options}"
        with self.connection() as connection:
            if check_layout(connection, self.path) < LAYOUT:
                self._record = "v.record"
            connection.execute("SELECT key, record FROM verdicts LIMIT 1").fetchone()

    def get_many(self, keys: Iterable[str]) -> dict[str, Verdict]:
        """Return the stored verdicts among ``keys``, each as it was read last.

        Raises:
            EftEvalError: A stored record cannot be read; its key is named.
        """
        return {key: readable(one) for key, one in self.look_up(keys).items()}

    def look_up(self, keys: Iterable[str]) -> dict[str, Verdict | Unreadable]:
        """Return what is stored under ``keys``, each as it was read last."""
        wanted = list(dict.fromkeys(keys))
        found: dict[str, Verdict | Unreadable] = {}
        with self.connection() as connection:
            for start in range(0, len(wanted), _KEYS_PER_QUERY):
                part = wanted[start : start + _KEYS_PER_QUERY]
                marks = ",".join("?" * len(part))
                rows = connection.execute(
                    f"SELECT v.key, {self._record} FROM verdicts v WHERE v.key IN ({marks})", part
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
        rows = [(verdict, to_record(verdict)) for verdict in verdicts]
        with self.connection() as connection:
            begin(connection)
            add(connection, rows)
            connection.execute("COMMIT")

    def add_readings(self, verdicts: Iterable[Verdict]) -> None:
        """Note how a later parser reads stored replies; the replies and the old readings stay."""
        rows = [(verdict, to_record(verdict)) for verdict in verdicts]
        with self.connection() as connection:
            begin(connection)
            connection.executemany(
                "INSERT INTO readings (key, record) VALUES (?, ?)",
                [(verdict.key, record) for verdict, record in rows],
            )
            for part in in_parts(rows):
                there = stored_among(connection, "verdicts", [verdict.key for verdict, _ in part])
                note(connection, {one.key: one for one, _ in part if one.key in there})
            connection.execute("COMMIT")

    def prune(self, keys: Sequence[str]) -> int:
        """Remove the verdicts of these keys with all their readings; return how many there were.

        The one way in which anything leaves the store.
        """
        removed = 0
        with self.connection() as connection:
            begin(connection)
            for key in keys:
                removed += connection.execute("DELETE FROM verdicts WHERE key=?", [key]).rowcount
                connection.execute("DELETE FROM readings WHERE key=?", [key])
            connection.execute("COMMIT")
        return removed

    def discard(self, keys: Sequence[str], is_meant: Callable[[Verdict], bool]) -> int:
        """Remove those of these keys' verdicts that are meant, as they are at this moment.

        Unlike `prune`, it leaves alone what another process has put there meanwhile.
        """
        with self.connection() as connection:
            begin(connection)
            meant = []
            for key in keys:
                query = f"SELECT {self._record} FROM verdicts v WHERE v.key=?"
                row = connection.execute(query, [key]).fetchone()
                entry = None if row is None else self._read(key, row[0])
                if isinstance(entry, Verdict) and is_meant(entry):
                    meant.append(key)
                    connection.execute("DELETE FROM verdicts WHERE key=?", [key])
                    connection.execute("DELETE FROM readings WHERE key=?", [key])
            connection.execute("COMMIT")
        return len(meant)

    def newest(self, count: int) -> list[Verdict]:
        """Return up to ``count`` readable verdicts, those stored last first."""
        with self.connection() as connection:
            rows = connection.execute(
                f"SELECT v.key, {self._record} FROM verdicts v ORDER BY v.rowid DESC LIMIT ?",
                [count],
            )
            entries = [self._read(key, record) for key, record in rows]
        return [entry for entry in entries if isinstance(entry, Verdict)]

    def __len__(self) -> int:
        with self.connection() as connection:
            return int(connection.execute("SELECT COUNT(*) FROM verdicts").fetchone()[0])

    def __iter__(self) -> Iterator[Verdict]:
        """Iterate over all verdicts in the order in which they were stored.

        Raises:
            EftEvalError: A stored record cannot be read; its key is named.
        """
        return map(readable, self.entries())

    def entries(self) -> Iterator[Verdict | Unreadable]:
        """Iterate over all that is stored, in the order in which it was stored, page by page."""
        last = -1
        while True:
            with self.connection() as connection:
                page = connection.execute(
                    f"SELECT v.rowid, v.key, {self._record} FROM verdicts v WHERE v.rowid > ?"
                    " ORDER BY v.rowid LIMIT ?",
                    [last, _ROWS_PER_PAGE],
                ).fetchall()
            if not page:
                return
            for row, key, record in page:
                last = row
                yield self._read(key, record)

    def tally(self) -> tuple[list[Tally], list[Unreadable]]:
        """Return what the store holds in numbers, and the records that nobody can read."""
        unreadable: list[Unreadable] = []
        last, lacking = "", True
        while lacking:
            with self.connection() as connection:
                if not _has_facts(connection):
                    return self._count()
                keys = without_facts(connection, last, _ROWS_PER_PAGE)
            lacking = bool(keys)
            if lacking:
                last = keys[-1]
                entries = self.look_up(keys)
                found = {key: one for key, one in entries.items() if isinstance(one, Verdict)}
                unreadable += [one for one in entries.values() if isinstance(one, Unreadable)]
                if found and not self._note(found):
                    return self._count()
        with self.connection() as connection:
            return read_tallies(connection), unreadable

    def _note(self, verdicts: Mapping[str, Verdict]) -> bool:
        """Write facts that are lacking; return whether they are there now."""
        with contextlib.suppress(ConfigError), self.connection() as connection:
            begin(connection)
            for part in in_parts([*verdicts.items()]):
                note(connection, dict(part))
            connection.execute("COMMIT")
            return True
        return False

    def _count(self) -> tuple[list[Tally], list[Unreadable]]:
        """Return what `tally` does, from every single record."""
        memory = sqlite3.connect(":memory:", isolation_level=None)
        for statement in SCHEMA[:2]:
            memory.execute(statement)
        unreadable: list[Unreadable] = []
        for entry in self.entries():
            if isinstance(entry, Unreadable):
                unreadable.append(entry)
            else:
                note(memory, {entry.key: entry})
        with contextlib.closing(memory):
            return read_tallies(memory), unreadable

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
            self._source,
            timeout=_BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
            uri=self._uri,
        )
        if self._source == "file::memory:":
            make_tables(connection)
        # a damaged record must not keep the others from being read
        connection.text_factory = _as_text
        connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
        return connection

    @contextlib.contextmanager
    def patience(self, connection: sqlite3.Connection, seconds: float) -> Iterator[None]:
        """Wait only so long for others' locks while the block runs."""
        connection.execute(f"PRAGMA busy_timeout={int(1000 * seconds)}")
        try:
            yield
        finally:
            connection.execute(f"PRAGMA busy_timeout={1000 * _BUSY_SECONDS}")

    def _read(self, key: str, record: str) -> Verdict | Unreadable:
        try:
            verdict = Verdict.from_dict(json.loads(record))
        except (EftEvalError, ValueError, TypeError, AttributeError, RecursionError) as error:
            return Unreadable(key, f"the verdict {key} in {self.path} cannot be read: {error}")
        if verdict.key != key:
            return Unreadable(key, f"the verdict {key} in {self.path} is that of another key")
        return verdict

    def _unusable(self, error: Exception) -> ConfigError:
        return ConfigError(
            f"the verdict store {self.path} cannot be used ({error}); set {STORE_VARIABLE} to "
            "another file"
        )


def _has_facts(connection: sqlite3.Connection) -> bool:
    query = "SELECT 1 FROM sqlite_master WHERE name='facts'"
    return connection.execute(query).fetchone() is not None


def _as_text(stored: bytes) -> str:
    return stored.decode("utf-8", "replace")


def to_record(verdict: Verdict) -> str:
    """Return a verdict as the store keeps it.

    Raises:
        ValueError: Its status is api_error or unfinished, which are never stored.
    """
    if not verdict.status.has_reply:
        raise ValueError(f"a verdict with the status {verdict.status.value} is never stored")
    return json.dumps(verdict.to_dict(), allow_nan=False)
