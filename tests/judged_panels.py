"""A run that three judges scored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

COUNT = 40
SCORES = {
    "a": [i % 3 for i in range(COUNT)],
    "b": [(i // 2) % 3 for i in range(COUNT)],
    "c": [max(0, i % 5 - 2) for i in range(COUNT)],
}
REFUSED = 7  # what judge c refuses


def judges(*names: str) -> list[str]:
    return [word for name in names for word in ("--judge", f"scripted:{name}.json")]


def newest(folder: Path) -> tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]:
    """Return the newest results, and its sample lines by filter."""
    path = sorted(folder.glob("results_*.json"))[-1]
    samples = path.with_name(path.name.replace("results_", "samples_eli5_fact_") + "l")
    lines: dict[str, list[dict[str, Any]]] = {}
    for line in samples.read_text().splitlines():
        record = json.loads(line)
        lines.setdefault(record["filter"], []).append(record)
    return json.loads(path.read_text()), lines
