"""Who may ask for a verdict: one caller at a time, until it is done, too late, or gone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from verdict_stores import verdict

from eft_eval.judging import VerdictStore
from eft_eval.verdicts import leases
from eft_eval.verdicts.leases import Claims, is_gone, this_process


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


def test_a_claim_runs_out_unless_renewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(leases, "time", SimpleNamespace(time=lambda: now[0]))
    store = VerdictStore(tmp_path / "v.sqlite3")
    with Claims(store, lease_s=30) as first, Claims(store) as second:
        first.take(["a"])
        for _ in range(4):
            now[0] += 29
            assert second.take(["a"]) == ["taken"]
            first.renew()
        now[0] += 31
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
    assert max(worst) < 3, "0.4 s where nothing else runs"
