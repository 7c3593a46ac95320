"""How long `eft-eval view` takes over a run of many documents.

python -m benchmarks.browser --documents 100000 --json FILE
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

STAMP = "2026-11-20T10-00-00.000000"
WORDS = "The river runs past the old mill and turns at the bridge where people meet. "


def main() -> None:
    """Write two runs, start the server over them, and time its answers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name, step in (("old", 3), ("new", 4)):
            _write(Path(folder) / name, options.documents, step)
        found = _measured(Path(folder), options.documents)
    print(json.dumps(found, indent=1))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


def _write(folder: Path, documents: int, step: int) -> None:
    folder.mkdir()
    metric = {"metric": "errors", "aggregation": "mean", "higher_is_better": False}
    results = {
        "results": {"facts": {"alias": "facts", "errors,judge": 0.5}},
        "configs": {"facts": {"task": "facts", "metric_list": [metric]}},
        "n-samples": {"facts": {"original": documents, "effective": documents}},
        "higher_is_better": {"facts": {"errors": False}},
        "model_name": folder.name,
        "lm_eval_version": "0.4.13",
    }
    (folder / f"results_{STAMP}.json").write_text(json.dumps(results), "utf-8")
    with (folder / f"samples_facts_{STAMP}.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(_sample(i, step)) + "\n" for i in range(documents))


def _sample(number: int, step: int) -> dict[str, Any]:
    value = float(number % step == 0)
    verdict = {
        "key": "k", "status": "scored", "value": value, "reason": WORDS * 4, "raw": WORDS * 5,
        "judge_model": "judge", "prompt_name": "factuality", "prompt_sha256": "ab" * 32,
        "parameters": {"temperature": 0},
    }  # fmt: skip
    prompt = f"Question {number}: {WORDS * 3}"
    texts = (f"document {number}", prompt, "target")
    names = ("doc_hash", "prompt_hash", "target_hash")
    hashes = {n: hashlib.sha256(t.encode()).hexdigest() for n, t in zip(names, texts, strict=True)}
    return {
        "doc_id": number,
        "doc": {"text": texts[0], "question": prompt},
        "target": "target",
        "arguments": {"gen_args_0": {"arg_0": prompt, "arg_1": {"until": ["\n\n"]}}},
        "resps": [[WORDS * 8]],
        "filtered_resps": [json.dumps([verdict])],
        "filter": "judge",
        "metrics": ["errors"],
        "errors": value,
        **hashes,
    }


def _measured(folder: Path, documents: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "eft_eval", "view", str(folder), "--no-browser"]
    started = time.perf_counter()
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        address = server.stdout.readline().split()[0]
        found: dict[str, Any] = {"documents": documents, "megabytes": _megabytes(folder)}
        found["server ready"] = time.perf_counter() - started
        found["list of runs"], runs = _timed(address, "runs", {})
        by_name = {one["model"]: one["id"] for one in runs["runs"]}
        given = {"run": by_name["new"], "task": "facts"}
        found["first page"], page = _timed(address, "documents", given)
        assert len(page["documents"]) == page["page"]
        started = time.perf_counter()
        while not page["complete"]:
            time.sleep(0.5)
            page = _timed(address, "documents", given)[1]
        found["index of one file"] = time.perf_counter() - started
        assert page["total"] == documents
        found["filter by score"], page = _timed(
            address, "documents", {**given, "metric": "errors", "least": "1"}
        )
        found["last page"] = _timed(address, "documents", {**given, "first": documents - 50})[0]
        found["one document"] = _timed(address, "document", {**given, "at": documents - 1})[0]
        flips = {**given, "other": by_name["old"], "metric": "errors", "change": "higher"}
        started, complete = time.perf_counter(), False
        while not complete:
            page = _timed(address, "documents", flips)[1]
            complete = page["complete"]
        found["flips of two runs, the second file unread"] = time.perf_counter() - started
        found["flips of two runs again"], page = _timed(address, "documents", flips)
        assert page["total"] == sum(i % 4 == 0 and i % 3 != 0 for i in range(documents))
    finally:
        server.terminate()
        ended = server.wait(10)
    assert ended == 0
    found["peak memory in MB"] = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
    return {name: round(x, 3) if isinstance(x, float) else x for name, x in found.items()}


def _megabytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*.jsonl")) // 10**6


def _timed(address: str, question: str, given: dict[str, Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    with urllib.request.urlopen(f"{address}api/{question}?{urlencode(given)}") as answer:
        content = json.load(answer)
    return time.perf_counter() - started, content


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
