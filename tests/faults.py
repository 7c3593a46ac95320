"""Faults for commands that write (a full disk, a kill), and what lies in a folder after them."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest


def tree(folder: Path) -> dict[str, Any]:
    """Return all that lies in a folder: links as links, files with their content."""
    return {str(path.relative_to(folder)): _content(path) for path in folder.rglob("*")}


def _content(path: Path) -> Any:
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        return os.readlink(path)
    return path.read_bytes() if stat.S_ISREG(mode) else None


@contextlib.contextmanager
def full_disk(size: int) -> Iterator[None]:
    """Let no file grow beyond some bytes, as a full disk or a quota does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextlib.contextmanager
def small_disk(folder: Path, size: int) -> Iterator[None]:
    """Lay a disk of some bytes of its own over an empty folder.

    Skips the test where this process may mount nothing.
    """
    options = ["-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
    if (
        sys.platform != "linux"
        or subprocess.run(["mount", *options], capture_output=True).returncode
    ):
        pytest.skip("nothing can be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def make_read_only(folder: Path) -> None:
    """Let nobody write to a `small_disk` any more, root included."""
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)


def fill(folder: Path, room: int) -> Path:
    """Leave some bytes free on a disk; return the file that takes up the rest."""
    ballast = folder / "ballast"
    free = os.statvfs(folder)
    ballast.write_bytes(b"x" * (free.f_bavail * free.f_bsize - room))
    return ballast


def killed_at(step: int, folder: Path, act: Callable[[], object]) -> bool:
    """Act in a fork that is killed at a step; return whether there were that many.

    Steps are what changes a folder: files opened to write, renamed, linked and removed, folders
    made, and statements that SQLite begins.
    """
    child = os.fork()
    if not child:
        with contextlib.suppress(BaseException):
            signal.alarm(60)  # a library's threads are not in a fork, and may be waited for
            count_down(step, str(folder))
            act()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return _is_killed(os.waitstatus_to_exitcode(status))


def command_killed_at(step: int, folder: Path, arguments: Sequence[str]) -> bool:
    """Run eft-eval as `killed_at` does, in a process of its own; for libraries with threads."""
    code = (
        "import sys; from faults import count_down; from eft_eval.cli import main; "
        f"count_down({step}, {str(folder)!r}); sys.argv[0] = 'eft-eval'; main()"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    call = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(call, cwd=folder, env=environment, capture_output=True)
    return _is_killed(done.returncode)


def _is_killed(code: int) -> bool:
    assert code in (0, -signal.SIGKILL)
    return code != 0


_STEPS = {"os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}


def count_down(steps: int, folder: str) -> None:
    """Let this process be killed after some steps."""
    left = steps

    def step() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def see(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            written = isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
            if written and str(arguments[0]).startswith(folder):
                step()
        elif event in _STEPS:
            step()

    connect = sqlite3.connect

    def traced(*given: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(*given, **options)
        connection.set_trace_callback(lambda said: None if said.startswith("--") else step())
        return connection

    sqlite3.connect = traced  # type: ignore[assignment]
    sys.addaudithook(see)
