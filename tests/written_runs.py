"""Runs in lm-eval's layout with given numbers, for tests that need known differences."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Columns = Mapping[str, Sequence[float | None]]
STAMP = "2026-11-20T10-00-00.000000"


def text_hash(text: str) -> str:
    """Return lm-eval's hash of a text."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def mean_of(values: Sequence[float | None]) -> float:
    """Return the mean of the numbers; NaN without any."""
    numbers = [value for value in values if value is not None]
    return sum(numbers) / len(numbers) if numbers else float("nan")


def write_run(
    output: Path,
    tasks: Mapping[str, Columns],
    *,
    model: str = "model",
    stamp: str = STAMP,
    prompts: Sequence[str] | None = None,
    documents: Sequence[str] | None = None,
    better: Mapping[str, bool] | None = None,
    filter_name: str = "none",
    version: float = 1.0,
    changes: Mapping[str, Any] | None = None,
    responses: Sequence[str] | None = None,
    filtered: Sequence[str] | None = None,
) -> Path:
    """Write a run and return its folder.

    Args:
        output: As lm-eval's ``--output_path``.
        tasks: Per task and metric the numbers, in the order of the documents.
        model: Its name, and its folder's.
        stamp: The date in the names.
        prompts: Per document; equal ones are one cluster. By default all differ.
        documents: Per document its content; by default all differ.
        better: Whether higher is better, by metric; by default it is.
        filter_name: Of all metrics.
        version: Of the tasks.
        changes: Keys of the results file to replace.
        responses: Per document the response.
        filtered: Per document what the filter made of it, such as verdicts.
    """
    folder = output / model
    folder.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {
        "results": {},
        "configs": {},
        "versions": dict.fromkeys(tasks, version),
        "n-shot": dict.fromkeys(tasks, 0),
        "n-samples": {},
        "higher_is_better": {},
        "task_hashes": {},
        "model_name": model,
        "lm_eval_version": "0.4.13",
    }
    for task, columns in tasks.items():
        n = len(next(iter(columns.values())))
        texts = documents or [f"{task} document {i}" for i in range(n)]
        contexts = prompts or [f"{task} prompt {i}" for i in range(n)]
        lines, digest = [], hashlib.sha256()
        for i in range(n):
            hashes = [text_hash(texts[i]), text_hash(contexts[i]), text_hash("target")]
            digest.update("".join(hashes).encode())
            sample = {
                "doc_id": i,
                "doc": {"text": texts[i]},
                "target": "target",
                "arguments": {"gen_args_0": {"arg_0": contexts[i]}},
                "resps": [[responses[i] if responses else "response"]],
                "filtered_resps": [filtered[i] if filtered else "response"],
                "filter": filter_name,
                "metrics": list(columns),
                **dict(zip(("doc_hash", "prompt_hash", "target_hash"), hashes, strict=True)),
                **{metric: values[i] for metric, values in columns.items()},
            }
            lines.append(json.dumps(sample))
        (folder / f"samples_{task}_{stamp}.jsonl").write_text("\n".join(lines) + "\n")
        entry = {f"{metric},{filter_name}": mean_of(values) for metric, values in columns.items()}
        errors = {f"{metric}_stderr,{filter_name}": "N/A" for metric in columns}
        results["results"][task] = {"alias": task, **entry, **errors}
        results["configs"][task] = {
            "task": task,
            "repeats": 1,
            "metric_list": [{"metric": metric, "aggregation": "mean"} for metric in columns],
        }
        results["n-samples"][task] = {"original": n, "effective": n}
        known = better or {}
        results["higher_is_better"][task] = {metric: known.get(metric, True) for metric in columns}
        results["task_hashes"][task] = digest.hexdigest()
    results.update(changes or {})
    (folder / f"results_{stamp}.json").write_text(json.dumps(results, indent=1))
    return folder
