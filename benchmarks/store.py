"""What large stores and runs cost: writers that share a store, `verdicts list`, an EEE export.

    python -m benchmarks.store --json store.json

Writers: processes that store verdicts at once, each waited for on the disk. List: the whole command
on a store of `--verdicts`. Export: `eft-eval export --format eee --samples` of a run of
`--documents`, with four metrics and two texts of about 1 kB each, against the same files made in
memory before the first is written.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.comparing import write_run
from benchmarks.judging import fill, make_verdict
from eft_eval.verdicts.store import VerdictStore

COMMAND = "from eft_eval.cli import main; main()"
EXPORT = ("export", "run", "--format", "eee", "--samples", "--organization", "Us", "--out")
AT_ONCE = """
import sys
from pathlib import Path
from eft_eval.exporting.claiming import ClaimSettings, read_claims
from eft_eval.reports.exports.every_eval_ever import Evaluator
from eft_eval.reports.exports.every_eval_ever_samples import eee_files
who = Evaluator("Us", "other", None)
for name, text in eee_files(read_claims(["run"], ClaimSettings()), who, True).items():
    path = Path(sys.argv[1], name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
"""
MEASURED = """
import json, resource, subprocess, sys, time
start = time.perf_counter()
done = subprocess.run([sys.executable, "-c", *sys.argv[1:]], capture_output=True, text=True)
seconds = time.perf_counter() - start
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e6
print(json.dumps({"code": done.returncode, "error": done.stderr, "s": seconds, "mb": peak}))
"""


def put(path: Path, first: int, count: int) -> None:
    """Body of a writer: store verdicts one by one, and print the seconds that each took."""
    store = VerdictStore(path)
    sys.stdin.readline()
    waits = []
    for number in range(first, first + count):
        verdict = replace(make_verdict(number), key=f"put {number}")
        start = time.perf_counter()
        store.put(verdict)
        waits.append(time.perf_counter() - start)
    print(json.dumps(waits))


def write_at_once(path: Path, writers: int, count: int) -> dict[str, float]:
    """Return how long the puts of some writers take that begin at one moment."""
    VerdictStore(path)
    call = [sys.executable, "-m", "benchmarks.store", "--put", str(path), "--puts", str(count)]
    processes = [
        subprocess.Popen(
            [*call, "--first", str(count * number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(writers)
    ]
    time.sleep(3)  # until all have imported
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    waits = [wait for one in processes for wait in json.loads(one.communicate()[0])]
    assert len(VerdictStore(path)) == writers * count
    return {"worst_put_s": max(waits), "median_put_s": statistics.median(waits)}


def measured(code: str, arguments: Sequence[str], folder: Path) -> dict[str, float]:
    """Return seconds and peak megabytes of a program."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, code, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    if found["code"]:
        raise SystemExit(found["error"])
    return {"s": found["s"], "mb": found["mb"]}


def export(folder: Path, documents: int, repeats: int) -> dict[str, Any]:
    """Return what an export costs, streaming and at once, in turns."""
    write_run(folder / "run", documents, 0)
    found: dict[str, list[dict[str, float]]] = {"streamed": [], "at_once": []}
    for number in range(repeats):
        out = f"out{number}"
        found["streamed"].append(measured(COMMAND, [*EXPORT, out], folder))
        found["at_once"].append(measured(AT_ONCE, [f"{out}-at-once"], folder))
        made, also = (
            {path.name: path.read_bytes() for path in (folder / name).rglob("*.json*")}
            for name in (out, f"{out}-at-once")
        )
        assert made == also
        assert made
    return {
        f"{how}_{what}": round(statistics.median(one[what] for one in runs), 2)
        for how, runs in found.items()
        for what in ("s", "mb")
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--json", type=Path, help="write all figures here")
    parser.add_argument("--writers", type=int, default=10)
    parser.add_argument("--puts", type=int, default=100, help="of each writer")
    parser.add_argument("--verdicts", type=int, default=1_000_000)
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--put", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--first", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.put:
        put(options.put, options.first, options.puts)
        return
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        runs = [
            write_at_once(folder / f"shared{number}", options.writers, options.puts)
            for number in range(options.repeats)
        ]
        found["writers"] = {what: max(one[what] for one in runs) for what in runs[0]}
        fill(folder / "store", options.verdicts)
        listed = ["verdicts", "list", "--store", "store"]
        lists = [measured(COMMAND, listed, folder) for _ in range(options.repeats)]
        found["list"] = {what: max(one[what] for one in lists) for what in ("s", "mb")}
        found["export"] = export(folder, options.documents, options.repeats)
    print(json.dumps(found, indent=1))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
