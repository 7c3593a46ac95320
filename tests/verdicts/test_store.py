"""The store of verdicts: append-only, shared, and not to be lost."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import eft_eval
from eft_eval.cli.app import app
from eft_eval.errors import ConfigError, EftEvalError
from eft_eval.judging import (
    PARSER_VERSION,
    JudgeItem,
    JudgeSettings,
    Status,
    Verdict,
    VerdictStore,
    content_key,
    default_store_path,
    judge_responses,
    load_prompt,
)
from eft_eval.judging.batch.jobs import BatchJob, BatchStates
from eft_eval.verdicts.leases import Claims, is_gone, this_process

RECORD: dict[str, Any] = {
    "key": "k",
    "status": "scored",
    "value": 2,
    "reason": "why",
    "raw": "Reason: why\nScore: 2",
    "finish_reason": "stop",
    "judge_model": "m",
    "judge_model_returned": "m-1",
    "prompt_name": "factuality",
    "prompt_version": 1,
    "prompt_sha256": "00",
    "parameters": {"temperature": 0, "max_tokens": 8},
    "parser_version": 1,
    "prompt_tokens": 3,
    "completion_tokens": 4,
    "cost_usd": 0.1,
    "price_table": "2025-04-14",
    "created": "2026-01-01T00:00:00+00:00",
    "error": None,
}

# Run as its own process: stores keys start, start+1, ... and prints each once it is committed.
WRITER = """
import json, sys
from eft_eval.judging import Verdict, VerdictStore
record, path, start, stop = json.loads(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
store = VerdictStore(path)
for number in range(start, stop):
    store.put(Verdict.from_dict({**record, "key": str(number), "value": number}))
    print(number, flush=True)
"""


# Keeps 15 verdicts, as judging does, and is killed.
KEEPER = """
import json, os, sys
from eft_eval.judging import Verdict, VerdictStore
from eft_eval.verdicts.leases import Claims
record = json.loads(sys.argv[1])
with Claims(VerdictStore(sys.argv[2])) as claims:
    for number in range(15):
        claims.keep([Verdict.from_dict({**record, "key": str(number), "value": number})])
    os.kill(os.getpid(), 9)
"""


def verdict(key: str = "k", **changes: Any) -> Verdict:
    return Verdict.from_dict({**RECORD, "key": key, **changes})


def writer(path: Path, start: int, stop: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, json.dumps(RECORD), str(path), str(start), str(stop)],
        stdout=subprocess.PIPE,
        text=True,
    )


@given(
    st.sampled_from(Status),
    st.none() | st.integers(0, 2**53) | st.floats(0, 100),
    st.none() | st.text(),
)
def test_records_make_the_round_trip(status: Status, value: float | None, raw: str | None) -> None:
    before = verdict(status=status.value, value=value, raw=raw)
    after = Verdict.from_dict(json.loads(json.dumps(before.to_dict())))
    assert after == before
    assert type(after.value) is type(before.value)
    assert type(after.status) is Status


def test_records_are_closed() -> None:
    with pytest.raises(EftEvalError, match=r"no field 'valu' \(did you mean 'value'\?\)"):
        Verdict.from_dict({**RECORD, "valu": 1})
    with pytest.raises(EftEvalError, match="lacks the field"):
        Verdict.from_dict({key: value for key, value in RECORD.items() if key != "raw"})
    with pytest.raises(EftEvalError, match="status 'fine'; it must be one of scored"):
        Verdict.from_dict({**RECORD, "status": "fine"})
    for value in (float("nan"), float("inf"), 10**400):
        with pytest.raises(EftEvalError, match=r"a verdict's value is (nan|inf|10{400})"):
            Verdict.from_dict({**RECORD, "value": value})


def test_keys_depend_on_everything_and_on_nothing_else() -> None:
    key = content_key("text", "m", {"a": 1, "b": 2}, 1)
    assert key == content_key("text", "m", {"b": 2, "a": 1}, 1)
    others = [
        content_key("text ", "m", {"a": 1, "b": 2}, 1),
        content_key("text", "n", {"a": 1, "b": 2}, 1),
        content_key("text", "m", {"a": 1, "b": 3}, 1),
        content_key("text", "m", {"a": 1, "b": 2}, 2),
    ]
    assert len({key, *others}) == 5


def test_keys_never_change_between_versions() -> None:
    # Pinned: another hash would pay for every stored verdict again.
    assert content_key("a \ud800 é", "m", {"temperature": 0}, 1) == (
        "9a2b831710418a6d927fbb8402b84a4a6d0b5a4c595a5684c899da77feb40be3"
    )


def test_first_verdict_stays(tmp_path: Path) -> None:
    store = VerdictStore(tmp_path / "new" / "folder" / "v.sqlite3")
    store.put(verdict("a", value=1))
    store.put(verdict("a", value=2))
    store.put(verdict("b", status="abstained", value=None))
    assert len(store) == 2
    assert [(v.key, v.value) for v in store] == [("a", 1), ("b", None)]
    assert store.get_many(["b", "c", "a", "a"]) == {
        "a": verdict("a", value=1),
        "b": verdict("b", status="abstained", value=None),
    }


def test_an_empty_store_is_still_a_store(tmp_path: Path) -> None:
    store = VerdictStore(tmp_path / "v.sqlite3")
    assert len(store) == 0
    assert list(store) == []
    assert store.get_many([]) == {}


def test_many_keys_at_once(tmp_path: Path) -> None:
    store = VerdictStore(tmp_path / "v.sqlite3")
    for number in range(3):
        store.put(verdict(str(number * 900)))
    assert len(store.get_many(str(number) for number in range(2000))) == 3


def test_an_outage_is_never_stored(tmp_path: Path) -> None:
    store = VerdictStore(tmp_path / "v.sqlite3")
    with pytest.raises(ValueError, match="api_error"):
        store.put(verdict(status="api_error", value=None))
    assert len(store) == 0


def test_several_processes_write_at_once(tmp_path: Path) -> None:
    path = tmp_path / "v.sqlite3"
    running = [writer(path, start, start + 40) for start in (0, 20, 40, 60)]
    for process in running:
        process.communicate(timeout=60)
    assert [process.returncode for process in running] == [0] * 4
    assert sorted(v.value for v in VerdictStore(path) if v.value is not None) == list(range(100))


def test_several_threads_write_at_once(tmp_path: Path) -> None:
    store = VerdictStore(tmp_path / "v.sqlite3")

    def write(start: int) -> None:
        for number in range(start, start + 20):
            store.put(verdict(str(number)))

    threads = [threading.Thread(target=write, args=(start,)) for start in (0, 10, 20, 30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store) == 50


def test_a_kill_loses_nothing_committed(tmp_path: Path) -> None:
    path = tmp_path / "v.sqlite3"
    with writer(path, 0, 10**6) as process:
        assert process.stdout is not None
        seen = [int(process.stdout.readline()) for _ in range(25)]
        process.kill()
        seen += [int(line) for line in process.stdout.read().split("\n")[:-1]]
    store = VerdictStore(path)
    assert set(store.get_many(map(str, seen))) == {str(number) for number in seen}
    store.put(verdict("after"))
    assert len(store) >= len(seen) + 1


def test_a_write_that_ends_at_any_byte_loses_only_itself(tmp_path: Path) -> None:
    """The log that a killed process leaves, cut off anywhere: what was whole before is there."""
    path = tmp_path / "v.sqlite3"
    subprocess.run([sys.executable, "-c", KEEPER, json.dumps(RECORD), str(path)], check=False)
    data, log = path.read_bytes(), path.with_name(path.name + "-wal").read_bytes()
    assert len(log) > 12 * 1000
    counts = []
    for step in range(41):
        folder = tmp_path / str(step)
        folder.mkdir()
        copy = folder / path.name
        copy.write_bytes(data)
        copy.with_name(path.name + "-wal").write_bytes(log[: len(log) * step // 40])
        store = VerdictStore(copy)
        keys = [v.key for v in store]
        assert keys == [str(number) for number in range(len(keys))]
        store.put(verdict("after"))
        assert len(store) == len(keys) + 1
        counts.append(len(keys))
    assert counts == sorted(counts)
    assert counts[-1] == 15
    assert len({*counts}) > 8


def test_unusable_files_are_named(tmp_path: Path) -> None:
    garbage = tmp_path / "garbage.sqlite3"
    garbage.write_bytes(b"this is no database, and never was one" * 100)
    (tmp_path / "file").write_text("")
    other = tmp_path / "other.sqlite3"
    connection = sqlite3.connect(other)
    connection.execute("CREATE TABLE verdicts (id INTEGER)")
    connection.close()
    for path in (garbage, tmp_path, tmp_path / "file" / "v.sqlite3", other):
        with pytest.raises(ConfigError, match="EFT_VERDICT_STORE") as caught:
            VerdictStore(path)
        assert str(path) in str(caught.value)
    assert garbage.read_bytes().startswith(b"this is no database")


@pytest.mark.parametrize("record", ["{", "[]", '{"key": "bad"}', "3"])
def test_an_unreadable_record_is_named(tmp_path: Path, record: str) -> None:
    store = VerdictStore(tmp_path / "v.sqlite3")
    store.put(verdict("good"))
    connection = sqlite3.connect(store.path)
    with connection:
        connection.execute("INSERT INTO verdicts VALUES ('bad', ?)", (record,))
    connection.close()
    assert set(store.get_many(["good"])) == {"good"}
    with pytest.raises(EftEvalError, match="the verdict bad in"):
        store.get_many(["good", "bad"])
    with pytest.raises(EftEvalError, match="the verdict bad in"):
        list(store)


def test_default_path() -> None:
    assert default_store_path({"EFT_VERDICT_STORE": "/x/v.db"}) == Path("/x/v.db")
    assert default_store_path({"XDG_DATA_HOME": "/d"}) == Path("/d/eft-eval/verdicts.sqlite3")
    nobody = {"EFT_VERDICT_STORE": "~nobody-here/v.db"}
    assert default_store_path(nobody) == Path("~nobody-here/v.db")  # as the shell has it
    home = Path("~/.local/share/eft-eval/verdicts.sqlite3").expanduser()
    assert default_store_path({"EFT_VERDICT_STORE": ""}) == home


# --- stores of before, readings, pages


def old_store(path: Path, *records: dict[str, Any]) -> None:
    """A store as the first layout was."""
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(
            "CREATE TABLE verdicts (key TEXT PRIMARY KEY NOT NULL, record TEXT NOT NULL)"
        )
        rows = [(record["key"], json.dumps(record)) for record in records]
        connection.executemany("INSERT INTO verdicts VALUES (?, ?)", rows)
    connection.close()


def test_a_store_of_the_first_layout_is_read_and_written(tmp_path: Path) -> None:
    path = tmp_path / "v.sqlite3"
    old_store(path, {**RECORD, "key": "a"}, {**RECORD, "key": "b"})
    store = VerdictStore(path)
    assert [v.key for v in store] == ["a", "b"]
    store.put(verdict("c"))
    with Claims(store) as claims:
        assert claims.take(["a", "d"]) == ["stored", "mine"]
    assert len(VerdictStore(path)) == 3


def test_a_store_of_a_later_layout_is_refused(tmp_path: Path) -> None:
    store = VerdictStore(tmp_path / "v.sqlite3")
    with store.connection() as connection:
        connection.execute("PRAGMA user_version=99")
    with pytest.raises(ConfigError, match="layout 99 of a later eft-eval"):
        VerdictStore(store.path)


def test_the_newest_reading_counts_and_the_first_stays(tmp_path: Path) -> None:
    store = VerdictStore(tmp_path / "v.sqlite3")
    store.put(verdict("a", value=1))
    store.put(verdict("b", value=1))
    store.add_readings([verdict("a", value=2)])
    store.add_readings([verdict("a", value=3)])
    assert store.get_many(["a", "b"])["a"].value == 3
    assert [v.value for v in store] == [3, 1]
    assert [v.value for v in store.newest(5)] == [1, 3]
    with store.connection() as connection:
        kept = connection.execute("SELECT record FROM verdicts WHERE key='a'").fetchone()
    assert json.loads(kept[0])["value"] == 1


def test_a_batch_of_verdicts_is_stored_whole_or_not(tmp_path: Path) -> None:
    store = VerdictStore(tmp_path / "v.sqlite3")
    with pytest.raises(ValueError, match="never stored"):
        store.put_many([verdict("a"), verdict("b", status="api_error", value=None)])
    assert len(store) == 0


def test_iterating_while_others_write(tmp_path: Path) -> None:
    store = VerdictStore(tmp_path / "v.sqlite3")
    store.put_many(verdict(f"{number:05}") for number in range(2500))
    seen = []
    for number, one in enumerate(store):
        seen.append(one.key)
        if number == 1200:
            store.put(verdict("later"))
    assert seen == [*(f"{number:05}" for number in range(2500)), "later"]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_store(tmp_path: Path) -> None:
    path = tmp_path / "v.sqlite3"
    store = VerdictStore(path)
    long = "x" * 1000
    for start in range(0, 60_000, 10_000):
        store.put_many(verdict(str(n), raw=long) for n in range(start, start + 10_000))
    code = (
        "import sys, resource; from eft_eval.judging import VerdictStore\n"
        "store = VerdictStore(sys.argv[1])\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "count = sum(1 for _ in store); store.get_many(map(str, range(100)))\n"
        "print(count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    count, grown_kib = map(int, done.stdout.split())
    assert count == 60_000
    assert grown_kib < 20 * 1024  # the records alone are more than 60 MiB


# --- claims


def test_a_claim_is_one_callers(tmp_path: Path) -> None:
    store = VerdictStore(tmp_path / "v.sqlite3")
    with Claims(store) as first, Claims(store) as second:
        assert first.take(["a", "b"]) == ["mine", "mine"]
        assert first.take(["a"]) == ["mine"]
        assert second.take(["a", "b", "c"]) == ["taken", "taken", "mine"]
        first.keep([verdict("a")])
        first.give_back("b")
        assert second.take(["a", "b"]) == ["stored", "mine"]
    with Claims(store) as third:
        assert third.take(["b", "c"]) == ["mine", "mine"]  # given back at the end


def test_a_claim_runs_out_unless_renewed(tmp_path: Path) -> None:
    store = VerdictStore(tmp_path / "v.sqlite3")
    with Claims(store, lease_s=0.3) as first, Claims(store) as second:
        first.take(["a"])
        until = time.monotonic() + 0.9
        while time.monotonic() < until:
            first.renew()
            assert second.take(["a"]) == ["taken"]
            time.sleep(0.05)
        time.sleep(0.35)
        assert second.take(["a"]) == ["mine"]
        assert first.take(["a"]) == ["taken"]


def test_the_claims_of_the_dead_are_free(tmp_path: Path) -> None:
    store = VerdictStore(tmp_path / "v.sqlite3")
    code = (
        "import os, sys; from eft_eval.judging import VerdictStore\n"
        "from eft_eval.verdicts.leases import Claims\n"
        "claims = Claims(VerdictStore(sys.argv[1])).__enter__()\n"
        "claims.take(['a']); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(store.path)], check=False)
    with Claims(store) as claims:
        assert claims.take(["a"]) == ["mine"]


def test_who_is_gone() -> None:
    ours = this_process()
    assert not is_gone(ours)
    place, _, name = ours.rsplit("/", 2)
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    assert is_gone(f"{place}/{process.pid}/{name}")
    assert not is_gone(f"elsewhere/-/{process.pid}/{name}")  # not ours to know
    assert not is_gone(f"{place}/odd/{name}")


# --- `eft-eval verdicts`


def call(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["verdicts", *map(str, arguments)], catch_exceptions=False)


@pytest.fixture
def filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> VerdictStore:
    store = VerdictStore(tmp_path / "v.sqlite3")
    monkeypatch.setenv("EFT_VERDICT_STORE", str(store.path))
    store.put_many(
        [
            verdict("a", created="2026-01-01T00:00:00+00:00"),
            verdict("b", status="malformed", value=None, raw="Score: many", cost_usd=None),
            verdict("c", judge_model="other", created="2026-03-01T00:00:00+00:00"),
            # read by an older parser, which did not see the number
            verdict("d", status="malformed", value=None, parser_version=0),
            verdict("e", prompt_name="mine", status="malformed", value=None),
        ]
    )
    return store


def test_list_counts(filled: VerdictStore) -> None:
    out = call("list").stdout
    assert "5 verdicts, 0.4000 USD; 1 without a known price" in out
    assert "malformed" in out
    assert "1 verdicts, 0.1000 USD" in call("list", "--judge", "other").stdout
    assert "4 verdicts" in call("list", "--before", "2026-03-01").stdout


def test_reparse_says_and_writes(filled: VerdictStore, tmp_path: Path) -> None:
    said = call("reparse").stdout
    assert "4 verdicts read again, 1 read differently" in said
    assert "1 malformed -> scored" in said
    assert "1 not read: the prompt 'mine' is not known" in said
    assert filled.get_many(["d"])["d"].status is Status.malformed
    call("reparse", "--write")
    again = filled.get_many(["d"])["d"]
    assert (again.status, again.value, again.parser_version) == (Status.scored, 2, PARSER_VERSION)
    assert "4 verdicts read again, 0 read differently" in call("reparse").stdout
    template = tmp_path / "mine.jinja"
    template.write_text(
        "{#-\nname: mine\nversion: 1\nscale: count\nbetter: lower\nparser: reason_score\n"
        "variables: [response]\n-#}\nRate: {{ response }}"
    )
    assert "5 verdicts read again" in call("reparse", "--template", template).stdout


def test_a_namesake_s_scale_spoils_no_verdict(tmp_path: Path, filled: VerdictStore) -> None:
    """A user's own `factuality` on the percent scale is not read on the shipped one's."""
    own = verdict("p", raw="Score: 85 %", value=85.0, prompt_sha256="own", prompt_scale="percent")
    filled.put_many([own])
    call("reparse", "--write")
    again = filled.get_many(["p"])["p"]
    assert (again.status, again.value, again.prompt_scale) == (Status.scored, 85, "percent")
    template = tmp_path / "factuality.jinja"
    template.write_text(
        "{#-\nname: factuality\nversion: 1\nscale: percent\nbetter: higher\n"
        "parser: reason_score\nvariables: [response]\n-#}\nRate: {{ response }}"
    )
    said = call("reparse", "--template", template).stdout
    assert "the prompt 'factuality' is not known" in said, "two scales, and none noted: not read"


def test_a_verdict_stored_before_scales_were_noted_is_one() -> None:
    record = verdict("a").to_dict()
    del record["prompt_scale"]
    assert Verdict.from_dict(record).prompt_scale is None


def test_export_is_whole(filled: VerdictStore, tmp_path: Path) -> None:
    file = tmp_path / "out.jsonl"
    assert "2 verdicts written" in call("export", file, "--status", "scored").stdout
    records = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    assert [Verdict.from_dict(record).key for record in records] == ["a", "c"]


def test_prune_says_first(filled: VerdictStore) -> None:
    filled.add_readings([verdict("c", judge_model="other", value=9)])
    said = call("prune", "--judge", "other").stdout
    assert "1 verdicts, 0.1000 USD" in said
    assert "nothing was removed" in said
    assert len(filled) == 5
    assert "1 verdicts removed" in call("prune", "--judge", "other", "--yes").stdout
    assert {v.key for v in filled} == {"a", "b", "d", "e"}
    with filled.connection() as connection:
        assert connection.execute("SELECT COUNT(*) FROM readings").fetchone() == (0,)


def test_wrong_choices(filled: VerdictStore, tmp_path: Path) -> None:
    for arguments, message in (
        (("prune", "--yes"), "say which verdicts to remove"),
        (("list", "--status", "fine"), "it must be one of scored"),
        (("list", "--before", "soon"), "it must be a date"),
        (("list", "--store", tmp_path / "none"), "there is no verdict store"),
    ):
        with pytest.raises(ConfigError, match=message):
            call(*arguments)
    assert len(filled) == 5


# --- what cannot be read, or not be written

DAMAGED = {
    "half": b"{",
    "list": b"[]",
    "fields": b'{"key": "half"}',
    "deep": b"[" * 100_000,
    "bytes": b'"\xff\xfe',
}


def damage(store: VerdictStore) -> None:
    """Store records that nobody can read, and two of which a value alone is wrong."""
    typed = {"status": {**verdict("x").to_dict(), "status": "done", "key": "status"}}
    typed["value"] = {**verdict("x").to_dict(), "value": float("nan"), "key": "value"}
    typed["created"] = {**verdict("x").to_dict(), "created": 20260101, "key": "created"}
    typed["key"] = verdict("another").to_dict()
    records = {**DAMAGED, **{key: json.dumps(one).encode() for key, one in typed.items()}}
    connection = sqlite3.connect(store.path)
    with connection:
        connection.executemany(
            "INSERT INTO verdicts VALUES (?, CAST(? AS TEXT))", [*records.items()]
        )
    connection.close()


def test_damaged_records_lock_nothing(filled: VerdictStore, tmp_path: Path) -> None:
    damage(filled)
    listed = call("list").stdout
    assert "14 verdicts, 0.4000 USD; 1 without a known price" in listed
    assert re.search(r"unreadable\s+│\s+9 ", listed), listed
    assert "9 verdicts" in call("list", "--status", "unreadable").stdout
    assert "4 verdicts" in call("list", "--judge", "m").stdout

    target = tmp_path / "out.jsonl"
    said = call("export", target).stdout
    assert "5 verdicts written" in said
    assert "9 records cannot be read any more" in said
    assert [json.loads(line)["key"] for line in target.read_text().splitlines()] == [*"abcde"]
    assert "9 not read: the records are damaged" in call("reparse").stdout
    assert call("reparse", "--write").exit_code == 0

    assert "1 verdicts removed" in call("prune", "--judge", "other", "--yes").stdout
    assert "9 verdicts removed" in call("prune", "--status", "unreadable", "--yes").stdout
    assert [one.key for one in filled] == [*"abde"]


def test_a_damaged_record_costs_its_own_verdict_only(
    filled: VerdictStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "rules.yaml"
    script.write_text("- {match: ., reply: 'Score: 2'}")
    judge = JudgeSettings.from_environment({}, judge=f"scripted:{script}")
    given = [JudgeItem("a"), JudgeItem("b"), JudgeItem("c")]
    prompt = load_prompt("factuality")
    (first,) = judge_responses(given[:1], prompt, judge, filled)
    with filled.connection() as connection:
        connection.execute("UPDATE verdicts SET record='{' WHERE key=?", [first.key])
    found = judge_responses(given, prompt, judge, filled)
    assert [one.status.value for one in found] == ["api_error", "scored", "scored"]
    assert f"the verdict {first.key} in" in str(found[0].error)
    assert "verdicts prune" in str(found[0].error)
    call("prune", "--status", "unreadable", "--yes")
    assert [one.value for one in judge_responses(given, prompt, judge, filled)] == [2, 2, 2]


# Looks first at a store of its own, so that all is imported before it may read no more.
PACKAGE = Path(str(eft_eval.__file__))
AS_NOBODY = """
import json, os, sys, traceback
from typer.testing import CliRunner
from eft_eval.cli.app import app
runner = CliRunner()
calls = json.loads(sys.argv[2])
for store in sys.argv[1], os.environ["EFT_VERDICT_STORE"]:
    said = []
    for call in calls:
        done = runner.invoke(app, ["verdicts", *call, "--store", store])
        said.append([done.output, str(done.exception or "")])
    os.seteuid(65534)
print(json.dumps(said))
"""


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs another user")
@pytest.mark.parametrize("layout", [1, 2])
def test_a_read_only_store_is_read(layout: int, tmp_path: Path) -> None:
    """Looked at by a user who may write neither the store nor its folder."""
    if closed := [one for one in PACKAGE.parents if one.stat().st_mode & 0o005 != 0o005]:
        pytest.skip(f"other users cannot read {closed[-1]}, where the package lies")
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        store = VerdictStore(Path(name) / "v.sqlite3")
        store.put_many([verdict("a"), verdict("b")])
        warm = VerdictStore(tmp_path / "warm.sqlite3")
        warm.put_many([verdict("a"), verdict("b")])
        with store.connection() as connection:
            if layout == 1:
                connection.execute("DROP TABLE readings")
                connection.execute("PRAGMA user_version=1")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        calls = [
            ["list"],
            ["reparse"],
            ["prune", "--judge", "m"],
            ["prune", "--judge", "m", "--yes"],
        ]
        done = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, str(warm.path), json.dumps(calls)],
            capture_output=True,
            text=True,
            env={**os.environ, "EFT_VERDICT_STORE": str(store.path)},
            check=True,
        )
        (listed, _), (read_again, _), (looked, _), (_, refused) = json.loads(done.stdout)
        assert "2 verdicts" in listed
        assert "2 verdicts read again" in read_again
        assert "nothing was removed" in looked
        assert "readonly database" in refused
        assert len(store) == 2


JOB = BatchJob("j", "collected", "o", "e", "m", 1, False, 0, 0.0)

# --- numbers without reading, turns in writing


def counted(store: VerdictStore) -> list[Any]:
    """What `list` shows, from the facts, and the same counted record by record."""
    tallies, unreadable = store.tally()
    by_record, also = store._count()
    assert sorted(tallies) == sorted(by_record)
    assert sorted(unreadable) == sorted(also)
    return tallies


@pytest.mark.parametrize("seed", range(4))
def test_facts_are_always_those_of_the_records(tmp_path: Path, seed: int) -> None:
    """Whatever is done to a store, by us or by other hands."""
    draw = random.Random(seed)
    store = VerdictStore(tmp_path / "v.sqlite3")

    def some(**changes: Any) -> Verdict:
        key = str(draw.randrange(60))
        status = draw.choice(["scored", "malformed", "refused"])
        value = draw.randrange(5) if status == "scored" else None
        cost = draw.choice([None, 0.25])
        given = {"status": status, "value": value, "cost_usd": cost, **changes}
        return verdict(key, judge_model=draw.choice(["m", "n"]), **given)

    def by_hand(statement: str, *values: object) -> None:
        with sqlite3.connect(store.path) as connection:
            connection.execute(statement, values)
        connection.close()

    def claimed() -> None:
        with Claims(store) as claims:
            claims.keep([some() for _ in range(5)])

    def job() -> None:
        states = BatchStates(store)
        states.finish(JOB, [some() for _ in range(5)])

    steps: list[Callable[[], object]] = [
        lambda: store.put(some()),
        lambda: store.put_many([some() for _ in range(30)]),
        lambda: store.add_readings([some(), some()]),
        lambda: store.prune([str(draw.randrange(60))]),
        claimed,
        job,
        lambda: by_hand("UPDATE verdicts SET record='{' WHERE key=?", str(draw.randrange(60))),
        lambda: by_hand("DELETE FROM verdicts WHERE key=?", str(draw.randrange(60))),
        lambda: by_hand(
            "INSERT OR REPLACE INTO verdicts VALUES (?, ?)",
            *(lambda one: (one.key, json.dumps(one.to_dict())))(some()),
        ),
        lambda: counted(store),
        lambda: by_hand("VACUUM"),
    ]
    for _ in range(25):
        draw.choice(steps)()
    counted(store)


def test_an_older_store_is_counted(tmp_path: Path) -> None:
    """One that has no facts yet; and once it is written, the second look reads nothing."""
    store = VerdictStore(tmp_path / "v.sqlite3")
    store.put_many(verdict(str(number)) for number in range(2500))
    with sqlite3.connect(store.path) as connection:
        connection.execute("DELETE FROM facts")
    connection.close()
    (tally,) = counted(store)
    assert tally.verdicts == tally.priced == 2500
    with sqlite3.connect(store.path) as connection:
        (noted,) = connection.execute("SELECT COUNT(*) FROM facts").fetchone()
    connection.close()
    assert noted == 2500


def test_listing_reads_no_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = VerdictStore(tmp_path / "v.sqlite3")
    store.put_many(verdict(str(number)) for number in range(500))
    monkeypatch.setattr(VerdictStore, "_read", lambda *_: pytest.fail("a record is read"))
    monkeypatch.setenv("EFT_VERDICT_STORE", str(store.path))
    assert "500 verdicts, 50.0000 USD" in call("list").stdout


TURNS = """
import json, sys, time
from eft_eval.judging import Verdict, VerdictStore
record, path, first = json.loads(sys.argv[1]), sys.argv[2], int(sys.argv[3])
store = VerdictStore(path)
worst = 0.0
for number in range(first, first + 40):
    start = time.perf_counter()
    store.put(Verdict.from_dict({**record, "key": str(number)}))
    worst = max(worst, time.perf_counter() - start)
print(worst)
"""


@pytest.mark.slow
def test_writers_take_turns(tmp_path: Path) -> None:
    """Ten at once: nobody is passed over for long (4.6 s with SQLite's own waiting)."""
    path = VerdictStore(tmp_path / "v.sqlite3").path
    record = verdict("x").to_dict()
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TURNS, json.dumps(record), str(path), str(1000 * number)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(10)
    ]
    worst = [float(process.communicate()[0]) for process in processes]
    assert len(VerdictStore(path)) == 400
    assert max(worst) < 1.5, "0.4 s where nothing else runs"


@pytest.mark.parametrize("schema", ["CREATE TABLE theirs (a)", "CREATE TABLE verdicts (a)"])
def test_another_programs_database_stays_as_it_is(schema: str, tmp_path: Path) -> None:
    path = tmp_path / "theirs.sqlite3"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(schema)
        connection.commit()
    before = path.read_bytes()
    for writable in (True, False):
        with pytest.raises(ConfigError, match="another program's database"):
            VerdictStore(path, writable=writable)
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == [path.name]
