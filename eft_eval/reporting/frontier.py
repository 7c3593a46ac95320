"""Frontiers: runs of one composite that differ in nothing but a weight."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from eft_eval.runs.records import Run

__all__ = ["Frontier", "FrontierPoint", "find_frontiers"]


class FrontierPoint(NamedTuple):
    """A run on a frontier.

    Attributes:
        run: Its position among the runs.
        weight: The weight that runs along the frontier.
        weights: All weights, in the order of the deltas.
    """

    run: int
    weight: float
    weights: tuple[float, ...]


class Frontier(NamedTuple):
    """Runs along one weight, by rising weight.

    Attributes:
        delta: The tuned model whose delta the weight multiplies.
        others: How the other weights go with it, in words; empty where they stay as they are.
        points: At least two.
    """

    delta: str
    others: str
    points: tuple[FrontierPoint, ...]


def find_frontiers(runs: Sequence[Run]) -> tuple[Frontier, ...]:
    """Return the frontiers among some runs.

    Runs belong together if their recipes agree in all that changes a result but the weights, and
    the weights lie on one line: one varies, or two do with a constant sum (α and 1 - α).
    """
    groups: dict[str, list[tuple[int, tuple[float, ...]]]] = defaultdict(list)
    for index, run in enumerate(runs):
        identity = run.files[0].config.get("eft_identity") if run.files else None
        if not isinstance(identity, Mapping) or not identity.get("deltas"):
            continue
        deltas = identity["deltas"]
        rest = {**identity, "deltas": [delta[:2] for delta in deltas]}
        words = json.dumps([rest, _sampling(run)], sort_keys=True)
        groups[words].append((index, tuple(float(delta[2]) for delta in deltas)))
    found = (_frontier(runs, group) for group in groups.values())
    return tuple(one for one in found if one is not None)


def _sampling(run: Run) -> dict[str, str]:
    """Return how a run's responses were drawn, by task: runs that differ there are no frontier."""
    return {name: task.generation for name, task in run.tasks.items()}


def _frontier(
    runs: Sequence[Run], group: Sequence[tuple[int, tuple[float, ...]]]
) -> Frontier | None:
    rows = [weights for _, weights in group]
    if len(set(rows)) < 2 or len(set(rows)) < len(rows):
        return None  # the same composite twice is no frontier
    varying = [place for place in range(len(rows[0])) if len({row[place] for row in rows}) > 1]
    if len(varying) > 2:
        return None
    first = varying[0]
    others = ""
    if len(varying) == 2:
        sums = [row[varying[0]] + row[varying[1]] for row in rows]
        if not all(math.isclose(total, sums[0], abs_tol=1e-9) for total in sums):
            return None
        others = f"weight of {_tuned(runs[group[0][0]], varying[1])}: {sums[0]:g} - α"
    points = sorted(
        (FrontierPoint(index, weights[first], weights) for index, weights in group),
        key=lambda point: point.weight,
    )
    return Frontier(_tuned(runs[group[0][0]], first), others, tuple(points))


def _tuned(run: Run, delta: int) -> str:
    """Return what the tuned model of a delta is called."""
    recipe: Any = run.files[0].config.get("eft_recipe") or {}
    deltas = recipe.get("deltas") or []
    if delta >= len(deltas):
        return f"delta {delta + 1}"
    return str(deltas[delta]["tuned"]["model"])
