"""Batch API jobs as the store remembers them, so that any machine that has the store goes on."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, NamedTuple

from eft_eval.verdicts.leases import is_gone
from eft_eval.verdicts.store import VerdictStore, to_record
from eft_eval.verdicts.transaction import add, begin
from eft_eval.verdicts.verdict import Scale, Verdict

__all__ = ["BatchItem", "BatchJob", "BatchStates", "JobState"]

JobState = Literal["prepared", "submitted", "collected", "failed"]
"""``prepared``: perhaps sent, not known yet; ``submitted``: the endpoint has it; ``collected``:
its answers are stored; ``failed``: the endpoint never took it."""

_KEYS_PER_QUERY = 400


@dataclass(frozen=True)
class BatchJob:
    """One batch.

    Attributes:
        job: Our own name for it, in the batch's metadata at the endpoint, too.
        state: See `JobState`.
        owner: The process that prepared it, see `Claims`.
        endpoint: Where it was sent, without user and password.
        model: The judge.
        max_tokens: Of one reply.
        structured: Whether JSON was asked for.
        requests: How many.
        created: When it was prepared, Unix time.
        batch_id: The endpoint's name for it, once it has one.
        status: The endpoint's last word on it.
        params: As `JudgeSettings.params`.
        sent: The sampling parameters as they were sent, where they differ from those asked for.
        form: How requests differ from what is asked, see `Form`; once collected, as the endpoint
            would have them.
    """

    job: str
    state: JobState
    owner: str
    endpoint: str
    model: str
    max_tokens: int
    structured: bool
    requests: int
    created: float
    batch_id: str | None = None
    status: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    sent: Mapping[str, Any] | None = None
    form: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def is_open(self) -> bool:
        """Whether replies may still come."""
        return self.state in ("prepared", "submitted")

    def with_(self, **changes: Any) -> BatchJob:
        """Return the job with other values."""
        return replace(self, **changes)


class BatchItem(NamedTuple):
    """The judge prompt of one request: what a verdict needs to know of it."""

    name: str
    version: int
    sha256: str
    scale: Scale


class BatchStates:
    """The jobs in a store.

    Args:
        store: The store.
    """

    def __init__(self, store: VerdictStore) -> None:
        self._store = store

    def prepare(self, job: BatchJob, items: Mapping[str, BatchItem]) -> set[str]:
        """Note a job before it is sent; return the keys that are its own.

        Keys that are stored, in another open job or being asked live are left out, in one step
        with the noting, so that no two processes send the same request.
        """
        with self._store.connection() as connection:
            begin(connection)
            own = _unknown(connection, list(items), job.created)
            if own:
                job = job.with_(requests=len(own))
                connection.execute(
                    "INSERT INTO batch_jobs VALUES (?, ?, ?)", (job.job, job.state, _text(job))
                )
                connection.executemany(
                    "INSERT INTO batch_items VALUES (?, ?, 1, ?)",
                    [(job.job, key, json.dumps(items[key]._asdict())) for key in sorted(own)],
                )
            connection.execute("COMMIT")
        return own

    def sendable(self, keys: Sequence[str], now: float) -> set[str]:
        """Return those of ``keys`` that are neither stored nor in an open job nor asked live.

        Args:
            keys: Of verdicts.
            now: Unix time.
        """
        with self._store.connection() as connection:
            return _unknown(connection, list(keys), now)

    def update(self, job: BatchJob) -> None:
        """Note what has become of a job; its requests are open as long as it is."""
        with self._store.connection() as connection:
            begin(connection)
            _write(connection, job)
            connection.execute("COMMIT")

    def finish(self, job: BatchJob, verdicts: Iterable[Verdict]) -> None:
        """Store a job's verdicts and note its end, in one step."""
        rows = [(verdict, to_record(verdict)) for verdict in verdicts]
        with self._store.connection() as connection:
            begin(connection)
            add(connection, rows)
            _write(connection, job)
            connection.execute("COMMIT")

    def jobs(self) -> list[BatchJob]:
        """Return all jobs, the oldest first."""
        with self._store.connection() as connection:
            rows = connection.execute("SELECT record FROM batch_jobs ORDER BY rowid").fetchall()
        return [BatchJob(**json.loads(record)) for (record,) in rows]

    def items(self, job: BatchJob) -> dict[str, BatchItem]:
        """Return a job's requests by key."""
        with self._store.connection() as connection:
            rows = connection.execute(
                "SELECT key, record FROM batch_items WHERE job=?", [job.job]
            ).fetchall()
        return {key: BatchItem(**json.loads(record)) for key, record in rows}

    def open_among(self, keys: Sequence[str]) -> set[str]:
        """Return those of ``keys`` that are in an open job."""
        with self._store.connection() as connection:
            return _among(connection, "SELECT key FROM batch_items WHERE open=1 AND", keys)


def _unknown(connection: sqlite3.Connection, keys: list[str], now: float) -> set[str]:
    known = _among(connection, "SELECT key FROM verdicts WHERE", keys)
    known |= _among(connection, "SELECT key FROM batch_items WHERE open=1 AND", keys)
    claimed = _among(connection, "SELECT key FROM claims WHERE", keys)
    for key in claimed - known:
        query = "SELECT owner, expires FROM claims WHERE key=?"
        owner, expires = connection.execute(query, [key]).fetchone()
        if expires >= now and not is_gone(owner):
            known.add(key)
    return set(keys) - known


def _among(connection: sqlite3.Connection, query: str, keys: Sequence[str]) -> set[str]:
    found: set[str] = set()
    for start in range(0, len(keys), _KEYS_PER_QUERY):
        part = list(keys[start : start + _KEYS_PER_QUERY])
        marks = ",".join("?" * len(part))
        found.update(key for (key,) in connection.execute(f"{query} key IN ({marks})", part))
    return found


def _write(connection: sqlite3.Connection, job: BatchJob) -> None:
    connection.execute(
        "UPDATE batch_jobs SET state=?, record=? WHERE job=?", (job.state, _text(job), job.job)
    )
    connection.execute("UPDATE batch_items SET open=? WHERE job=?", (int(job.is_open), job.job))


def _text(job: BatchJob) -> str:
    return json.dumps(asdict(job))
