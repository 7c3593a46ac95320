"""The store of verdicts: an append-only SQLite file that several processes may share.

Knows nothing of judges. A connection lives for one operation, so that threads, forks and kills
cannot leave one behind.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from eft_eval.errors import ConfigError, EftEvalError
from eft_eval.judging.verdict import Status, Verdict

__all__ = ["STORE_VARIABLE", "VerdictStore", "default_store_path"]

STORE_VARIABLE = "EFT_VERDICT_STORE"

_BUSY_SECONDS = 60
_KEYS_PER_QUERY = 500  # SQLite before 3.32 allows 999 parameters
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS verdicts (key TEXT PRIMARY KEY NOT NULL, record TEXT NOT NULL)"
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
    """Verdicts by key. The first verdict under a key stays; nothing is changed or removed.

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
        with self._connect() as connection:
            # Some file systems have no shared memory; the default journal is safe there too.
            with contextlib.suppress(sqlite3.OperationalError):
                connection.execute("PRAGMA journal_mode=WAL").fetchone()
            # Asking for the write lock tells a read-only file now, not after a paid call.
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(_SCHEMA)
            connection.execute("SELECT key, record FROM verdicts LIMIT 1").fetchone()
            connection.execute("COMMIT")

    def get_many(self, keys: Iterable[str]) -> dict[str, Verdict]:
        """Return the stored verdicts among ``keys``.

        Raises:
            EftEvalError: A stored record cannot be read; its key is named.
        """
        wanted = list(dict.fromkeys(keys))
        found: dict[str, Verdict] = {}
        with self._connect() as connection:
            for start in range(0, len(wanted), _KEYS_PER_QUERY):
                part = wanted[start : start + _KEYS_PER_QUERY]
                marks = ",".join("?" * len(part))
                rows = connection.execute(
                    f"SELECT key, record FROM verdicts WHERE key IN ({marks})", part
                )
                found.update((key, self._read(key, record)) for key, record in rows)
        return found

    def put(self, verdict: Verdict) -> None:
        """Store a verdict for good; it is on disk when this returns.

        Raises:
            ValueError: Its status is api_error, for an outage must not be remembered.
            ConfigError: The file cannot be written.
        """
        if verdict.status is Status.api_error:
            raise ValueError("a verdict with the status api_error is never stored")
        record = json.dumps(verdict.to_dict(), allow_nan=False)
        with self._connect() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO verdicts (key, record) VALUES (?, ?)", (verdict.key, record)
            )

    def __len__(self) -> int:
        with self._connect() as connection:
            return int(connection.execute("SELECT COUNT(*) FROM verdicts").fetchone()[0])

    def __iter__(self) -> Iterator[Verdict]:
        """Iterate over all verdicts in the order in which they were stored."""
        with self._connect() as connection:
            rows = connection.execute("SELECT key, record FROM verdicts ORDER BY rowid").fetchall()
        for key, record in rows:
            yield self._read(key, record)

    @contextlib.contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        try:
            with contextlib.closing(
                sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None)
            ) as connection:
                connection.execute("PRAGMA synchronous=FULL")
                yield connection
        except sqlite3.Error as error:
            raise self._unusable(error) from error

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
