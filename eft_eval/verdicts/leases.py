"""Who asks for which verdict: leases in the store, so that processes over one store share work.

A claim is taken just before an item is asked and ends with its verdict. A process that is killed
leaves claims behind; others take them over at once where they can see that it is gone (same
machine), else when the lease has run out.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sqlite3
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal

from eft_eval.errors import ConfigError
from eft_eval.streams import logger
from eft_eval.verdicts.store import STORE_VARIABLE, VerdictStore, to_record
from eft_eval.verdicts.transaction import add, begin
from eft_eval.verdicts.verdict import Verdict

__all__ = ["Claims", "SharedSource", "Taken", "is_gone", "this_process"]

_log = logger("eft_eval.judging")

LEASE_SECONDS = 60.0
MOST_AT_ONCE = 16  # one transaction for several; few enough that another process finds work
_RENEWALS_PER_LEASE = 4
_ROWS_PER_STATEMENT = 100
_POLL_SECONDS = 0.2
_HURRY_SECONDS = 0.5

_ended: set[str] = set()
"""Callers of this process that have ended and whose claims could not be given back."""

Taken = Literal["mine", "stored", "taken", "batched"]
"""``mine``: ask now; ``stored``: the verdict is there; ``taken``: another process is asking;
``batched``: the request is in a Batch API job that is not collected."""


class Claims:
    """The claims of one call over one store; a context manager that gives all back at its end.

    Args:
        store: The store.
        lease_s: How long a claim lasts unless renewed, in seconds by the machines' clocks.
    """

    def __init__(self, store: VerdictStore, lease_s: float = LEASE_SECONDS) -> None:
        self.lease_s = lease_s
        self._store = store
        self._owner = this_process()

    def __enter__(self) -> Claims:
        with self._explained():
            # A verdict is paid for and must outlast a power failure; a claim need not.
            self._durable = self._store.connect()
            self._quick = self._store.connect(durable=False)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._try("DELETE FROM claims WHERE owner=?", self._owner):
            _ended.add(self._owner)  # no later call of this process is to wait for them
        self._quick.close()
        self._durable.close()

    def take(self, keys: Sequence[str]) -> list[Taken]:
        """Claim verdicts, each unless it is there or on its way; a claim of one's own stays.

        Args:
            keys: At most `MOST_AT_ONCE`.

        Raises:
            ConfigError: The store cannot be used.
        """
        with self._explained():
            states = self._states(keys)  # first without the write lock, as others wait for that
            if "mine" not in states:
                return states
            begin(self._quick)
            try:
                states = self._states(keys)
                expires = time.time() + self.lease_s
                self._quick.executemany(
                    "INSERT OR REPLACE INTO claims VALUES (?, ?, ?)",
                    [
                        (key, self._owner, expires)
                        for key, state in zip(keys, states, strict=True)
                        if state == "mine"
                    ],
                )
                self._quick.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):  # some errors have rolled back already
                    self._quick.execute("ROLLBACK")
                raise
            return states

    def keep(self, verdicts: Sequence[Verdict]) -> None:
        """Store verdicts and end their claims, in one step; on disk when this returns.

        Raises:
            ConfigError: The store cannot be written.
        """
        rows = [(verdict, to_record(verdict)) for verdict in verdicts]
        with self._explained():
            begin(self._durable)
            try:
                add(self._durable, rows)
                for start in range(0, len(rows), _ROWS_PER_STATEMENT):
                    self._end([one.key for one, _ in rows[start : start + _ROWS_PER_STATEMENT]])
                self._durable.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):  # some errors have rolled back already
                    self._durable.execute("ROLLBACK")
                raise

    def _end(self, keys: Sequence[str]) -> None:
        marks = ",".join("?" * len(keys))
        self._durable.execute(
            f"DELETE FROM claims WHERE owner=? AND key IN ({marks})", [self._owner, *keys]
        )

    def give_back(self, key: str) -> None:
        """End a claim without a verdict."""
        self._try("DELETE FROM claims WHERE key=? AND owner=?", key, self._owner)

    def renew(self) -> None:
        """Let all claims last for another lease from now on."""
        self._try(
            "UPDATE claims SET expires=? WHERE owner=?", time.time() + self.lease_s, self._owner
        )

    def _try(self, statement: str, *values: object) -> bool:
        """Do what need not succeed, as leases run out by themselves; and so wait for no lock."""
        with contextlib.suppress(sqlite3.Error), self._store.patience(self._quick, _HURRY_SECONDS):
            self._quick.execute(statement, values)
            return True
        return False

    def _states(self, keys: Sequence[str]) -> list[Taken]:
        marks = ",".join("?" * len(keys))

        def among(query: str) -> list[tuple[str, ...]]:
            return self._quick.execute(f"{query} key IN ({marks})", list(keys)).fetchall()

        stored = {key for (key,) in among("SELECT key FROM verdicts WHERE")}
        batched = {key for (key,) in among("SELECT key FROM batch_items WHERE open=1 AND")}
        now = time.time()
        taken = {
            key
            for key, owner, expires in among("SELECT key, owner, expires FROM claims WHERE")
            if owner != self._owner and float(expires) >= now and not is_gone(owner)
        }
        return [
            "stored"
            if key in stored
            else "batched"
            if key in batched
            else "taken"
            if key in taken
            else "mine"
            for key in keys
        ]

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise ConfigError(
                f"the verdict store {self._store.path} cannot be used ({error}); set "
                f"{STORE_VARIABLE} to another file"
            ) from error


class SharedSource:
    """Hands out the items that no other process asks for, and waits for those of others.

    Args:
        keys: The verdicts' keys.
        claims: The claims, entered.
        settled: Called with an item's number and how it was found, where nothing is to be asked.
    """

    def __init__(
        self, keys: Sequence[str], claims: Claims, settled: Callable[[int, Taken], None]
    ) -> None:
        self._keys = keys
        self._claims = claims
        self._settled = settled
        self._fresh = deque(range(len(keys)))
        self._mine: deque[int] = deque()
        self._others: deque[int] = deque()
        self._told = False
        self._failure: ConfigError | None = None
        self._one_at_a_time = asyncio.Lock()

    async def take(self) -> int | None:
        """Return the next item to ask; None when all have been asked or settled."""
        async with self._one_at_a_time:
            if self._failure is not None:
                raise self._failure  # at once: a lock is waited for only once
            while not self._mine:
                if not self._fresh:
                    if not self._others:
                        return None
                    await self._wait()
                self._claim(
                    [self._fresh.popleft() for _ in range(min(MOST_AT_ONCE, len(self._fresh)))]
                )
            return self._mine.popleft()

    def _claim(self, numbers: Sequence[int]) -> None:
        try:
            states = self._claims.take([self._keys[number] for number in numbers])
        except ConfigError as error:
            self._failure = error
            raise
        for number, state in zip(numbers, states, strict=True):
            if state == "mine":
                self._mine.append(number)
            elif state == "taken":
                self._others.append(number)
            else:
                self._settled(number, state)

    async def _wait(self) -> None:
        """Wait a moment for other processes, and look at their items again."""
        if not self._told:
            self._told = True
            _log.info("waiting for %d verdicts that others ask for", len(self._others))
        await asyncio.sleep(_POLL_SECONDS)
        self._fresh, self._others = self._others, deque()

    async def watch(self) -> None:
        """Renew the claims for ever."""
        while True:
            await asyncio.sleep(self._claims.lease_s / _RENEWALS_PER_LEASE)
            self._claims.renew()


def this_process() -> str:
    """Return a name that no other caller has, and whose process `is_gone` can look for."""
    return f"{_place()}/{os.getpid()}/{uuid.uuid4().hex}"


def _place() -> str:
    """Return where process ids mean what they mean here: the machine and its name space."""
    try:
        space = os.readlink(Path("/proc/self/ns/pid"))
    except OSError:
        space = "-"
    return f"{socket.gethostname()}/{space}"


def is_gone(owner: str) -> bool:
    """Whether the claim's process, or call, surely runs no more; False where nobody can tell."""
    if owner in _ended:
        return True
    place, pid, _ = owner.rsplit("/", 2)
    if place != _place() or os.name != "posix" or not pid.isdecimal():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
