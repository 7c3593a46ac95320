"""Putting verdicts on disk as they arrive, without making the next replies wait for the disk."""

from __future__ import annotations

import contextlib
import queue
import tempfile
import threading
import uuid
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from eft_eval.errors import EftEvalError
from eft_eval.files import write_lines
from eft_eval.streams import logger
from eft_eval.verdicts.leases import Claims
from eft_eval.verdicts.store import to_record
from eft_eval.verdicts.verdict import Verdict

__all__ = ["Keeper"]

_log = logger("eft_eval.judging")


class _Arrival(NamedTuple):
    verdict: Verdict
    stored: Future[None]


class Keeper:
    """A thread that stores verdicts; whatever arrived during one commit goes into the next.

    A context manager: at its end, however it comes, all that was handed over is on disk. Where the
    store fails (a full disk, a lock that stays), that is tried once more at the end, and what can
    then still not be stored goes into a file of its own, whose place is logged.

    Args:
        claims: The claims, entered.
        store: The store's file.
    """

    def __init__(self, claims: Claims, store: Path) -> None:
        self._claims = claims
        self._file = store
        self._arrived: queue.SimpleQueue[_Arrival | None] = queue.SimpleQueue()
        self._unstored: list[Verdict] = []
        self._failure: EftEvalError | None = None
        self._thread = threading.Thread(target=self._run, name="eft-keep")

    def __enter__(self) -> Keeper:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._arrived.put(None)
        self._thread.join()
        if self._unstored:
            self._store_late()

    @property
    def unstored(self) -> int:
        """How many verdicts are not in the store, at the end."""
        return len(self._unstored)

    def keep(self, verdict: Verdict) -> Future[None]:
        """Hand a verdict over.

        Returns:
            What is done once the verdict is on disk, and fails where it cannot be put there.
        """
        arrival = _Arrival(verdict, Future())
        arrival.stored.set_running_or_notify_cancel()  # who no longer waits cannot call it off
        self._arrived.put(arrival)
        return arrival.stored

    def _run(self) -> None:
        more = True
        while more:
            first = self._arrived.get()
            batch = [] if first is None else [first]
            more = first is not None
            while not self._arrived.empty():
                another = self._arrived.get()
                if another is None:
                    more = False
                else:
                    batch.append(another)
            try:
                if batch:
                    self._store([one.verdict for one in batch])
            except Exception as error:  # noqa: BLE001  # raised where the future is waited for
                for one in batch:
                    one.stored.set_exception(error)
            else:
                for one in batch:
                    one.stored.set_result(None)

    def _store(self, batch: list[Verdict]) -> None:
        """Store verdicts; a store that has failed is not tried again before the end."""
        try:
            if self._failure is not None:
                raise self._failure
            self._claims.keep(batch)
        except EftEvalError as error:
            self._failure = error
            self._unstored += batch
            raise

    def _store_late(self) -> None:
        count = len(self._unstored)
        try:
            self._claims.keep(self._unstored)
        except EftEvalError as error:
            file = _rescue(self._unstored, self._file)
            where = (
                "and no file could be written: they are in the memory of this process alone"
                if file is None
                else f"but in {file}: `eft-eval verdicts import {file}` stores them"
            )
            _log.error("%d verdicts are not in the store, %s (%s)", count, where, error)
        else:
            self._unstored = []
            _log.warning("%d verdicts were stored late (%s)", count, self._failure)


def _rescue(verdicts: Sequence[Verdict], store: Path) -> Path | None:
    """Write verdicts where there is room; return the file, None where there is none."""
    name = f"verdicts-not-stored-{uuid.uuid4().hex[:12]}.jsonl"
    for folder in (store.parent, Path.cwd(), Path(tempfile.gettempdir())):
        with contextlib.suppress(OSError, EftEvalError):
            file = folder.absolute() / name
            write_lines(file, (f"{to_record(verdict)}\n" for verdict in verdicts))
            return file
    return None
