"""The store of verdicts: append-only, shared, and not to be lost."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eft_eval.errors import ConfigError, EftEvalError
from eft_eval.judging import Status, Verdict, VerdictStore, content_key, default_store_path

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
    home = Path("~/.local/share/eft-eval/verdicts.sqlite3").expanduser()
    assert default_store_path({"EFT_VERDICT_STORE": ""}) == home
