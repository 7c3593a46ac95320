"""Two builds of eft-eval, each in a process of its own, which do the same jobs in turn.

The rival is a wheel, unpacked into a folder; all else that it imports is that of this interpreter.
A benchmark's module answers jobs (`serve`) and must get on with both builds.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["alternating", "builds", "medians", "serve"]

_ROOT = Path(__file__).resolve().parents[1]
Job = Mapping[str, Any]
Answer = dict[str, Any]


class Build:
    """A process that answers jobs with one build.

    Args:
        module: What it runs, of this folder.
        package: Folder that holds ``eft_eval``.
        threads: Of torch.
    """

    def __init__(self, module: str, package: Path, threads: int) -> None:
        paths = os.pathsep.join(dict.fromkeys((str(package), str(_ROOT))))
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, "--serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=package,
            env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": str(threads)},
        )
        where = self.ask({})["eft_eval"]
        if Path(where).resolve().parents[1] != package.resolve():
            raise SystemExit(f"{package} was to be measured, and {where} was imported")

    def ask(self, job: Job) -> Answer:
        """Return what the process answers."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(job), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("a build's process ended: its error stands above")
        answer: Answer = json.loads(line)
        return answer

    def end(self) -> None:
        """Let the process end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


@contextlib.contextmanager
def builds(
    module: str, wheel: Path | None, folder: Path, threads: int = 1
) -> Iterator[dict[str, Build]]:
    """Start this build and, where a wheel is given, the rival's; their processes end with it."""
    packages = {"this": _ROOT}
    if wheel is not None:
        packages["rival"] = folder / "rival"
        with zipfile.ZipFile(wheel) as packed:
            packed.extractall(packages["rival"])
    started: dict[str, Build] = {}
    try:
        for name, package in packages.items():
            started[name] = Build(module, package, threads)
        yield started
    finally:
        for build in started.values():
            build.end()


def alternating(
    contestants: Mapping[str, Build], job: Job, repeats: int
) -> dict[str, list[Answer]]:
    """Give every build a job once for warmth, then ``repeats`` times in turn."""
    for build in contestants.values():
        build.ask(job)
    rounds = [{name: one.ask(job) for name, one in contestants.items()} for _ in range(repeats)]
    return {name: [one[name] for one in rounds] for name in contestants}


def medians(answers: Sequence[Answer], *names: str) -> list[float]:
    """Return the median of each of some numbers."""
    return [statistics.median(float(one[name]) for one in answers) for name in names]


def serve(handle: Callable[[Job], Answer]) -> None:
    """Answer the jobs that come on standard input, one JSON object a line; the body of a build."""
    import eft_eval

    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    for line in sys.stdin:
        job = json.loads(line)
        answer = handle(job) if job else {"eft_eval": eft_eval.__file__}
        print(json.dumps(answer), file=out, flush=True)
