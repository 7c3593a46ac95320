"""A run of the harness, judged at once and not at all, and a judge that answers alike."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

from judging_helpers import shown
from lm_eval.tasks import TaskManager
from saved_runs import saved_run

QUESTIONS = [f"Why is the number {i} {word}?" for i, word in enumerate(("odd", "big", "red") * 2)]


def answer(prompt: str, _: object = None) -> str:
    """A judge whose reply depends on the response alone; some replies have no readable score."""
    number = hashlib.sha256(shown(prompt).encode()).digest()[0] % 5
    return f"Reason: checked.\n\nScore: {('None', 'many', '0', '1', '2')[number]}"


@dataclasses.dataclass
class Runs:
    """The same responses twice: unjudged, and judged by the harness at once."""

    unjudged: Path
    judged: Path


def evaluate(output: Path, model: str, data: Path, *, predict_only: bool) -> Path:
    """Run eli5_fact as the command `lm_eval` does; return the folder with the results."""
    manager = TaskManager(
        include_defaults=False,
        include_path=str(resources.files("eft_eval.tasks")),
        metadata={"eli5_data": str(data)},
    )
    options = {"gen_kwargs": {"max_gen_toks": 8}, "predict_only": predict_only}
    return saved_run(output, model, manager, ["eli5_fact"], **options)


def results_in(folder: Path) -> list[Path]:
    return sorted(folder.glob("results_*.json"))


def newest(folder: Path, task: str = "eli5_fact") -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the newest results and samples."""
    results = results_in(folder)[-1]
    samples = folder / f"samples_{task}_{results.stem.removeprefix('results_')}.jsonl"
    lines = samples.read_text("utf-8").split("\n")
    return json.loads(results.read_text("utf-8")), [json.loads(line) for line in lines if line]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the results file of a run with one."""
    (path,) = results_in(folder)
    results = json.loads(path.read_text("utf-8"))
    change(results)
    path.write_text(json.dumps(results), "utf-8")


def holding(folder: Path, documents: int) -> None:
    """Let a run's results speak of so many documents, as those of ranks: without a hash."""

    def held(results: dict[str, Any]) -> None:
        results["n-samples"]["eli5_fact"].update(effective=documents)
        results["task_hashes"] = {}

    edit(folder, held)
