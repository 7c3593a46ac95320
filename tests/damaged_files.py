"""JSON files with random defects: odd values, missing or renamed places, cut ends."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

ODD: tuple[Any, ...] = (
    None, True, 0, -1, 10**400, 0.5, float("nan"), float("inf"), "", "x", "a/b", "\ud800", [], [1],
    [[]], {}, {"a": 1}, [{"a": None}], "N/A",
)  # fmt: skip
HANDS: tuple[Callable[[bytes], bytes], ...] = (
    lambda raw: b"",
    lambda raw: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
    lambda raw: b"\xef\xbb\xbf" + raw.replace(b"\n", b"\r\n"),
    lambda raw: raw.decode("utf-8", "replace").encode("utf-16"),
    gzip.compress,
    lambda raw: b"[" + b",".join(raw.splitlines()) + b"]",
    lambda raw: raw + raw,
)
"""What editors, people and other tools make of a whole file."""
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


def pass_on(files: Sequence[Path], seed: int) -> None:
    """Let one file go through other hands: changed as a whole, copied, or under another name."""
    choose = random.Random(f"hands {seed}")
    path = choose.choice(files)
    kind = choose.randrange(10)
    if kind < 6:
        path.write_bytes(choose.choice(HANDS)(path.read_bytes()))
    elif kind < 9:
        names = (f"{path.name}.gz", f"{path.stem}.json", f"renamed{path.suffix}")
        path.rename(path.with_name(choose.choice(names)))
    else:
        path.with_name(f"copy_{path.name}").write_bytes(path.read_bytes())
