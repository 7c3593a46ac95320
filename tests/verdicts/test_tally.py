"""Numbers of a store without reading its records."""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from verdict_stores import call, counted, verdict

from eft_eval.judging import Verdict, VerdictStore
from eft_eval.judging.batch.jobs import BatchJob, BatchStates
from eft_eval.verdicts.leases import Claims

JOB = BatchJob("j", "collected", "o", "e", "m", 1, False, 0, 0.0)


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


def test_listing_reads_no_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = VerdictStore(tmp_path / "v.sqlite3")
    store.put_many(verdict(str(number)) for number in range(500))
    monkeypatch.setattr(VerdictStore, "_read", lambda *_: pytest.fail("a record is read"))
    monkeypatch.setenv("EFT_VERDICT_STORE", str(store.path))
    assert "500 verdicts, 50.0000 USD" in call("list").stdout
