"""Making the runs of a study, each a process of its own, and going on where one was stopped."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Literal, NamedTuple

from eft_eval.secrets import without_credentials
from eft_eval.study.folder import StudyFolder
from eft_eval.study.forks import Forks, can_fork
from eft_eval.study.plan import ArmRun

__all__ = ["Outcome", "Settings", "last_words", "run_arms"]

_LACKS_VERDICTS = 3  # exit code of `eft-eval run`
_ERROR = "eft-eval: error: "
_RAISED = re.compile(r"(\([^()]*\) )?([\w.]+\.)?\w*(Error|Exception|Interrupt|Exit)(:|$)")


class Outcome(NamedTuple):
    """How a run ended.

    Attributes:
        run: Which.
        state: Whole, kept from before, without all verdicts, or failed.
        seconds: How long it took.
        reason: Why it is not whole; empty where it is.
        number: How many runs have ended with it.
        total: How many there are.
        left: Seconds that the rest is expected to take.
    """

    run: ArmRun
    state: Literal["done", "kept", "lacks verdicts", "failed"]
    seconds: float
    reason: str
    number: int = 0
    total: int = 0
    left: float = 0.0

    @property
    def is_whole(self) -> bool:
        return self.state in ("done", "kept")


class Settings(NamedTuple):
    """How runs are made.

    Attributes:
        jobs: Runs at a time.
        environment: Variables that they see beside this process's.
        lock: The file that they inherit; see `StudyFolder.held`.
        told: Called with each outcome as it comes.
    """

    jobs: int
    environment: Mapping[str, str]
    lock: int | None
    told: Callable[[Outcome], None]


def run_arms(folder: StudyFolder, settings: Settings) -> list[Outcome]:
    """Make every run that is not whole; one that fails does not stop the others.

    Args:
        folder: Where the study lies.
        settings: How.

    Returns:
        The outcomes, in the order of the plan.
    """
    runs = folder.plan.runs
    known = {run: seconds for run in runs if (seconds := folder.seconds(run)) is not None}
    ended: dict[ArmRun, Outcome] = {}
    took: list[float] = list(known.values())

    def tell(outcome: Outcome) -> None:
        left = len(runs) - len(ended) - 1
        mean = sum(took) / len(took) if took else outcome.seconds
        told = outcome._replace(
            number=len(ended) + 1, total=len(runs), left=left * mean / settings.jobs
        )
        ended[outcome.run] = told
        settings.told(told)

    for run, seconds in known.items():
        tell(Outcome(run, "kept", seconds, ""))
    for outcome in _made(folder, [run for run in runs if run not in known], settings):
        if outcome.is_whole:
            took.append(outcome.seconds)
        tell(outcome)
    return [ended[run] for run in runs]


def _made(folder: StudyFolder, runs: Sequence[ArmRun], settings: Settings) -> Iterator[Outcome]:
    maker = _Maker(folder, settings)
    waiting = list(runs)
    going: set[Future[Outcome]] = set()
    with ThreadPoolExecutor(settings.jobs) as pool:
        try:
            while waiting or going:
                while waiting and len(going) < settings.jobs:
                    going.add(pool.submit(maker.run, waiting.pop(0)))
                finished, going = wait(going, return_when=FIRST_COMPLETED)
                for one in finished:
                    yield one.result()
        finally:
            maker.end()


class _Maker:
    """Makes runs, each a process; those that may be forks share the imports of the libraries."""

    def __init__(self, folder: StudyFolder, settings: Settings) -> None:
        self._folder = folder
        self._lock = settings.lock
        self._environment = {**os.environ, **settings.environment}
        self._forked = folder.plan.design.engine == "eft" and can_fork()
        self._children: set[subprocess.Popen[bytes]] = set()
        self._idle: list[Forks] = []
        self._busy: set[Forks] = set()
        self._ended = False

    def run(self, run: ArmRun) -> Outcome:
        started = time.monotonic()
        place = self._folder.place(run)
        place.mkdir(parents=True, exist_ok=True)
        log = place / "log.txt"
        log.touch()
        before = log.stat().st_size
        command = self._folder.plan.command(run, place, self._folder.responses(run))
        code = self._fork(command, log) if self._forked else None
        if code is None:
            code = self._start(command, log)
        seconds = time.monotonic() - started
        if code == 0:
            self._folder.finish(run, seconds)
            return Outcome(run, "done", seconds, "")
        said = last_words(log.read_bytes()[before:].decode("utf-8", "replace"))
        if code == _LACKS_VERDICTS:
            why = said or f"responses were left without one; {log} says why"
            return Outcome(run, "lacks verdicts", seconds, why)
        ended = f"exit code {code}" if code >= 0 else f"ended by signal {-code}"
        return Outcome(run, "failed", seconds, said or f"{ended}; {log} says more")

    def _fork(self, command: Sequence[str], log: Path) -> int | None:
        """Return the exit code of a fork; None where there is nothing to fork from."""
        forks = self._idle.pop() if self._idle else Forks(self._environment, self._lock)
        self._busy.add(forks)
        if self._ended:  # since this run was asked for
            forks.terminate()
        code = forks.run(command[2:], log)  # without the interpreter and its -m
        self._busy.discard(forks)
        if code is None:
            forks.close()
            self._forked = False
        else:
            self._idle.append(forks)
        return code

    def _start(self, command: Sequence[str], log: Path) -> int:
        with log.open("ab") as output:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment,
                pass_fds=() if self._lock is None else (self._lock,),
            )
        self._children.add(child)
        if self._ended:
            child.terminate()
        code = child.wait()
        self._children.discard(child)
        return code

    def end(self) -> None:
        """End what is still running, and the processes that fork; nothing goes on after it."""
        self._ended = True
        for child in list(self._children):
            child.terminate()
        for busy in list(self._busy):
            busy.terminate()
        for forks in self._idle:
            forks.close()


def last_words(log: str) -> str:
    """Return the line that says why: an error of ours, else the last one raised; empty without."""
    lines = [line.rpartition("\r")[2].strip() for line in log.splitlines()]
    lines = [line for line in lines if line]
    if errors := [line.partition(_ERROR)[2] for line in lines if line.startswith(_ERROR)]:
        return errors[-1]
    raised = [line for line in lines if _RAISED.match(line)]
    return str(without_credentials(raised[-1]))[:300] if raised else ""
