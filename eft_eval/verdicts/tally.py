"""What a store holds, in numbers: a line of facts beside each verdict, so no record is read.

Facts are made again from the record wherever it changed by other hands, so they never count what
is not there: triggers remove them, and what lacks them is read.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from eft_eval.verdicts.verdict import Verdict

__all__ = ["SCHEMA", "Tally", "note", "read_tallies", "without_facts"]

_GONE = "BEGIN DELETE FROM facts WHERE key={row}.key; END"
SCHEMA = (
    "CREATE TABLE IF NOT EXISTS fact_groups (id INTEGER PRIMARY KEY, judge TEXT NOT NULL,"
    " prompt TEXT NOT NULL, version INTEGER NOT NULL, status TEXT NOT NULL, day TEXT NOT NULL,"
    " UNIQUE (judge, prompt, version, status, day))",
    "CREATE TABLE IF NOT EXISTS facts (key TEXT PRIMARY KEY NOT NULL, kind INTEGER NOT NULL,"
    " tokens INTEGER NOT NULL, cost REAL) WITHOUT ROWID",
    "CREATE TRIGGER IF NOT EXISTS verdict_added AFTER INSERT ON verdicts "
    + _GONE.format(row="NEW"),
    "CREATE TRIGGER IF NOT EXISTS verdict_changed AFTER UPDATE ON verdicts "
    + _GONE.format(row="OLD"),
    "CREATE TRIGGER IF NOT EXISTS verdict_removed AFTER DELETE ON verdicts "
    + _GONE.format(row="OLD"),
    "CREATE TRIGGER IF NOT EXISTS reading_added AFTER INSERT ON readings "
    + _GONE.format(row="NEW"),
)


class Tally(NamedTuple):
    """Verdicts of one judge on one judge prompt and day that ended alike.

    Attributes:
        judge: The judge.
        prompt: The judge prompt's name,
        version: and its version.
        status: How they ended.
        day: When they were made, YYYY-MM-DD.
        verdicts: How many.
        tokens: Sent and received, where the endpoint counted.
        cost_usd: List price of those whose price is known.
        priced: How many these are.
    """

    judge: str
    prompt: str
    version: int
    status: str
    day: str
    verdicts: int
    tokens: int
    cost_usd: float
    priced: int


def note(connection: sqlite3.Connection, verdicts: Mapping[str, Verdict]) -> None:
    """Write the facts of verdicts as they are stored now, in the caller's transaction.

    Args:
        connection: To the store.
        verdicts: By key; not too many at once, as each is four values of one statement.
    """
    kinds: dict[tuple[str, str, int, str, str], int] = {}
    rows: list[str | int | float | None] = []
    for key, one in verdicts.items():
        kind = (
            one.judge_model,
            one.prompt_name,
            one.prompt_version,
            one.status.value,
            one.created[:10],
        )
        if kind not in kinds:
            kinds[kind] = _number_of(connection, kind)
        tokens = (one.prompt_tokens or 0) + (one.completion_tokens or 0)
        rows += [key, kinds[kind], tokens, one.cost_usd]
    if rows:
        values = ",".join(["(?,?,?,?)"] * len(verdicts))
        connection.execute(f"INSERT OR REPLACE INTO facts VALUES {values}", rows)


def _number_of(connection: sqlite3.Connection, kind: tuple[str, str, int, str, str]) -> int:
    query = (
        "SELECT id FROM fact_groups WHERE judge=? AND prompt=? AND version=? AND status=? AND day=?"
    )
    found = connection.execute(query, kind).fetchone()
    if found is None:
        names = "judge, prompt, version, status, day"
        insert = f"INSERT INTO fact_groups ({names}) VALUES (?, ?, ?, ?, ?)"
        return int(connection.execute(insert, kind).lastrowid or 0)
    return int(found[0])


def read_tallies(connection: sqlite3.Connection) -> list[Tally]:
    """Return all facts in groups."""
    rows = connection.execute(
        "SELECT g.judge, g.prompt, g.version, g.status, g.day, f.verdicts, f.tokens, f.cost,"
        " f.priced FROM (SELECT kind, COUNT(*) AS verdicts, TOTAL(tokens) AS tokens,"
        " TOTAL(cost) AS cost, COUNT(cost) AS priced FROM facts GROUP BY kind) f"
        " JOIN fact_groups g ON g.id = f.kind"
    )
    return [Tally(*row)._replace(tokens=int(row[6])) for row in rows]


def without_facts(connection: sqlite3.Connection, after: str, most: int) -> Sequence[str]:
    """Return keys of verdicts that have no facts, in order.

    Args:
        connection: To the store.
        after: The last key that is known already.
        most: How many keys at most.
    """
    stored, known = connection.execute(
        "SELECT (SELECT COUNT(*) FROM verdicts), (SELECT COUNT(*) FROM facts)"
    ).fetchone()
    if stored == known:
        return []
    rows = connection.execute(
        "SELECT v.key FROM verdicts v LEFT JOIN facts f ON f.key = v.key"
        " WHERE v.key > ? AND f.key IS NULL ORDER BY v.key LIMIT ?",
        [after, most],
    )
    return [key for (key,) in rows]
