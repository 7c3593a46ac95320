"""Putting verdicts on disk as they arrive, without making the next replies wait for the disk."""

from __future__ import annotations

import logging
import queue
import threading
from concurrent.futures import Future
from types import TracebackType
from typing import NamedTuple

from eft_eval.errors import EftEvalError
from eft_eval.verdicts.leases import Claims
from eft_eval.verdicts.verdict import Verdict

__all__ = ["Keeper"]

_log = logging.getLogger("eft_eval.judging")


class _Arrival(NamedTuple):
    verdict: Verdict
    stored: Future[None]


class Keeper:
    """A thread that stores verdicts; whatever arrived during one commit goes into the next.

    A context manager: at its end, however it comes, all that was handed over is on disk.

    Args:
        claims: The claims, entered.
    """

    def __init__(self, claims: Claims) -> None:
        self._claims = claims
        self._arrived: queue.SimpleQueue[_Arrival | None] = queue.SimpleQueue()
        self._unstored = 0
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
        if self._unstored > 1:
            _log.error("%d verdicts are in the results but not in the store", self._unstored)

    def keep(self, verdict: Verdict) -> Future[None]:
        """Hand a verdict over.

        Returns:
            What is done once the verdict is on disk, or cannot be put there, which is logged.
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
        """Store verdicts; a disk that is full must not cost the verdicts still to come."""
        try:
            self._claims.keep(batch)
        except EftEvalError as error:
            if not self._unstored:
                short = batch[0].key[:8]
                _log.error("verdict %s is in the results but not in the store: %s", short, error)
            self._unstored += len(batch)
