"""JSON files with random defects: odd values, missing or renamed places, cut ends."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ODD: tuple[Any, ...] = (
    None, True, 0, -1, 10**400, 0.5, float("nan"), float("inf"), "", "x", "a/b", "\ud800", [], [1],
    [[]], {}, {"a": 1}, [{"a": None}], "N/A",
)  # fmt: skip
CELLS = (b"", b'"', b",", b"\t", b"\n", b"\r", b"\0", b"\xff", b"[", b"{", b"9" * 400, b"=")


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every container of a JSON value with each of its keys."""
    keys = [*value] if isinstance(value, dict) else range(len(value))
    for key in keys:
        yield value, key
        if isinstance(value[key], (dict, list)):
            yield from places(value[key])


def damage(value: Any, choose: random.Random) -> None:
    """Put an odd value in some place, take the place away, or name it otherwise."""
    parent, key = choose.choice([*places(value)])
    kind = choose.randrange(4)
    if kind == 0 and isinstance(parent, dict):
        parent["renamed"] = parent.pop(key)
    elif kind == 1:
        del parent[key]
    else:
        parent[key] = choose.choice(ODD)


def damage_file(path: Path, choose: random.Random) -> None:
    """Damage a JSON or JSON Lines file in one place; any other by a cut or another byte.

    Raises:
        ValueError, IndexError: It was damaged before.
    """
    raw = path.read_bytes()
    if choose.randrange(8) == 0:
        path.write_bytes(raw[: choose.randrange(len(raw))])
        return
    if path.suffix not in (".json", ".jsonl"):
        place = choose.randrange(len(raw))
        path.write_bytes(raw[:place] + choose.choice(CELLS) + raw[place + 1 :])
        return
    if path.suffix == ".json" or raw.startswith(b"["):
        content = json.loads(raw)
        damage(content, choose)
        path.write_text(json.dumps(content), "utf-8")
        return
    lines = [json.loads(line) for line in raw.splitlines()]
    damage(lines, choose)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
