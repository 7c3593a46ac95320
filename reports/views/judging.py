"""What judging gave, in the terminal; computes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from eft_eval.reports.views.recipes import make_console

__all__ = ["print_judged"]

_Record = Mapping[str, Any]


def print_judged(
    results: Mapping[str, _Record], judges: Mapping[str, _Record], console: Console | None = None
) -> None:
    """Print metrics with errors and bounds, then what was learnt about the judge.

    Args:
        results: Per task, lm-eval's ``metric,filter`` and ``metric_stderr,filter`` values.
        judges: Per task, what the results file says of the judge.
        console: Where to; the terminal by default.
    """
    out = console or make_console()
    for task, entry in results.items():
        judge = judges[task]
        out.print(_metrics(task, entry, judge))
        out.print("bounds: with the lowest or highest value for all that is unknown")
        if count := judge.get("responses_with_score_line"):
            out.print(f"{task}: responses with a score line of their own, to be looked at: {count}")
        if count := judge.get("read_as_fractions"):
            out.print(
                f"{task}: scores below 1 without a %, such as 0.85, read as fractions: {count}"
            )
        for kind, title in (("bridge", "old judge against new"), ("drift", "stored against today")):
            for name, comparison in judge.get(kind, {}).items():
                if comparison is None:
                    out.print(f"{task}, {name}: nothing is stored to compare with")
                else:
                    out.print(_comparison(f"{task}, {name}: {title}", comparison))
                    for warning in comparison["warnings"]:
                        out.print(f"  {warning}", highlight=False)
        for name, found in judge.get("self_agreement", {}).items():
            out.print(_self_agreement(f"{task}, {name}: the judge against itself", found))


def _metrics(task: str, entry: _Record, judge: _Record) -> Table:
    table = Table(title=f"{task}, judged by {judge['model']}", title_justify="left")
    table.add_column("metric", no_wrap=True)
    table.add_column("filter", no_wrap=True)
    for column in ("value", "standard error", "bounds", "refused, unreadable, missing"):
        table.add_column(column, justify="right")
    for key, value in entry.items():
        name, _, pipeline = key.partition(",")
        if not pipeline or name.endswith("_stderr"):
            continue
        error = entry.get(f"{name}_stderr,{pipeline}")
        bounds = judge.get("bounds", {}).get(key)
        ends = _ends(bounds) if bounds else ""
        unknown = str(bounds["unknown"]) if bounds else ""
        table.add_row(name, pipeline, _number(value), _number(error), ends, unknown)
    return table


def _comparison(title: str, found: _Record) -> Table:
    old, new = found["old"], found["new"]
    table = Table(title=title, title_justify="left")
    table.add_column("", no_wrap=True)
    table.add_column("value", justify="right")
    table.add_column("95 % interval", justify="right")
    unscored = f"{found['only_old']} / {found['only_new']} / {found['neither']}"
    rule, metric = found["rule"], found["metric"]
    rows: list[tuple[str, Any, _Record | None]] = [
        ("first", f"{', '.join(old['models'])}, {old['last']}", None),
        ("second", f"{', '.join(new['models'])}, {new['last']}", None),
        ("responses that both scored", str(found["n"]), None),
        ("scored by first only / second only / neither", unscored, None),
        (f"agreement ({rule})", None, found["agreement"]),
        (f"κ ({rule})", None, found["kappa"]),
        (f"share {rule}: first", found["old_rate"], None),
        (f"share {rule}: second", found["new_rate"], None),
        ("exactly equal values", found["equal"], None),
        ("κ of the values, quadratic weights", None, found["weighted_kappa"]),
        (f"mean {metric}: first", found["old_mean"], None),
        (f"mean {metric}: second", found["new_mean"], None),
        ("offset: second minus first, paired", None, found["offset"]),
    ]
    for label, value, interval in rows:
        _row(table, label, value, interval)
    return table


def _self_agreement(title: str, found: _Record) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("", no_wrap=True)
    table.add_column("value", justify="right")
    table.add_column("95 % interval", justify="right")
    _row(table, "times asked", str(found["repeats"]), None)
    _row(table, "responses scored every time", str(found["n"]), None)
    _row(table, "responses scored only sometimes", str(found["incomplete"]), None)
    _row(table, f"agreement of two askings ({found['rule']})", None, found["agreement"])
    _row(table, f"κ of two askings ({found['rule']})", found["kappa"], None)
    _row(table, "exactly equal values", found["exact"], None)
    _row(table, f"standard deviation of {found['metric']} within a response", found["sd"], None)
    return table


def _row(table: Table, label: str, value: Any, interval: _Record | None) -> None:
    if interval is None:
        table.add_row(label, value if isinstance(value, str) else _number(value), "")
        return
    table.add_row(label, _number(interval["estimate"]), _ends(interval))


def _ends(interval: _Record) -> str:
    if interval["lower"] is None and interval["upper"] is None:
        return "unknown"
    return f"{_number(interval['lower'])} to {_number(interval['upper'])}"


def _number(value: Any) -> str:
    if value is None:
        return "unknown"
    return f"{value:.4f}" if isinstance(value, (int, float)) else str(value)
