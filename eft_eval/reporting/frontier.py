"""Frontiers: runs of composites that differ in one value of the recipe alone, and in the base."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any, NamedTuple

from eft_eval.runs.records import Run

__all__ = ["AUTO", "Frontier", "FrontierPoint", "Series", "find_frontiers", "trade_off_pair"]

AUTO = math.inf
"""Where a run stands whose block is chosen anew in every round: at no number, so behind them."""
_UNFILTERED = 1.0  # what weight_top_p is without a filter


class FrontierPoint(NamedTuple):
    """A run on a frontier.

    Attributes:
        run: Its position among the runs.
        value: The value that runs along the frontier; `AUTO` of a block that has none.
    """

    run: int
    value: float

    @property
    def text(self) -> str:
        """The value as it is written in a recipe."""
        return _text(self.value)


class Series(NamedTuple):
    """The runs of one base, by rising value.

    Attributes:
        base: What the base is called.
        points: At least two.
    """

    base: str
    points: tuple[FrontierPoint, ...]


class Frontier(NamedTuple):
    """Runs along one value of the recipe.

    Attributes:
        axis: The value's name: α for a weight, else as in the recipe.
        meaning: What it is, in words; empty where the name says all.
        series: Per base; several where the same deltas were added to several.
    """

    axis: str
    meaning: str
    series: tuple[Series, ...]

    @property
    def values(self) -> tuple[float, ...]:
        """All values, each once, rising."""
        return tuple(sorted({point.value for one in self.series for point in one.points}))

    def at(self, value: float) -> str:
        """Return what stands above a value's column."""
        return f"{self.axis} = {_text(value)}"


class _Composite(NamedTuple):
    run: int
    base: str  # its identity
    weights: tuple[float, ...]
    deltas: Any  # without weights
    top_p: float | None
    block: Any
    rest: Any  # all else that changes a result


class _Placed(NamedTuple):
    run: int
    base: str
    value: float


def find_frontiers(runs: Sequence[Run]) -> tuple[Frontier, ...]:
    """Return the frontiers among some runs.

    Runs belong together if their recipes agree in all that changes a result but one value: a
    weight (or two weights with a constant sum, α and 1 - α), ``weight_top_p``, or ``block``, which
    changes no result but the speed. Runs of several bases are series of one frontier.
    """
    found = [one for index, run in enumerate(runs) if (one := _composite(index, run))]
    frontiers: list[Frontier] = []
    for group in _apart(found, lambda one: (one.deltas, one.top_p, one.rest)):
        frontiers += _of_weights(runs, group)
    for group in _apart(found, lambda one: (one.deltas, one.weights, one.rest)):
        placed = [
            _Placed(one.run, one.base, _UNFILTERED if one.top_p is None else one.top_p)
            for one in group
        ]
        meaning = "nucleus to which the weights are limited; 1 is unfiltered"
        frontiers += _along(runs, "weight_top_p", meaning, placed)
    for group in _alike(found, lambda one: (one.deltas, one.weights, one.top_p, one.rest)):
        placed = [
            _Placed(one.run, one.base, AUTO if one.block == "auto" else float(one.block))
            for one in group
            if one.block == "auto" or isinstance(one.block, int)
        ]
        meaning = "drafted tokens per round, which change the speed and no sample"
        frontiers += _along(runs, "block", meaning, placed)
    return tuple(frontiers)


def trade_off_pair(metrics: Sequence[tuple[str, str]]) -> tuple[int, int] | None:
    """Return which metrics to set against each other: harm and helpfulness, else of two tasks.

    Args:
        metrics: Task and metric of each.

    Returns:
        The places of the one across and the one up; None where there are no two.
    """
    by_metric = {metric: place for place, (_, metric) in reversed([*enumerate(metrics)])}
    if {"harm", "helpfulness"} <= by_metric.keys():
        return by_metric["harm"], by_metric["helpfulness"]
    second = (place for place, (task, _) in enumerate(metrics) if task != metrics[0][0])
    return next(((0, place) for place in second), None)


