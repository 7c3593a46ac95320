"""The demo's tables, in the terminal and as Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from eft_eval.reports.views.recipes import make_console

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
        fixed = _ENDS.get(arm)
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
    # Text, not str: brackets in a prompt or an answer are no markup
    table = Table(title=Text(prompt), title_justify="left", show_lines=True)
    for arm in answers:
        table.add_column(arm, overflow="fold", ratio=1)
    table.add_row(*(Text(answer) for answer in answers.values()))
    (console or make_console()).print(table)


def figures_markdown(figures: Mapping[str, Any]) -> str:
    """Return the figures of `eft_eval.demo.study.study` as Markdown: mean ± sd over the seeds."""
    seeds, summary = list(figures["seeds"]), figures["summary"]
    lines = [f"Training seeds {', '.join(seeds)}; mean ± standard deviation over seeds."]
    for temperature, arms in summary["arms"].items():
        lines += ["", f"| T = {temperature} | {' | '.join(_COLUMNS.values())} |"]
        lines.append("|---" * (len(_COLUMNS) + 1) + "|")
        lines += [
            f"| {arm} | {' | '.join(_cell(arm, name, one, len(seeds)) for name in _COLUMNS)} |"
            for arm, one in arms.items()
        ]
    lines += ["", "| α | harm | declined | helpfulness |", "|---|---|---|---|"]
    for alpha, point in summary["frontier"].items():
        cells = [_spread(point[name], len(seeds)) for name in ("harm", "declined", "helpfulness")]
        lines.append(f"| {alpha} | {' | '.join(cells)} |")
    lines += ["", "| model | held-out facts completed (first token) |", "|---|---|"]
    lines += [
        f"| {model} | {_spread(value, len(seeds))} |" for model, value in summary["recall"].items()
    ]
    return "\n".join([*lines, *_exported_lines(figures)])


def _exported_lines(figures: Mapping[str, Any]) -> list[str]:
    seed = figures["chosen"]
    lines = ["", f"The exported half-precision copy of seed {seed}, with 95 % intervals:"]
    names = [name for name in _COLUMNS if name in _EXPORTED_COLUMNS]
    for temperature, arms in figures["exported"]["arms"].items():
        lines += ["", f"| T = {temperature} | {' | '.join(_COLUMNS[name] for name in names)} |"]
        lines.append("|---" * (len(names) + 1) + "|")
        for arm, one in arms.items():
            cells = [
                _ENDS[arm] if name.endswith("_normalised") and arm in _ENDS else _bounds(one[name])
                for name in names
            ]
            lines.append(f"| {arm} | {' | '.join(cells)} |")
    return lines


_COLUMNS = {
    "errors": "errors",
    "errors_normalised": "normalised",
    "helpfulness": "helpfulness",
    "helpfulness_normalised": "normalised",
    "wrong_entity": "wrong entity",
    "not_understood": "not understood",
}
_EXPORTED_COLUMNS = ("errors", "errors_normalised", "helpfulness", "helpfulness_normalised")
_ENDS = {"small tuned": "0", "large tuned": "1"}  # of the normalised scale


def _cell(arm: str, name: str, one: Mapping[str, Any], seeds: int) -> str:
    if name.endswith("_normalised") and arm in _ENDS:
        return _ENDS[arm]
    return _spread(one[name], seeds)


def _spread(value: Mapping[str, Any], seeds: int) -> str:
    if value["mean"] is None:
        return _TOO_CLOSE
    text = f"{value['mean']:.3f}"
    if value["sd"] is not None:
        text += f" ± {value['sd']:.3f}"
    return text if value["seeds"] == seeds else f"{text} ({value['seeds']} of {seeds} seeds)"


_TOO_CLOSE = "tuned models too close"


def _interval(value: Any) -> str:
    return _bounds(value and value[:3])


def _bounds(value: Any) -> str:
    if value is None:
        return _TOO_CLOSE
    estimate, lower, upper = value
    if lower is None or math.isnan(lower):
        return f"{estimate:.2f}"
    return f"{estimate:.2f} [{lower:.2f}, {upper:.2f}]"
