"""The plan of a run: memory of a device, whether it fits, time and cost."""

from __future__ import annotations

from typing import Any

from eft_eval.judging.cost.estimate import Estimate
from eft_eval.plans.plan import Plan
from eft_eval.reports.document import Document, Table, Texts, cells, columns, warnings
from eft_eval.secrets import without_credentials

__all__ = ["duration", "gib", "judging_line", "plan", "plan_record"]

_MINUTE, _HOUR, _DAY = 60, 3600, 48 * 3600


def plan(found: Plan, judging: Estimate | None, judge: str | None) -> Document:
    """Return what a run would take.

    Args:
        found: Memory and time.
        judging: What a judge would take; None: nobody is asked.
        judge: Its name.
    """
    memory = found.memory
    rows = [cells(f"weights: {label}", gib(size)) for label, size in memory.weights.items()]
    rows += [cells(f"cache: {label}", gib(size)) for label, size in memory.caches.items()]
    parts = {
        "the draft's own copy": memory.draft,
        "scores": memory.scores,
        "activations": memory.activations,
        "driver, kernels, libraries": memory.runtime,
    }
    rows += [cells(name, gib(size)) for name, size in parts.items() if size]
    rows.append(cells("in all", gib(memory.total)))
    rows.append(cells("there is", gib(memory.available)))
    spread = found.spread
    caption = (
        f"{found.name}, {found.engine} on {found.hardware}: GiB of the fullest device; a copy on "
        f"{spread.ranks}, {spread.rows} rows of {spread.length:,} tokens"
    )
    blocks: list[Table | Texts] = [Table(caption, columns("", numbers=("GiB",)), tuple(rows))]
    if memory.fits:
        blocks.append(_time(found, judging, judge))
    else:
        tried = found.remedies or (
            "nothing that was tried: smaller rows, fewer bits, more devices",
        )
        blocks.append(Texts(("It does not fit. It would with:", *tried), warn=True))
        if judging is not None:
            blocks.append(Texts((judging_line(judging, judge),)))
    return (*blocks, *warnings(found.notes))


def _time(found: Plan, judging: Estimate | None, judge: str | None) -> Table:
    speed = found.speed
    rows = [
        cells("copies side by side", f"{speed.copies:,}"),
        cells("tokens of responses a second", f"{speed.decoding:,.0f}"),
        cells("tokens of prompts a second", f"{speed.reading:,.0f}"),
        cells("drafted tokens a round", f"{speed.block}"),
        cells("tokens a round", f"{speed.tokens_per_round:.2f}"),
        cells("generation", duration(speed.generation_seconds)),
    ]
    if speed.scoring_seconds:
        rows.append(cells("log-probabilities", duration(speed.scoring_seconds)))
    if judging is not None:
        rows.append(cells(*judging_line(judging, judge).split(": ", 1)))
    note = "from bytes, passes and acceptance; loading is not counted (docs/scale.md)"
    return Table("It fits", columns("", numbers=("",)), tuple(rows), note)


def judging_line(found: Estimate, judge: str | None) -> str:
    """Return calls and price of a judge in a line."""
    cost = "price unknown" if found.cost_usd is None else f"${found.cost_usd:,.2f}"
    worst = "" if found.worst_usd is None else f", ${found.worst_usd:,.2f} at most"
    return f"judge {without_credentials(judge)}, {found.new:,} calls: {cost}{worst}"


def plan_record(found: Plan, judging: Estimate | None, judge: str | None) -> dict[str, Any]:
    """Return the same as JSON data; bytes and seconds."""
    memory, speed, device = found.memory, found.speed, found.hardware.device
    return {
        "composite": found.name,
        "engine": found.engine,
        "hardware": {
            "device": device.name,
            "count": found.hardware.number,
            "memory": device.memory,
            "bandwidth": device.bandwidth,
            "compute": device.compute,
        },
        "ranks": found.spread.ranks,
        "rows": found.spread.rows,
        "longest_row": found.spread.length,
        "fits": memory.fits,
        "memory": {
            "weights": dict(memory.weights),
            "caches": dict(memory.caches),
            "draft": memory.draft,
            "scores": memory.scores,
            "activations": memory.activations,
            "runtime": memory.runtime,
            "total": memory.total,
            "available": memory.available,
        },
        "speed": speed._asdict() if memory.fits else None,
        "judging": None
        if judging is None
        else {"judge": without_credentials(judge), **judging._asdict()},
        "remedies": list(found.remedies),
        "notes": list(found.notes),
    }


def gib(size: float) -> str:
    """Return bytes in GiB."""
    value = size / 2**30
    return f"{value:,.2f}" if value >= 0.1 else f"{value:.1g}"


def duration(seconds: float) -> str:
    """Return seconds in the unit that fits."""
    for limit, unit, name in ((_MINUTE, 1, "s"), (_HOUR, _MINUTE, "min"), (_DAY, _HOUR, "h")):
        if seconds < limit:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds / 86400:,.3g} days"
