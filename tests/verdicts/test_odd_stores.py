"""What lies where a store is named and is none: one line before anything is paid, and no change."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from faults import tree
from judged_runs import counted, make_verdict, write_judged_run
from typer.testing import CliRunner

from eft_eval.cli.app import app
from eft_eval.errors import ConfigError
from eft_eval.judging import VerdictStore

STORE = Path("place") / "store"


def database(*statements: str, path: Path = STORE) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def unfinished_business() -> None:
    """Another program's database, with rows in its journal that SQLite would move on opening."""
    child = os.fork()
    if not child:
        connection = sqlite3.connect(STORE)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE theirs (a)")
        connection.execute("PRAGMA wal_checkpoint")
        connection.execute("INSERT INTO theirs VALUES (1)")
        connection.commit()
        os._exit(0)
    os.waitpid(child, 0)
    assert STORE.with_name("store-wal").stat().st_size


def cut() -> None:
    """A store of which a copy broke off."""
    store = VerdictStore(STORE)
    store.put(make_verdict(1.0))
    STORE.write_bytes(STORE.read_bytes()[:9000])


def without_store() -> None:
    """A store that was deleted without its journal."""
    STORE.with_name("store-wal").write_bytes(b"the newest verdicts")


ODD: dict[str, tuple[Callable[[], Any], str]] = {
    "folder": (STORE.mkdir, "unable to open database file"),
    "text": (lambda: STORE.write_text("work of weeks\n" * 99), "file is not a database"),
    "short text": (lambda: STORE.write_text("x"), "file is not a database"),
    "empty": (STORE.touch, "is an empty file"),
    "theirs": (lambda: database("CREATE TABLE theirs (a)"), "another program's database"),
    "their verdicts": (
        lambda: database("CREATE TABLE verdicts (id)", "CREATE TABLE facts (a)"),
        "another program's database",
    ),
    "their journal": (unfinished_business, "another program's database"),
    "later": (
        lambda: database(
            "CREATE TABLE verdicts (key TEXT PRIMARY KEY, record TEXT)", "PRAGMA user_version=99"
        ),
        "the layout 99 of a later eft-eval",
    ),
    "cut": (cut, "malformed"),
    "dangling link": (lambda: STORE.symlink_to("unmounted/store"), "which is not there"),
    "link in a circle": (lambda: STORE.symlink_to("store"), "which is not there"),
    "no store": (without_store, "holds its newest verdicts"),
    "pipe": (lambda: os.mkfifo(STORE), "it is a device or a pipe"),
}
COMMANDS = {
    "judge": ["judge", "RUN", "--judge", "judge"],
    "dry run": ["judge", "RUN", "--judge", "judge", "--dry-run"],
    "submit": ["judge", "RUN", "--judge", "judge", "--batch", "submit"],
    "status": ["judge", "RUN", "--judge", "judge", "--batch", "status"],
    "collect": ["judge", "RUN", "--judge", "judge", "--batch", "collect"],
    "forget": ["judge", "RUN", "batch_1", "--judge", "judge", "--batch", "forget"],
    "list": ["verdicts", "list"],
    "export": ["verdicts", "export", "out.jsonl"],
    "reparse": ["verdicts", "reparse"],
    "reparse --write": ["verdicts", "reparse", "--write"],
    "import": ["verdicts", "import", "in.jsonl"],
    "prune": ["verdicts", "prune", "--judge", "m"],
    "prune --yes": ["verdicts", "prune", "--judge", "m", "--yes"],
}


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "work"
    (folder / "place").mkdir(parents=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("EFT_VERDICT_STORE", str(STORE))
    write_judged_run(folder / "run", counted([0, 1]))
    spare = VerdictStore(tmp_path / "spare")
    spare.put(make_verdict(1.0))
    exported = ["verdicts", "export", "in.jsonl", "--store", str(spare.path)]
    assert CliRunner().invoke(app, exported).exit_code == 0
    return folder


def call(command: str) -> Any:
    return CliRunner().invoke(app, [one.replace("RUN", "run") for one in COMMANDS[command]])


@pytest.mark.parametrize("kind", ODD)
def test_what_is_no_store_is_one_line_and_stays(
    kind: str, work: Path, openai_server: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    make, words = ODD[kind]
    make()
    server = openai_server(lambda *_: "Score: 0", models=["judge"])
    monkeypatch.setenv("EFT_JUDGE_BASE_URL", server.url)
    for command in COMMANDS:
        before = tree(work)
        done = call(command)
        assert isinstance(done.exception, ConfigError), (command, done.output, done.exception)
        said = str(done.exception)
        absent = f"there is no verdict store {STORE} "
        assert words in said or (command not in ("judge", "import") and absent in said), command
        assert str(STORE) in said, command
        assert "\n" not in said, command
        after = tree(work)
        if kind == "cut":  # SQLite's own files beside it
            after, before = (
                {name: one for name, one in found.items() if not name.startswith("place/store-")}
                for found in (after, before)
            )
        assert after == before, command
    assert server.chats == []


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "import"])
def test_nothing_is_made_by_looking(
    command: str, work: Path, openai_server: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a store, only what stores verdicts makes one; what looks changes none of an old."""
    server = openai_server(lambda *_: "Score: 0", models=["judge"])
    monkeypatch.setenv("EFT_JUDGE_BASE_URL", server.url)
    writes = command in ("judge", "submit", "status", "collect", "forget")
    before = tree(work)
    call(command)
    assert (tree(work) == before) is not writes
    if writes or "-" in command:
        return
    database("CREATE TABLE verdicts (key TEXT PRIMARY KEY NOT NULL, record TEXT NOT NULL)")
    database("PRAGMA user_version=1")
    before = tree(work)
    done = call(command)
    assert done.exit_code == 0, done.output
    Path("out.jsonl").unlink(missing_ok=True)
    assert tree(work) == before


def test_a_store_is_made_whole_or_not_at_all(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also a process that ends while it makes one leaves nothing that the next would refuse."""
    monkeypatch.setattr(os, "link", lambda *_: os._exit(9))
    child = os.fork()
    if not child:
        VerdictStore(STORE)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert not STORE.exists()
    monkeypatch.undo()
    VerdictStore(work / STORE).put(make_verdict(1.0))
    (work / "place" / "link").symlink_to("store")
    assert len(VerdictStore(work / "place" / "link")) == 1


def test_where_there_are_no_links_a_store_is_made_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", none)
    VerdictStore(STORE).put(make_verdict(1.0))
    assert len(VerdictStore(STORE)) == 1
    assert [one.name for one in STORE.parent.iterdir()] == [STORE.name]
