"""Two runs' answers judged in pairs, and what was written of them."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pairs_of_runs import shown, the_longer

N = 32


def words(seed: int, most: int, what: str) -> list[str]:
    rng = random.Random(seed)
    return [f"{what} {place}" + " word" * rng.randint(1, most) for place in range(N)]


class Written(NamedTuple):
    """A new run of win rates: its results file, and its lines."""

    content: Mapping[str, Any]
    lines: list[dict[str, Any]]
    task: str

    @property
    def results(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.content["results"][self.task]
        return found

    def value(self, metric: str) -> float:
        return float(self.results[f"{metric},preference"])

    @property
    def metadata(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.content["configs"][self.task]["metadata"]
        return found


def written(folder: Path, task: str = "help_pairwise_helpfulness") -> Written:
    newest = sorted(folder.glob("results_*.json"))[-1]
    date = newest.stem.removeprefix("results_")
    text = (folder / f"samples_{task}_{date}.jsonl").read_text("utf-8")
    return Written(json.loads(newest.read_text()), [*map(json.loads, text.splitlines())], task)


def odd_judge(prompt: str, _: Any = None) -> str:
    """A judge with a taste: long ones, else the first one; ties where the number ends in 7."""
    found = shown(prompt)
    if "7 odd" in found.query:
        return "Reason: equal.\nScore: tie"
    longer = the_longer(found)
    far = abs(len(found.first) - len(found.second)) > 40
    return f"Reason: a look.\n\nScore: {longer if far else 1}"
