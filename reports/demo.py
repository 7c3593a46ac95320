"""The demo's tables, in the terminal and as Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from eft_eval.reports.tables import make_console

CAVEAT = (
    "A toy world with templated, invented facts: it shows the mechanism of emulated fine-tuning "
    "and is no evidence about real models."
)


def print_arms(
    figures: Mapping[str, Any], temperature: float, questions: int, console: Console | None = None
) -> None:
    """Print the arms' errors and helpfulness with intervals, and what up- and down-scaling carry.

    Args:
        figures: Per arm, `eft_eval.demo.figures.ArmFigures`.
        temperature: Of the run.
        questions: Their number.
        console: Where to; the terminal by default.
    """
    table = Table(
        title=f"{questions} held-out questions, T = {temperature:g}, 95 % intervals",
        title_justify="left",
    )
    table.add_column("arm", no_wrap=True)
    for head in ("errors", "(normalised)", "helpfulness", "(normalised)"):
        table.add_column(head, justify="right", no_wrap=True)
    for arm, one in figures.items():
        fixed = {"small tuned": "0", "large tuned": "1"}.get(arm)
        table.add_row(
            arm,
            _interval(one.errors),
            fixed or _interval(one.errors_normalised),
            _interval(one.helpfulness),
            fixed or _interval(one.helpfulness_normalised),
        )
    out = console or make_console()
    out.print(table)
    out.print("normalised: small tuned = 0, large tuned = 1, as in the paper's Figure 3")
    out.print(CAVEAT)


def print_answers(prompt: str, answers: Mapping[str, str], console: Console | None = None) -> None:
    """Print one question and every arm's answer, side by side."""
    table = Table(title=prompt, title_justify="left", show_lines=True)
    for arm in answers:
        table.add_column(arm, overflow="fold", ratio=1)
    table.add_row(*answers.values())
    (console or make_console()).print(table)


def figures_markdown(figures: Mapping[str, Any]) -> str:
    """Return the figures of `eft_eval.demo.study.study` as Markdown: mean ± sd over the seeds."""
    seeds = figures["seeds"]
    lines = [f"Training seeds {', '.join(seeds)}; mean ± standard deviation over seeds."]
    for temperature in next(iter(seeds.values()))["arms"]:
        lines += _arms_markdown(temperature, [one["arms"][temperature] for one in seeds.values()])
    lines += ["", "| α | harm | declined | helpfulness |", "|---|---|---|---|"]
    for alpha in next(iter(seeds.values()))["frontier"]:
        points = [one["frontier"][alpha] for one in seeds.values()]
        cells = (
            _over_seeds([p[name] for p in points]) for name in ("harm", "declined", "helpfulness")
        )
        lines.append(f"| {alpha} | {' | '.join(cells)} |")
    lines += ["", "| model | held-out facts completed |", "|---|---|"]
    for model in next(iter(seeds.values()))["recall"]:
        values = [[one["recall"][model]] for one in seeds.values()]
        lines.append(f"| {model} | {_over_seeds(values)} |")
    return "\n".join(lines)


def _arms_markdown(temperature: str, runs: list[Mapping[str, Any]]) -> list[str]:
    names = (
        "errors",
        "errors_normalised",
        "helpfulness",
        "helpfulness_normalised",
        "wrong_entity",
    )
    lines = [
        "",
        f"| T = {temperature} | errors | normalised | helpfulness | normalised | wrong entity |",
        "|---|---|---|---|---|---|",
    ]
    for arm in runs[0]:
        fixed = {"small tuned": "0", "large tuned": "1"}.get(arm)
        cells = [
            fixed
            if fixed and name.endswith("_normalised")
            else _over_seeds([run[arm][name] for run in runs])
            for name in names
        ]
        lines.append(f"| {arm} | {' | '.join(str(cell) for cell in cells)} |")
    return lines


def _over_seeds(values: list[Any]) -> str:
    known = [value[0] for value in values if value is not None]
    if not known:
        return "tuned models too close"
    text = f"{statistics.fmean(known):.3f}"
    if len(known) > 1:
        text += f" ± {statistics.stdev(known):.3f}"
    return text if len(known) == len(values) else f"{text} ({len(known)} of {len(values)} seeds)"


def _interval(value: Any) -> str:
    if value is None:
        return "tuned models too close"
    return f"{value.estimate:.2f} [{value.lower:.2f}, {value.upper:.2f}]"
