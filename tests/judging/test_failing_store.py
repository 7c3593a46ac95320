"""A store that fails while a judge is being asked: what was paid is kept, what is said is true."""

from __future__ import annotations

import json
import logging
import resource
import sqlite3
from pathlib import Path

import pytest
from judged_runs import counted, write_judged_run
from judging_helpers import PROMPT, Start, items, score, settings, shown
from typer.testing import CliRunner

from eft_eval.cli.app import app
from eft_eval.errors import ConfigError
from eft_eval.judging import Status, Verdict, VerdictStore, judge_responses
from eft_eval.verdicts import store as store_module
from eft_eval.verdicts.leases import Claims
from eft_eval.verdicts.writer import Keeper

MANY = [f"response {number} " + "wrong " * (number % 4) for number in range(80)]


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Locks are waited for a moment, not a minute."""
    monkeypatch.setattr(store_module, "_BUSY_SECONDS", 0.3)


def lock(store: VerdictStore) -> sqlite3.Connection:
    connection = sqlite3.connect(store.path, isolation_level=None, check_same_thread=False)
    connection.execute("BEGIN IMMEDIATE")
    return connection


def rescued(folder: Path) -> list[Verdict]:
    (file,) = folder.glob("verdicts-not-stored-*.jsonl")
    return [Verdict.from_dict(json.loads(line)) for line in file.read_text("utf-8").splitlines()]


def test_a_full_disk_loses_no_paid_verdict(
    openai_server: Start, store: VerdictStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = openai_server(lambda prompt, body: score(prompt, body) + "\n" * 400)
    judge_responses(items("before"), PROMPT, settings(server.url), store)
    judge = settings(server.url, concurrency=4)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, before[1]))
    try:
        verdicts = judge_responses(items(*MANY), PROMPT, judge, store)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    scored = [one for one in verdicts if one.status is Status.scored]
    unsent = [one for one in verdicts if one.status is Status.api_error]
    assert len(scored) + len(unsent) == len(MANY)
    assert unsent, "sending stops"
    assert len(scored) == len(server.chats) - 1, "what was paid is in the verdicts"
    assert all("not sent: the verdict store" in str(one.error) for one in unsent)
    assert all(
        one.value == text.count("wrong")
        for one, text in zip(verdicts, MANY, strict=True)
        if one.status is Status.scored
    )

    kept = store.get_many(one.key for one in scored)
    lost = {one.key for one in scored} - kept.keys()
    assert {one.key for one in rescued(tmp_path)} == lost
    assert store.unstored == len(lost) > 0
    assert f"{len(lost)} verdicts are not in the store, but in" in caplog.text

    (file,) = tmp_path.glob("verdicts-not-stored-*.jsonl")
    done = CliRunner().invoke(app, ["verdicts", "import", str(file), "--store", str(store.path)])
    assert f"{len(lost)} verdicts stored" in done.output
    again = judge_responses(items(*MANY), PROMPT, judge, VerdictStore(store.path))
    assert {one.status for one in again} == {Status.scored}
    assert set(server.paid.values()) == {1}, "nothing is paid twice"


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("released", [False, True])
def test_a_lock_that_stays_stops_the_sending(
    openai_server: Start,
    store: VerdictStore,
    tmp_path: Path,
    released: bool,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(store_module, "_BUSY_SECONDS", 1.0)
    held: list[sqlite3.Connection] = []
    store_late = Keeper._store_late

    def released_in_time(keeper: Keeper) -> None:
        held[0].close()
        store_late(keeper)

    if released:
        monkeypatch.setattr(Keeper, "_store_late", released_in_time)

    def answer(prompt: str, body: object) -> str:
        if shown(prompt).startswith("response 20"):
            held.append(lock(store))
        return score(prompt, body)

    server = openai_server(answer)
    with caplog.at_level(logging.WARNING):
        verdicts = judge_responses(items(*MANY), PROMPT, settings(server.url, concurrency=4), store)
    for connection in held:
        connection.close()
    scored = [one for one in verdicts if one.status is Status.scored]
    assert 20 <= len(scored) == len(server.chats) < 60
    assert all("database is locked" in str(one.error) for one in verdicts if one not in scored)
    later = judge_responses(items("later"), PROMPT, settings(server.url), store)
    assert "not sent" in str(later[0].error), "the next judge of the run is not asked, either"
    kept = store.get_many(one.key for one in scored)
    if released:
        assert len(kept) == len(scored)
        assert store.unstored == 0
        assert "verdicts were stored late" in caplog.text
    else:
        assert {one.key for one in rescued(tmp_path)} == {one.key for one in scored} - kept.keys()
        assert "eft-eval verdicts import" in caplog.text


@pytest.mark.usefixtures("hurried")
def test_a_store_that_fails_before_anything_was_paid_is_one_error(
    openai_server: Start, store: VerdictStore
) -> None:
    server = openai_server(score)
    held = lock(store)
    with pytest.raises(ConfigError, match="database is locked"):
        judge_responses(items("a"), PROMPT, settings(server.url), store)
    held.close()
    assert server.chats == []


def test_claims_that_could_not_be_given_back_are_not_waited_for(
    store: VerdictStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eft_eval.verdicts.leases._HURRY_SECONDS", 0.01)
    with Claims(store) as claims:
        assert claims.take(["a"]) == ["mine"]
        with Claims(store) as others:
            assert others.take(["a"]) == ["taken"]
        held = lock(store)
    held.close()
    with store.connection() as connection:
        assert connection.execute("SELECT key FROM claims").fetchall() == [("a",)]
    with Claims(store) as later:
        assert later.take(["a"]) == ["mine"]


@pytest.mark.usefixtures("hurried")
def test_the_command_ends_with_3_though_no_verdict_is_missing(
    openai_server: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = VerdictStore(tmp_path / "stored.sqlite3")
    held: list[sqlite3.Connection] = []

    def answer(prompt: str, body: object) -> str:
        if "last" in shown(prompt) and not held:
            held.append(lock(store))
        return score(prompt, body)

    server = openai_server(answer, models=["judge"])
    texts = ["wrong", "fine", "last wrong wrong"]
    run = write_judged_run(tmp_path / "run", counted([0, 0, 0]), response=texts.__getitem__)
    for name, value in (
        ("EFT_VERDICT_STORE", str(store.path)),
        ("EFT_JUDGE_BASE_URL", server.url),
        ("EFT_JUDGE_CONCURRENCY", "1"),
    ):
        monkeypatch.setenv(name, value)
    done = CliRunner().invoke(app, ["judge", str(run), "--judge", "judge"])
    held[0].close()
    assert done.exit_code == 3, done.output
    results = json.loads(sorted(run.glob("results_*.json"))[-1].read_text())
    assert results["results"]["eli5_fact"]["fact_errors,factuality"] == 1.0
    assert results["results"]["eli5_fact"]["fact_missing,factuality"] == 0.0
    assert [one.value for one in rescued(tmp_path)] == [2]
    with store.connection() as connection:  # the process that ends gives its claims up
        connection.execute("DELETE FROM claims")
    again = CliRunner().invoke(app, ["judge", str(run), "--judge", "judge"])
    assert again.exit_code == 0, again.output


@pytest.mark.parametrize("text", ["", "{", "[]", '{"key": "k"}', None])
def test_only_verdicts_are_taken_in(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "file.jsonl"
    if text is not None:
        file.write_text(text)
    done = CliRunner().invoke(app, ["verdicts", "import", str(file)])
    if text == "":
        assert "0 verdicts stored" in done.output
    else:
        assert isinstance(done.exception, ConfigError)
        assert "is no file of verdicts" in str(done.exception)
