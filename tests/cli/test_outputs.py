"""Every command that writes: what it may replace, and what is left when writing fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from faults import full_disk, tree
from judged_runs import make_verdict
from writing_commands import FILES, FOLDERS, prepare, prepare_gold, run

from eft_eval.errors import ConfigError
from eft_eval.verdicts.store import VerdictStore

quick = [name for name in FILES if name != "trace"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    work = tmp_path / "work" / "place"
    work.mkdir(parents=True)
    monkeypatch.chdir(work)
    prepare(work)
    return work


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    VerdictStore(tmp_path / "verdicts.sqlite3").put(make_verdict(1.0))


@pytest.fixture
def gold(folder: Path) -> None:
    prepare_gold()


def refused(done: Any, words: str) -> None:
    assert isinstance(done.exception, ConfigError), (done.output, done.exception)
    assert words in str(done.exception)
    assert "\n" not in str(done.exception)


def written(arguments: Sequence[str], name: str) -> Path:
    """Return where a file command writes when it is given a name."""
    return Path(next(one for one in arguments if "OUT" in one).split("=")[-1].replace("OUT", name))


# --- what lies there already


@pytest.mark.usefixtures("store", "gold")
@pytest.mark.parametrize("command", FILES)
def test_a_file_replaces_its_own_kind_only(command: str, folder: Path) -> None:
    arguments = FILES[command]
    assert run(arguments, "first").exit_code == 0
    once = written(arguments, "first")
    text = once.read_bytes()
    again = run(arguments, "first")  # its own earlier output
    assert again.exit_code == 0, again.output
    assert once.read_bytes()[:40] == text[:40]
    once.write_bytes(b"")
    assert run(arguments, "first").exit_code == 0  # an empty file holds nothing
    assert once.stat().st_size
    for content in (b"work of weeks", b'{"format": "mine"}', b"[]", b"\xff\xfe\x00", b"[" * 9999):
        once.write_bytes(content)
        before = tree(folder.parent)
        refused(run(arguments, "first"), " exists and ")
        assert tree(folder.parent) == before


@pytest.mark.usefixtures("store", "gold")
@pytest.mark.parametrize("command", FILES)
def test_a_file_takes_no_folders_place(command: str, folder: Path) -> None:
    arguments = FILES[command]
    suffix = written(arguments, "x").suffix
    (folder / f"full{suffix}").mkdir()
    (folder / f"full{suffix}" / "thesis.tex").write_text("work of years")
    (folder / f"link{suffix}").symlink_to(folder / f"full{suffix}")
    names = ["full", "link", *([] if suffix else ["full/", ".", "..", str(folder)])]
    for name in names:
        before = tree(folder.parent)
        refused(run(arguments, name), " is a folder")
        assert tree(folder.parent) == before
    refused(run(arguments, "nowhere/file"), "there is no folder nowhere")
    assert not Path("nowhere").exists()


@pytest.mark.usefixtures("store", "gold")
@pytest.mark.parametrize("command", quick)
def test_links_are_followed(command: str, folder: Path) -> None:
    arguments = FILES[command]
    suffix = written(arguments, "x").suffix
    target, link = folder / f"target{suffix}", folder / f"link{suffix}"
    link.symlink_to(target)
    assert run(arguments, "link").exit_code == 0
    assert link.is_symlink()
    assert target.stat().st_size
    target.write_text("work of weeks")
    refused(run(arguments, "link"), " exists and ")
    assert target.read_text() == "work of weeks"


@pytest.mark.parametrize("command", FOLDERS)
def test_a_folder_is_new(command: str, folder: Path) -> None:
    (folder / "full").mkdir()
    (folder / "full" / "models").mkdir()
    (folder / "full" / "models" / "thesis.tex").write_text("work of years")
    (folder / "link").symlink_to(folder / "full")
    Path("file").write_text("work of weeks")
    for name in ("full", "full/", "link", ".", "..", str(folder), "file", "full/../full"):
        before = tree(folder.parent)
        done = run(FOLDERS[command], name)
        assert isinstance(done.exception, ConfigError), (done.output, done.exception)
        assert str(done.exception).startswith((name, "--out", str(Path(name))))
        assert tree(folder.parent) == before


def test_exported_folders_add_and_replace_nothing_else(folder: Path) -> None:
    card = ["export", "run", "--format", "model-card", "--repo", "me/x", "--out", "OUT"]
    (folder / "card" / "README.md").mkdir(parents=True)
    (folder / "card" / "README.md" / "thesis.tex").write_text("work of years")
    before = tree(folder)
    refused(run(card, "card"), "README.md")
    refused(run([*card, "--overwrite"], "card"), "a folder has that name")
    assert tree(folder) == before
    (folder / "other").mkdir()
    (folder / "other" / "notes.txt").write_text("mine")
    assert run(card, "other").exit_code == 0
    assert (folder / "other" / "notes.txt").read_text() == "mine"


def test_dropped_rows_replace_dropped_rows_only(folder: Path) -> None:
    arguments = FILES["labels import csv"]
    Path("x.dropped.csv").write_text("mine")
    refused(run(arguments, "x"), "x.dropped.csv exists and is no file of dropped rows")
    assert Path("x.dropped.csv").read_text() == "mine"
    assert not Path("x.csv").exists()


@pytest.mark.parametrize("command", quick[:9])
@pytest.mark.usefixtures("store")
def test_a_pipe_is_written_into(command: str, folder: Path) -> None:
    os.mkfifo("pipe")
    found: list[str] = []
    pipe = (folder / "pipe").absolute()
    reader = threading.Thread(target=lambda: found.append(pipe.read_text("utf-8")), daemon=True)
    reader.start()
    assert run(FILES[command], "pipe").exit_code == 0
    reader.join(30)
    assert found[0]
    assert not Path("pipe").is_file()


# --- what is left when writing fails


@pytest.mark.usefixtures("store", "gold")
@pytest.mark.parametrize("command", [*quick, *list(FOLDERS)[:4]])
def test_a_full_disk_is_one_line_and_leaves_what_was(command: str, folder: Path) -> None:
    arguments = FILES.get(command) or FOLDERS[command]
    if command in FILES:
        assert run(arguments, "out").exit_code == 0
    before = tree(folder)
    with full_disk(10):
        refused(run(arguments, "out"), "cannot ")
    assert tree(folder) == before


KILLED = """
import os, pathlib, signal, sys
os.replace = pathlib.Path.rename = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
sys.argv[0] = "eft-eval"
from eft_eval.cli import main
main()
"""


@pytest.mark.slow
@pytest.mark.usefixtures("store", "gold")
@pytest.mark.parametrize("command", [*FILES, *list(FOLDERS)[:4]])
def test_a_kill_leaves_the_old_or_nothing(command: str, folder: Path) -> None:
    arguments = FILES.get(command) or FOLDERS[command]
    if command in FILES:
        assert run(arguments, "out").exit_code == 0
    before = tree(folder)
    words = [one.replace("OUT", "out") for one in arguments]
    done = subprocess.run([sys.executable, "-c", KILLED, *words], capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    left = {name: what for name, what in tree(folder).items() if ".part" not in name}
    assert left == before
    assert run(arguments, "out").exit_code == 0


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("command", [*list(FILES), *FOLDERS])
def test_a_write_protected_folder_is_one_line_before_work(
    command: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = FILES.get(command) or FOLDERS[command]
    Path("locked").mkdir(0o555)
    real = os.access
    monkeypatch.setattr(  # root may write everywhere
        os, "access", lambda path, mode: "locked" not in str(path) and real(path, mode)
    )
    refused(run(arguments, "locked/out"), "write-protected")
    assert not list(Path("locked").iterdir())
