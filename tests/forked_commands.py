"""Many runs of installed commands that import the libraries once: each is a fork of one process.

A run has its own folder, environment, output and exit code, as a process of its own has; only what
the libraries do at their import happened before.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

SERVER = """\
import json, os, runpy, sys
import datasets, lm_eval.evaluator, lm_eval.models.huggingface, openai

for line in sys.stdin:
    given = json.loads(line)
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number, name in ((1, given["out"]), (2, given["err"])):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
        os.chdir(given["folder"])
        os.environ.clear()
        os.environ.update(given["environ"])
        program, *sys.argv = given["command"]
        if program == "-m":
            runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        else:
            sys.argv.insert(0, program)
            runpy.run_path(program, run_name="__main__")
        sys.exit()
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


class Forked(NamedTuple):
    """What a run left."""

    code: int
    out: str
    err: str


class Commands:
    """Runs the programs and modules of one Python, each in a fork."""

    def __init__(self, python: str, folder: Path, environ: Mapping[str, str]) -> None:
        self._outputs = [folder / "forked.out", folder / "forked.err"]
        self._server = subprocess.Popen(
            [python, "-c", SERVER],
            cwd=folder,
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, command: Sequence[str], folder: Path, environ: Mapping[str, str]) -> Forked:
        """Run a program's file or, beginning with -m, a module."""
        out, err = self._outputs
        given = {"command": command, "folder": str(folder), "environ": environ}
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps({**given, "out": str(out), "err": str(err)}) + "\n")
        self._server.stdin.flush()
        code = int(self._server.stdout.readline())
        return Forked(code, out.read_text("utf-8"), err.read_text("utf-8"))

    def close(self) -> None:
        """End the process that forks."""
        self._server.communicate()
