"""Files of questions and of preference pairs."""

from __future__ import annotations

import gzip
import json
from pathlib import Path


def write(path: Path, *rows: object) -> Path:
    """Write rows as the suffix says."""
    text = json.dumps(rows) if ".json" in path.suffixes else "\n".join(map(json.dumps, rows))
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def pair(prompt: str, other: str | None = None) -> dict[str, str]:
    return {
        "chosen": f"{prompt}\n\nAssistant: yes",
        "rejected": f"{prompt if other is None else other}\n\nAssistant: no",
    }
