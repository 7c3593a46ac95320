"""Runs that import the libraries once: each is a fork of a process that has imported them.

A run has its own output, exit code and life, as a process of its own has; only the imports happened
before, which are most of a small run's time. As a program this is the process that forks.
"""

from __future__ import annotations

import contextlib
import gc
import glob
import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

__all__ = ["Forks", "can_fork"]

# no module of ours: some look at their import who runs them
_LIBRARIES = (
    "datasets", "lm_eval.evaluator", "lm_eval.models.huggingface", "openai", "scipy.stats",
    "torch._dynamo", "torch.distributed.tensor", "transformers.modeling_utils",
)  # fmt: skip
_ACCELERATORS = ("nvidia*", "kfd", "dri", "dxg", "accel*", "davinci*")
_READY = "ready\n"
_PATIENCE = 10.0  # seconds for a process that has nothing to do to end by itself


def can_fork() -> bool:
    """Whether runs may be forks: on Linux, where no accelerator's driver can be lost by it."""
    return sys.platform == "linux" and not any(glob.glob(f"/dev/{one}") for one in _ACCELERATORS)


class Forks:
    """Makes runs one after the other, as forks of a process that it starts.

    Args:
        environment: Variables of all runs.
        lock: A file that they inherit; None: none.
    """

    def __init__(self, environment: Mapping[str, str], lock: int | None) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "eft_eval.study.forks"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            pass_fds=() if lock is None else (lock,),
            text=True,
        )

    def run(self, words: Sequence[str], log: Path) -> int | None:
        """Run ``python -m MODULE …`` as a fork.

        Args:
            words: The module and its arguments.
            log: The file that its output is appended to.

        Returns:
            The exit code; None where there is no process to fork, so that nothing was run.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if self._process.stdout.readline() != _READY:
            return None
        try:
            self._process.stdin.write(json.dumps([str(log.absolute()), *words]) + "\n")
            self._process.stdin.flush()
        except OSError:
            return None
        ended = self._process.stdout.readline()
        return int(ended) if ended else -signal.SIGKILL

    def terminate(self) -> None:
        """End the process, and the run that it is making."""
        self._process.terminate()

    def close(self) -> None:
        """End the process, which is making no run; what its runs left behind is not waited for."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


def _serve() -> None:
    """Fork for every line of standard input, and say how that ended."""
    # a terminal's interrupt is the study's, which ends this process
    interrupted = signal.signal(signal.SIGINT, signal.SIG_IGN)
    told = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    from eft_eval import hook

    hook.install()
    for name in _LIBRARIES:
        with contextlib.suppress(ImportError):  # the run says what is missing
            importlib.import_module(name)
    gc.freeze()  # what has been imported is nothing that a run could collect
    told.write(_READY)
    told.flush()
    for line in sys.stdin:
        log, *words = json.loads(line)
        child = os.fork()
        if child == 0:
            told.close()  # or whoever listens would wait for what the run leaves behind
            signal.signal(signal.SIGINT, interrupted)
            _become(log, words)
        signal.signal(signal.SIGTERM, _ending(child))
        _, status = os.waitpid(child, 0)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        told.write(f"{os.waitstatus_to_exitcode(status)}\n{_READY}")
        told.flush()


def _ending(child: int) -> Callable[[int, FrameType | None], NoReturn]:
    def end(number: int, frame: FrameType | None) -> NoReturn:
        os.kill(child, signal.SIGTERM)
        sys.exit(-number)

    return end


def _become(log: str, words: Sequence[str]) -> NoReturn:
    """Be the module that is named, as if this process had been started with it."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.argv = [*words]
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    sys.exit()


if __name__ == "__main__":
    _serve()
