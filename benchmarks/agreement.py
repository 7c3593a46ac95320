"""Time and memory of `eft-eval agree` on many labels.

    python -m benchmarks.agreement --json agreement.json

Writes random labels (10,000 items × 5 annotators, 2 items to a prompt) as a long CSV file, and a
judged run of the same items, and runs the command on them as a process of its own.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

DATE = "2026-11-22T10-00-00.000001"
PEOPLE = 5


def write_run(folder: Path, items: int, draw: random.Random) -> Path:
    """Write a judged run in the harness's layout; 4 % of the verdicts are abstentions."""
    from eft_eval.verdicts.text import write_verdicts
    from eft_eval.verdicts.verdict import Status, Verdict

    names = "reason raw finish_reason judge_model_returned prompt_tokens completion_tokens"
    blank: dict[str, Any] = dict.fromkeys(f"{names} cost_usd price_table error".split())
    fixed: dict[str, Any] = {"prompt_name": "factuality", "prompt_version": 1, "parameters": {}}
    fixed |= {"prompt_sha256": "", "parser_version": 1, "created": "2026-01-01T00:00:00+00:00"}
    lines = []
    for number in range(items // 2):
        verdicts = []
        for _ in range(2):
            scored = draw.random() > 0.04
            status = Status.scored if scored else Status.abstained
            value = draw.choice((0, 0, 1, 2)) if scored else None
            verdicts.append(Verdict("k", status, value, judge_model="judge", **fixed, **blank))
        sample = {
            "doc_id": number,
            "doc": {"question": f"Question {number}?"},
            "resps": [[f"Answer {number} {draw.random()}" for _ in range(2)]],
            "filtered_resps": [write_verdicts(verdicts)],
            "filter": "factuality",
            "metrics": ["fact_errors"],
        }
        lines.append(json.dumps(sample) + "\n")
    folder.mkdir()
    config = {"task": "eli5_fact", "repeats": 2, "metadata": {"eft_scale": "count"}}
    results = {"results": {"eli5_fact": {}}, "configs": {"eli5_fact": config}}
    (folder / f"results_{DATE}.json").write_text(json.dumps(results), "utf-8")
    (folder / f"samples_eli5_fact_{DATE}.jsonl").write_text("".join(lines), "utf-8")
    return folder


def write_labels(path: Path, run: Path, draw: random.Random) -> Path:
    """Write five people's error counts on every item."""
    from eft_eval.labels.responses import read_items

    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["item_id", "annotator", "field", "value"])
        for item in read_items(run):
            truth = int(hashlib.sha256(item.item_id.encode()).hexdigest(), 16) % 3
            for person in range(PEOPLE):
                value = truth if draw.random() < 0.7 else draw.choice((0, 1, 2))
                writer.writerow([item.item_id, f"person {person}", "error_count", value])
    return path


def measure(arguments: list[str]) -> dict[str, float]:
    """Return seconds, the processor's seconds and peak memory (MiB) of one run of the command."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "eft_eval", *arguments], stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"the command failed: {arguments}")
    return {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "mib": usage.ru_maxrss / 1024,
    }


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    draw = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        run = write_run(Path(folder) / "run", given.items, draw)
        labels = str(write_labels(Path(folder) / "labels.csv", run, draw))
        commands = {
            "agree, people alone": ["agree", "--labels", labels],
            "agree, any error, with a run": ["agree", "--labels", labels, "--run", str(run)],
            "agree, raw scale, with a run": [
                *("agree", "--labels", labels, "--run", str(run), "--rule", "raw")
            ],
            "correct": ["correct", str(run), "--labels", labels],
        }
        figures = {name: measure(command) for name, command in commands.items()}
    for name, one in figures.items():
        print(
            f"{name}: {one['seconds']:.1f} s, of the processor {one['cpu_seconds']:.1f} s, "
            f"{one['mib']:.0f} MiB"
        )
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
