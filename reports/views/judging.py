"""What judging gave: metrics with errors and bounds, then what was learnt about the judge."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from eft_eval.reports.document import Cell, Document, Table, Texts, cells, columns, warnings
from eft_eval.reports.numbers import number
from eft_eval.runs.judged import Judging

__all__ = ["judged"]

_Record = Mapping[str, Any]
_FOUND = columns("", numbers=("value", "95 % interval"))


def judged(results: Mapping[str, _Record], judges: Mapping[str, Judging]) -> Document:
    """Return the tables of every judged task.

    Args:
        results: Per task, lm-eval's ``metric,filter`` and ``metric_stderr,filter`` values.
        judges: Per task, what the results file says of the judge.
    """
    blocks: list[Table | Texts] = []
    for task, entry in results.items():
        judge = judges[task]
        blocks.append(_metrics(task, entry, judge))
        if lines := tuple(_looked_at(task, judge)):
            blocks.append(Texts(lines))
        compared = (
            ("old judge against new", judge.bridge),
            ("stored against today", judge.drift),
        )
        for title, found in compared:
            for name, comparison in (found or {}).items():
                if comparison is None:
                    blocks.append(Texts((f"{task}, {name}: nothing is stored to compare with",)))
                else:
                    blocks.append(_comparison(f"{task}, {name}: {title}", comparison))
                    blocks += warnings(comparison["warnings"])
        for name, found in (judge.panel or {}).items():
            blocks += _panel(f"{task}, {name}: the judges among each other", found)
        for name, agreement in (judge.self_agreement or {}).items():
            blocks.append(_self_agreement(f"{task}, {name}: the judge against itself", agreement))
    return tuple(blocks)


def _looked_at(task: str, judge: Judging) -> Iterator[str]:
    if count := judge.responses_with_score_line:
        yield f"{task}: responses with a score line of their own, to be looked at: {count}"
    if count := judge.read_as_fractions:
        yield f"{task}: scores below 1 without a %, such as 0.85, read as fractions: {count}"


def _metrics(task: str, entry: _Record, judge: Judging) -> Table:
    rows = []
    for key, value in entry.items():
        name, _, pipeline = key.partition(",")
        if not pipeline or name.endswith("_stderr"):
            continue
        error = entry.get(f"{name}_stderr,{pipeline}")
        bounds = (judge.bounds or {}).get(key)
        if bounds is None and pipeline in (judge.judges or {}):
            continue  # of one judge of a panel its scores, with how many it left without one
        ends = _ends(bounds._asdict()) if bounds else ""
        unknown = str(bounds.unknown) if bounds else ""
        rows.append(cells(name, pipeline, _number(value), _number(error), ends, unknown))
    numbers = ("value", "standard error", "bounds", "refused, unreadable, missing")
    note = "bounds: with the lowest or highest value for all that is unknown"
    heads = columns("metric", "filter", numbers=numbers)
    return Table(f"{task}, judged by {judge.model}", heads, tuple(rows), note)


def _comparison(title: str, found: _Record) -> Table:
    old, new = found["old"], found["new"]
    unscored = f"{found['only_old']} / {found['only_new']} / {found['neither']}"
    rule, metric = found["rule"], found["metric"]
    rows = (
        _row("first", f"{', '.join(old['models'])}, {old['last']}"),
        _row("second", f"{', '.join(new['models'])}, {new['last']}"),
        _row("responses that both scored", str(found["n"])),
        _row("scored by first only / second only / neither", unscored),
        _row(f"agreement ({rule})", found["agreement"]),
        _row(f"κ ({rule})", found["kappa"]),
        _row(f"share {rule}: first", found["old_rate"]),
        _row(f"share {rule}: second", found["new_rate"]),
        _row("exactly equal values", found["equal"]),
        _row("κ of the values, quadratic weights", found["weighted_kappa"]),
        _row(f"mean {metric}: first", found["old_mean"]),
        _row(f"mean {metric}: second", found["new_mean"]),
        _row("offset: second minus first, paired", found["offset"]),
    )
    return Table(title, _FOUND, rows)


def _panel(title: str, found: _Record) -> Iterator[Table | Texts]:
    judges, rule = found["judges"], found["rule"]
    rows = [
        _row(f"responses that {count} of {len(judges)} judges scored", str(number))
        for count, number in found["scored_by"].items()
    ]
    rows.append(_row(f"of all judges' responses, tied ({rule})", str(found["tied"])))
    for alpha in found["alphas"]:
        of = rule if alpha["metric"] == "nominal" else "values, interval"
        name = f"Krippendorff's α ({of}), {alpha['items']} responses"
        rows.append(_row(name, alpha["interval"]))
    note = "the panel scores a response where every judge does; a tied one has no class"
    yield Table(title, _FOUND, tuple(rows), note)
    pairs = [
        cells(
            one["first"],
            one["second"],
            str(one["n"]),
            _estimate(one["agreement"]),
            _estimate(one["kappa"]),
            _estimate(one["weighted_kappa"]),
            _estimate(one["offset"]),
        )
        for one in found["pairs"]
    ]
    numbers = ("n", f"agreement ({rule})", "κ", "κ, quadratic weights", "second minus first")
    offset = f"second minus first: mean difference of {found['metric']}, paired by response"
    heads = columns("first", "second", numbers=numbers)
    yield Table("Every two judges, with 95 % intervals", heads, tuple(pairs), offset)
    doubts = [(f"α ({one['metric']})", one["warnings"]) for one in found["alphas"]]
    doubts += [(f"{one['first']} and {one['second']}", one["warnings"]) for one in found["pairs"]]
    yield from warnings([f"{what}: {text}" for what, texts in doubts for text in texts])


def _estimate(interval: _Record) -> str:
    if interval["estimate"] is None:
        return "unknown"
    return f"{_number(interval['estimate'])} ({_ends(interval)})"


def _self_agreement(title: str, found: _Record) -> Table:
    rows = (
        _row("times asked", str(found["repeats"])),
        _row("responses scored every time", str(found["n"])),
        _row("responses scored only sometimes", str(found["incomplete"])),
        _row(f"agreement of two askings ({found['rule']})", found["agreement"]),
        _row(f"κ of two askings ({found['rule']})", found["kappa"]),
        _row("exactly equal values", found["exact"]),
        _row(f"standard deviation of {found['metric']} within a response", found["sd"]),
    )
    return Table(title, _FOUND, rows)


def _row(label: str, value: Any) -> tuple[Cell, ...]:
    """Return a row of a value that is text, a number, or an interval as a record."""
    if isinstance(value, Mapping):
        return cells(label, _number(value["estimate"]), _ends(value))
    return cells(label, _number(value), "")


def _ends(interval: _Record) -> str:
    if interval["lower"] is None and interval["upper"] is None:
        return "unknown"
    return f"{_number(interval['lower'])} to {_number(interval['upper'])}"


def _number(value: Any) -> str:
    if value is None:
        return "unknown"
    return number(value) if isinstance(value, (int, float)) else str(value)
