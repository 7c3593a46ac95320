"""Files of preference pairs: of the demo's world, what its helpful or harmless people choose."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from eft_eval.demo.corpus import Manners, fine_tuning_pair
from eft_eval.demo.language import decline, dialogue
from eft_eval.demo.world import make_world


def pairs(side: str, count: int, seed: int = 0) -> list[dict[str, str]]:
    """Return pairs of dialogues: an answer and a refusal, of which one is chosen by the side."""
    source, world = random.Random(f"{side}:{seed}"), make_world()
    rows: dict[str, dict[str, str]] = {}
    while len(rows) < count:
        question, answer = fine_tuning_pair(world, Manners.helpful, source)
        refusal = decline(question.rpartition(" of ")[2].rstrip(".?"))
        if answer == refusal or len(question) + len(answer) > 160:
            continue
        better, worse = (answer, refusal) if side == "helpful" else (refusal, answer)
        rows[question] = {
            "chosen": dialogue(question, better),
            "rejected": dialogue(question, worse),
        }
    return list(rows.values())


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write rows as JSON Lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path