def _composite(index: int, run: Run) -> _Composite | None:
    config = run.files[0].config if run.files else {}
    identity = config.get("eft_identity")
    if not isinstance(identity, Mapping) or not identity.get("deltas"):
        return None
    deltas = identity["deltas"]
    rest = {k: v for k, v in identity.items() if k not in ("base", "deltas", "weight_top_p")}
    recipe = config.get("eft_recipe")
    decoding = recipe.get("decoding") if isinstance(recipe, Mapping) else None
    # runs whose responses were drawn otherwise are no frontier
    sampling = {name: task.generation for name, task in run.tasks.items()}
    return _Composite(
        run=index,
        base=json.dumps(identity.get("base"), sort_keys=True),
        weights=tuple(float(delta[2]) for delta in deltas),
        deltas=[delta[:2] for delta in deltas],
        top_p=identity.get("weight_top_p"),
        block=decoding.get("block") if isinstance(decoding, Mapping) else None,
        rest=[rest, sampling],
    )


_Same = Callable[[_Composite], Any]  # what composites of a group have in common, as JSON data


def _alike(found: Sequence[_Composite], same: _Same) -> list[list[_Composite]]:
    groups: dict[str, list[_Composite]] = defaultdict(list)
    for one in found:
        groups[json.dumps(same(one), sort_keys=True)].append(one)
    return list(groups.values())


def _apart(found: Sequence[_Composite], same: _Same) -> Iterator[list[_Composite]]:
    """Yield composites that are the same in something; apart by block where all else is equal."""
    for group in _alike(found, same):
        if len({(one.base, one.weights, one.top_p) for one in group}) == len(group):
            yield group
        else:
            yield from _alike(group, lambda one: one.block)


def _of_weights(runs: Sequence[Run], group: Sequence[_Composite]) -> Iterator[Frontier]:
    rows = [one.weights for one in group]
    varying = [place for place in range(len(rows[0])) if len({row[place] for row in rows}) > 1]
    if not 1 <= len(varying) <= 2:
        return
    first = varying[0]
    meaning = f"weight of {_tuned(runs[group[0].run], first)}"
    if len(varying) == 2:
        sums = [row[varying[0]] + row[varying[1]] for row in rows]
        if not all(math.isclose(total, sums[0], abs_tol=1e-9) for total in sums):
            return
        meaning += f"; weight of {_tuned(runs[group[0].run], varying[1])}: {sums[0]:g} - α"
    placed = [_Placed(one.run, one.base, one.weights[first]) for one in group]
    yield from _along(runs, "α", meaning, placed)


def _along(
    runs: Sequence[Run], axis: str, meaning: str, placed: Sequence[_Placed]
) -> Iterator[Frontier]:
    by_base: dict[str, list[FrontierPoint]] = defaultdict(list)
    for one in placed:
        by_base[one.base].append(FrontierPoint(one.run, one.value))
    series = []
    for points in by_base.values():
        if sum(point.value == AUTO for point in points) > 1:  # which of them is not to be said
            points = [point for point in points if point.value != AUTO]
        values = [point.value for point in points]
        if len(values) < 2 or len({*values}) < len(values):
            continue  # the same composite twice is no frontier
        points.sort(key=lambda point: point.value)
        series.append(Series(_base(runs[points[0].run]), tuple(points)))
    if series:
        yield Frontier(axis, meaning, tuple(_told_apart(series)))


def _text(value: float) -> str:
    return "auto" if value == AUTO else f"{value:g}"


def _told_apart(series: Sequence[Series]) -> Iterator[Series]:
    names = [one.base for one in series]
    for place, one in enumerate(series, start=1):
        several = names.count(one.base) > 1
        yield one._replace(base=f"{one.base} ({place})") if several else one


def _recipe(run: Run) -> Mapping[str, Any]:
    recipe = run.files[0].config.get("eft_recipe")
    return recipe if isinstance(recipe, Mapping) else {}


def _named(member: Any) -> str:
    """Return what a member is called, without its folders."""
    name = str(member.get("model")) if isinstance(member, Mapping) else str(member)
    return PurePath(name).name or name


def _base(run: Run) -> str:
    return _named(_recipe(run).get("base"))


def _tuned(run: Run, delta: int) -> str:
    """Return what the tuned model of a delta is called."""
    deltas = _recipe(run).get("deltas") or []
    return _named(deltas[delta].get("tuned")) if delta < len(deltas) else f"delta {delta + 1}"
