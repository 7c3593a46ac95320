"""The store of verdicts: append-only, shared by processes and threads, and not to be lost."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from verdict_stores import RECORD, verdict

from eft_eval.errors import ConfigError, EftEvalError
from eft_eval.judging import Status, Verdict, VerdictStore, content_key, default_store_path

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
