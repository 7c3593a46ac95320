"""`eft-eval compare` on two runs: time and peak memory of the whole command.

    python -m benchmarks.comparing --samples 10000 --json comparing.json

Writes two runs in lm-eval's layout, each document with a prompt and a response of some 2 kB, and
four metrics: two of 0 and 1, a count, and a score with thousands of different values, whose sign
flips are the dearest. Each command runs in a process of its own; the figures are those of the
slowest of `--repeats`. What the processor did (`cpu_seconds`) does not depend on what else runs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

STAMP = "2026-01-01T00-00-00.000000"
METRICS = {"acc": True, "exact_match": True, "errors": False, "score": True}
ENTRY = "from eft_eval.cli import main; main()"


def write_run(folder: Path, samples: int, seed: int) -> None:
    """Write a run of one task."""
    folder.mkdir(parents=True)
    draw = random.Random(seed)
    sums = dict.fromkeys(METRICS, 0.0)
    digest = hashlib.sha256()
    with (folder / f"samples_bench_{STAMP}.jsonl").open("w") as file:
        for number in range(samples):
            texts = (f"document {number}", f"prompt {number}", "target")
            hashes = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
            digest.update("".join(hashes).encode())
            values = {
                "acc": float(draw.random() < 0.6),
                "exact_match": float(draw.random() < 0.3),
                "errors": float(draw.randrange(4)),
                "score": draw.random(),
            }
            for metric, value in values.items():
                sums[metric] += value
            line: dict[str, Any] = {
                "doc_id": number,
                "doc": {"question": texts[1] * 80},
                "target": "target",
                "arguments": {"gen_args_0": {"arg_0": texts[1] * 40, "arg_1": {}}},
                "resps": [["a response of some length " * 25]],
                "filtered_resps": ["a response of some length " * 25],
                "filter": "none",
                "metrics": [*METRICS],
                "doc_hash": hashes[0],
                "prompt_hash": hashes[1],
                "target_hash": hashes[2],
                **values,
            }
            file.write(json.dumps(line) + "\n")
    results = {
        "results": {"bench": {f"{m},none": total / samples for m, total in sums.items()}},
        "configs": {
            "bench": {"metric_list": [{"metric": m, "aggregation": "mean"} for m in METRICS]}
        },
        "versions": {"bench": 1.0},
        "n-shot": {"bench": 0},
        "n-samples": {"bench": {"original": samples, "effective": samples}},
        "higher_is_better": {"bench": METRICS},
        "task_hashes": {"bench": digest.hexdigest()},
        "model_name": folder.name,
        "lm_eval_version": "0.4.13",
        "date": 1767225600.0,
    }
    (folder / f"results_{STAMP}.json").write_text(json.dumps(results))


def measure(samples: int, repeats: int) -> dict[str, Any]:
    """Return seconds and peak megabytes of the command, of the slowest of the repeats."""
    with tempfile.TemporaryDirectory() as folder:
        for seed, name in enumerate(("old", "new")):
            write_run(Path(folder, name), samples, seed)
        size = sum(path.stat().st_size for path in Path(folder).glob("*/*"))
        seconds, busy = [], []
        for _ in range(repeats):
            started, before = time.perf_counter(), _busy()
            done = subprocess.run(
                [sys.executable, "-c", ENTRY, "compare", "old", "new", "--format", "json"],
                cwd=folder,
                capture_output=True,
                text=True,
                check=False,
            )
            seconds.append(time.perf_counter() - started)
            busy.append(_busy() - before)
            if done.returncode not in (0, 1):
                raise SystemExit(done.stderr)
            assert len(json.loads(done.stdout)["candidates"][0]["rows"]) == len(METRICS)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024  # KiB on Linux
    return {
        "samples": samples,
        "files_mb": round(size / 1e6, 1),
        "seconds": round(max(seconds), 2),
        "cpu_seconds": round(max(busy), 2),
        "cpu_ms_per_document": round(1000 * max(busy) / samples, 3),
        "peak_mb": round(peak * 1.048576),
    }


def _busy() -> float:
    """Return the processor's seconds of all commands so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    found = measure(arguments.samples, arguments.repeats)
    print(json.dumps(found))
    if arguments.json:
        arguments.json.write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
