"""Judged runs in memory, of a judge that loses verdicts: many in a second, for simulations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eft_eval.runs.records import Column, ItemSeen, MetricKey, Pipeline, Run, TaskRun

FILTER = "factuality"
_STATUS = {"missing": "api_error", "refused": "refused", "unreadable": "malformed"}


def judged_run(
    label: str, errors: Sequence[float], lost: Sequence[bool], share: str = "missing"
) -> Run:
    """Return a run of one judged task.

    Args:
        label: Its name.
        errors: Per document 1 where the response has an error, else 0.
        lost: Per document whether the judge gave no verdict.
        share: How it was lost: missing, refused or unreadable.
    """
    n = len(errors)
    items = tuple(ItemSeen(i, f"doc {i:05}", f"prompt {i}", f"prompt {i}") for i in range(n))
    values = tuple(None if gone else float(e) for e, gone in zip(errors, lost, strict=True))
    known = [value for value in values if value is not None]
    found = {"fact_any_error": (values, sum(known) / len(known) if known else None)}
    for name in _STATUS:
        gone = tuple(float(one and name == share) for one in lost)
        found[f"fact_{name}"] = (gone, sum(gone) / n)
    columns = {
        MetricKey(name, FILTER): Column(MetricKey(name, FILTER), mean, None, False, some, True)
        for name, (some, mean) in found.items()
    }
    counts = Counter(_STATUS[share] if gone else "scored" for gone in lost)
    pipeline = Pipeline(FILTER, items, dict(counts), None, 1)
    task = TaskRun(
        name="t",
        version="1",
        shots=0,
        repeats=1,
        documents=n,
        generation="{}",
        bypassed=False,
        columns=columns,
        pipelines={FILTER: pipeline},
        results_file=Path("results.json"),
        samples_file=None,
    )
    return Run(label, label, "", "0.4.13", {"t": task}, {}, ())


def two_models(generator: Any, n: int, rate: float, drop: float, agree: float = 0.6) -> Any:
    """Return two models' errors on the same documents, as columns of 0 and 1.

    Args:
        generator: Of the random numbers.
        n: Documents.
        rate: The first one's rate of errors.
        drop: By how much the second one's is higher.
        agree: Share of the documents on which both err for the same reason.
    """
    same = generator.random(n) < agree
    shared, own = generator.random(n), generator.random(n)
    return shared < rate, np.where(same, shared, own) < rate + drop


def lost_of(generator: Any, errors: Any, share: float, kind: str) -> Any:
    """Return which responses a judge loses.

    Args:
        generator: Of the random numbers.
        errors: Per document whether the response has an error.
        share: How many of all are lost.
        kind: ``random``; or ``bad``, ``good``: such responses first.
    """
    order = generator.random(len(errors))
    if kind != "random":
        order += np.where(errors == (kind == "bad"), 0, 1)
    lost = np.zeros(len(errors), dtype=bool)
    lost[np.argsort(order)[: round(share * len(errors))]] = True
    return lost
