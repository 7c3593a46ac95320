"""Making the runs of a study, each a process of its own, and going on where one was stopped."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Literal, NamedTuple

from eft_eval.secrets import without_credentials
from eft_eval.study.folder import StudyFolder
from eft_eval.study.plan import ArmRun

__all__ = ["Outcome", "Settings", "run_arms"]

_LACKS_VERDICTS = 3  # exit code of `eft-eval run`
_ERROR = "eft-eval: error: "


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
    children: set[subprocess.Popen[bytes]] = set()
    waiting = list(runs)
    going: set[Future[Outcome]] = set()
    with ThreadPoolExecutor(settings.jobs) as pool:
        try:
            while waiting or going:
                while waiting and len(going) < settings.jobs:
                    going.add(pool.submit(_run, folder, waiting.pop(0), settings, children))
                finished, going = wait(going, return_when=FIRST_COMPLETED)
                for one in finished:
                    yield one.result()
        finally:
            for child in list(children):
                child.terminate()


def _run(
    folder: StudyFolder, run: ArmRun, settings: Settings, children: set[subprocess.Popen[bytes]]
) -> Outcome:
    started = time.monotonic()
    place = folder.place(run)
    place.mkdir(parents=True, exist_ok=True)
    with (place / "log.txt").open("ab") as log:
        before = log.tell()
        child = subprocess.Popen(
            folder.plan.command(run, place, folder.responses(run)),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **settings.environment},
            pass_fds=() if settings.lock is None else (settings.lock,),
        )
        children.add(child)
        code = child.wait()
        children.discard(child)
    seconds = time.monotonic() - started
    if code == 0:
        folder.finish(run, seconds)
        return Outcome(run, "done", seconds, "")
    said = _last_words((place / "log.txt").read_bytes()[before:].decode("utf-8", "replace"))
    if code == _LACKS_VERDICTS:
        return Outcome(run, "lacks verdicts", seconds, said)
    return Outcome(run, "failed", seconds, said or f"exit code {code}")


def _last_words(log: str) -> str:
    """Return the line that says why, else the last one."""
    lines = [line.rpartition("\r")[2].strip() for line in log.splitlines()]
    lines = [line for line in lines if line]
    errors = [line.partition(_ERROR)[2] for line in lines if line.startswith(_ERROR)]
    if errors:
        return errors[-1]
    return without_credentials(lines[-1][:300]) if lines else ""
