"""A pair of trainings: what they would take, and what they found."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eft_eval.reports.document import Document, Table, Texts, cells, columns, warnings
from eft_eval.reports.views.plans import gib
from eft_eval.statistics.interval import Interval
from eft_eval.training.figures import Figures

__all__ = ["left_out_lines", "training_plan", "training_results"]


def training_plan(sides: Mapping[str, Mapping[str, Any]], memory: Mapping[str, int]) -> Document:
    """Return what is trained on, steps and tokens of each model, and memory.

    Args:
        sides: Per model its numbers: pairs, held_out, left_out, steps, tokens, done, origin.
        memory: Bytes by what holds them.
    """
    numbers = ("pairs", "held out", "steps", "steps done", "tokens")
    rows = [
        cells(
            name,
            one["origin"],
            *(f"{one[key]:,}" for key in ("pairs", "held_out", "steps", "done", "tokens")),
        )
        for name, one in sides.items()
    ]
    table = Table("Training", columns("model", "data", numbers=numbers), tuple(rows))
    held = [cells(name, gib(size)) for name, size in memory.items()]
    held.append(cells("in all", gib(sum(memory.values()))))
    memories = Table("Memory of one training, about", columns("", numbers=("GiB",)), tuple(held))
    return table, memories, *warnings([*left_out_lines(sides)])


def left_out_lines(sides: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return a line for each model of whose rows some are not used."""
    found = []
    for name, one in sides.items():
        if one["left_out"]:
            reasons = ", ".join(f"{count:,} {reason}" for reason, count in one["left_out"].items())
            found.append(f"{name}: rows left out: {reasons}")
    return found


def training_results(figures: Mapping[str, Figures], family: Path) -> Document:
    """Return what both trainings found, and what uses the models.

    Args:
        figures: Of each model.
        family: The file of the family that they make.
    """
    numbers = ("pairs", "steps", "loss", "margin", "accuracy", "held-out margin",
               "held-out accuracy")  # fmt: skip
    rows = [
        cells(
            name,
            f"{one.pairs:,}",
            f"{one.steps:,}",
            *(f"{first:.3f} → {last:.3f}" for first, last in (one.loss, one.margin, one.accuracy)),
            _interval(one.held_out.margin),
            f"{_interval(one.held_out.accuracy)} of {one.held_out.pairs:,}",
        )
        for name, one in figures.items()
    ]
    note = (
        "loss, margin and accuracy: means of the first and of the last tenth of the steps; before "
        "training every margin is 0"
    )
    table = Table("Trained", columns("model", numbers=numbers), tuple(rows), note)
    command = shlex.join(["eft-eval", "study", "frontier", "--family", str(family)])
    return table, Texts((command,))


def _interval(found: Interval) -> str:
    if not math.isfinite(found.lower):
        return f"{found.estimate:.3f}"
    return f"{found.estimate:.3f} [{found.lower:.3f}, {found.upper:.3f}]"
