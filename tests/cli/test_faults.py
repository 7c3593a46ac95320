"""Every command that writes, on a disk that fills up, killed at any step, and at a locked store.

What was there stays, or what is new is whole; one line says what failed; the same command ends
right afterwards.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from faults import command_killed_at, fill, full_disk, killed_at, make_read_only, small_disk, tree
from writing_commands import (
    EXPORTS,
    FILES,
    FOLDERS,
    RUNS,
    STORE,
    STORED,
    STORES,
    prepare,
    prepare_gold,
    prepare_judging,
    run,
)

from eft_eval.errors import EftEvalError
from eft_eval.runs.saved import open_run
from eft_eval.verdicts import store as store_module
from eft_eval.verdicts.store import VerdictStore

COMMANDS = {
    **{name: one for name, one in FILES.items() if name != "trace"},
    **{name: one for name, one in FOLDERS.items() if name != "demo train"},
    **EXPORTS,
    **RUNS,
    **STORES,
}
QUICK = ("export eee", "judge", "verdicts import")
THREADED = ("report", "export parquet", "export documents")  # their libraries start threads
ROOMS = (0, 4096, 12288, 32768)  # a disk's blocks have 4096 bytes


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which every command can run, and a copy to begin anew with."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("EFT_VERDICT_STORE", str(STORE))
    prepare(folder)
    prepare_gold()
    prepare_judging()
    shutil.copytree(folder, tmp_path / "kept")
    return folder


def anew(work: Path) -> None:
    """Make the folder what it was."""
    for one in work.iterdir():
        shutil.rmtree(one) if one.is_dir() else one.unlink()
    shutil.copytree(work.parent / "kept", work, dirs_exist_ok=True)


def lying(work: Path) -> dict[str, Any]:
    """What lies there: of the store what it says; no date, and nothing that the commands hide."""
    return {
        name: re.sub(rb"\d", b"0", what) if isinstance(what, bytes) else what
        for name, what in tree(work).items()
        if "/." not in f"/{name}" and not name.startswith((str(STORE), "ballast"))
    } | {"store": says(work / STORE)}


def says(store: Path) -> dict[str, float | None]:
    with contextlib.closing(sqlite3.connect(store)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    return {one.key: one.value for one in VerdictStore(store)}


def undated(name: str) -> str:
    return re.sub(r"\d", "0", name)


def judge_s_own(store: dict[str, Any]) -> dict[str, Any]:
    """Without what judging added, which is never lost."""
    return {key: value for key, value in store.items() if key.startswith(("old", "new"))}


def check_half(command: str, work: Path, before: dict[str, Any], whole: dict[str, Any]) -> None:
    """Check that each file is as it was, or whole."""
    found = lying(work)
    store = found.pop("store")
    if command.startswith("judge"):
        assert judge_s_own(store) == before["store"]
    else:
        assert store in (before["store"], whole["store"])
    fits: dict[str, list[Any]] = {}
    for name, what in [*before.items(), *whole.items()]:
        fits.setdefault(undated(name), []).append(what)
    for name, what in found.items():
        assert what in fits.get(undated(name), []), f"{name} is neither old nor whole"
    assert before.keys() <= {*found, "store"}
    if command in RUNS:
        open_run(work / "judged")


def expected(command: str, work: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what lies there before and after the command; and begin anew."""
    before = lying(work)
    done = run(COMMANDS[command], "out")
    assert done.exit_code == 0, (done.output, done.exception)
    whole = lying(work)
    assert whole != before
    anew(work)
    return before, whole


def failed(done: Any) -> bool:
    """Return whether a command failed; check that it says so in one line."""
    if done.exception is None:
        return False
    if isinstance(done.exception, SystemExit):
        assert done.exception.code == 3, done.output
    else:
        assert isinstance(done.exception, EftEvalError), repr(done.exception)
        assert str(done.exception)
        assert "\n" not in str(done.exception)
    return True


def again(command: str, work: Path, before: dict[str, Any], whole: dict[str, Any]) -> None:
    """Check that the same command ends right now, where it has not done so already."""
    if command in FOLDERS and lying(work).keys() == whole.keys():
        return  # a new folder is made once
    done = run(COMMANDS[command], "out")
    assert done.exit_code == 0, (done.output, done.exception)
    check_half(command, work, before, whole)
    found = lying(work)
    assert found["store"] == whole["store"]
    assert set(map(undated, whole)) <= set(map(undated, found))


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("limit", [10, 700, 5000])
def test_no_file_grows(command: str, limit: int, work: Path) -> None:
    before, whole = expected(command, work)
    with full_disk(limit):
        done = run(COMMANDS[command], "out")
    failed(done)
    check_half(command, work, before, whole)
    again(command, work, before, whole)


@pytest.mark.parametrize(
    "command",
    [one if one in QUICK else pytest.param(one, marks=pytest.mark.slow) for one in COMMANDS],
)
def test_a_disk_fills_up(command: str, work: Path) -> None:
    before, whole = expected(command, work)
    fell = 0
    with small_disk(work, 4 * 2**20):
        os.chdir(work)
        for room in ROOMS:
            anew(work)
            ballast = fill(work, room)
            fell += failed(run(COMMANDS[command], "out"))
            ballast.unlink()
            check_half(command, work, before, whole)
            again(command, work, before, whole)
        assert fell
        os.chdir(work.parent)


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_disk_that_can_only_be_read(command: str, work: Path) -> None:
    with small_disk(work, 4 * 2**20):
        os.chdir(work)
        anew(work)
        make_read_only(work)
        before = tree(work)
        assert failed(run(COMMANDS[command], "out"))
        assert tree(work) == before
        os.chdir(work.parent)


def kill(step: int, command: str, work: Path) -> bool:
    if command in THREADED:
        words = [one.replace("OUT", "out") for one in COMMANDS[command]]
        return command_killed_at(step, work, words)
    return killed_at(step, work, lambda: run(COMMANDS[command], "out"))


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_kill_at_any_step(command: str, work: Path) -> None:
    before, whole = expected(command, work)
    step = 0
    while kill(step, command, work):
        check_half(command, work, before, whole)
        again(command, work, before, whole)
        anew(work)
        step += 1 if step < 30 else 17  # a store's rows are many and alike
    assert step > 1


WRITES = [*STORES, "judge", "judge panel", "judge pairwise"]


@pytest.mark.parametrize("command", WRITES)
def test_a_locked_store(command: str, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "_BUSY_SECONDS", 0.2)
    before, whole = expected(command, work)
    lock = sqlite3.connect(STORE, isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    done = run(COMMANDS[command], "out")
    lock.close()
    assert failed(done)
    assert "database is locked" in str(done.exception)
    assert lying(work) == before
    again(command, work, before, whole)


@pytest.mark.parametrize("command", ["verdicts export", "verdicts list"])
def test_a_locked_store_can_be_read(command: str, work: Path) -> None:
    lock = sqlite3.connect(STORE, isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    done = run(FILES.get(command) or command.split(), "out")
    lock.close()
    assert done.exit_code == 0
    assert str(STORED) in done.output
