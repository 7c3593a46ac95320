"""Runs that are forks of a process with the libraries: as processes of their own are."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from eft_eval.study.forks import Forks

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="forks are of Linux"),
]
MODULE = """
import os, signal, sys, time
seen = sys.modules.keys() >= {"torch", "lm_eval"}
print("out", sys.argv[1:], seen, sys.stdin.read() == "", os.environ["WHOSE"], flush=True)
print("err", file=sys.stderr)
ignored = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
assert ignored == (os.environ["IGNORED"] == "True"), "as of this process: nohup, a shell's &"
if sys.argv[1] == "stays":
    open("here", "w").write(str(os.getpid()))
    time.sleep(600)
if sys.argv[1] == "leaves" and os.fork() == 0:
    open("left", "w").write(str(os.getpid()))
    time.sleep(600)
if sys.argv[1] in ("leaves", "is stubborn"):
    while not os.path.exists("left"):
        time.sleep(0.05)
if sys.argv[1] == "leaves":
    sys.exit()
if sys.argv[1] == "is stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    open("stubborn", "w").write(str(os.getpid()))
    time.sleep(600)
if sys.argv[1] == "raises":
    raise ValueError("said")
if sys.argv[1] == "is killed":
    os.kill(os.getpid(), signal.SIGKILL)
sys.exit(int(sys.argv[1]))
"""


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    (tmp_path / "made_for_forks.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    ignored = str(signal.getsignal(signal.SIGINT) == signal.SIG_IGN)
    ours = {"PYTHONPATH": str(tmp_path), "WHOSE": "ours", "IGNORED": ignored}
    return {**os.environ, **ours, "OMP_NUM_THREADS": "1"}


def test_a_fork_is_as_a_process_of_its_own(tmp_path: Path, environment: dict[str, str]) -> None:
    forks = Forks(environment, None)
    log = tmp_path / "log"
    codes = {"0": 0, "7": 7, "raises": 1, "is killed": -signal.SIGKILL, "3": 3}
    for word, code in codes.items():
        log.unlink(missing_ok=True)
        assert forks.run(["made_for_forks", word], log) == code
        said = log.read_text()
        assert f"out ['{word}'] True True ours" in said
        assert "err" in said
        assert ("ValueError: said" in said) == (word == "raises")
    forks.run(["made_for_forks", "0"], log)
    assert log.read_text().count("out") == 2, "what was there stays"
    waiting = threading.Thread(target=forks.run, args=(["made_for_forks", "stays"], log))
    waiting.start()
    here = tmp_path / "here"
    while waiting.is_alive() and not (here.exists() and here.read_text()):
        time.sleep(0.05)
    forks.terminate()
    waiting.join()
    forks.close()
    child = int(here.read_text())
    while is_alive(child):
        time.sleep(0.05)


def test_what_a_run_leaves_behind_is_not_waited_for(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    forks = Forks(environment, None)
    log = tmp_path / "log"
    assert forks.run(["made_for_forks", "leaves"], log) == 0
    closing = threading.Thread(target=forks.close)
    closing.start()
    forks = Forks(environment, None)
    codes: list[int | None] = []
    waiting = threading.Thread(
        target=lambda: codes.append(forks.run(["made_for_forks", "is stubborn"], log))
    )
    waiting.start()
    stubborn = tmp_path / "stubborn"
    while waiting.is_alive() and not (stubborn.exists() and stubborn.read_text()):
        time.sleep(0.05)
    forks.terminate()
    waiting.join(120)
    closing.join(120)
    for file in (tmp_path / "left", stubborn):
        assert is_alive(int(file.read_text()))
        os.kill(int(file.read_text()), signal.SIGKILL)
    assert not waiting.is_alive()
    assert not closing.is_alive()
    assert codes == [-signal.SIGKILL]
    forks.close()


def is_alive(number: int) -> bool:
    try:
        return ") Z" not in Path(f"/proc/{number}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_nothing_is_run_where_there_is_nothing_to_fork(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    forks = Forks(environment, None)
    forks.terminate()
    assert forks.run(["made_for_forks", "0"], tmp_path / "log") is None
    assert not (tmp_path / "log").exists()
    forks.close()
