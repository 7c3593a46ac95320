"""The demo's arms, its answers, and the figures of its study."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from eft_eval.reports.document import Cell, Column, Document, Table, Texts, cells, columns
from eft_eval.reports.numbers import number, span

__all__ = ["CAVEAT", "answers", "arms", "study_figures"]

CAVEAT = (
    "A toy world with templated, invented facts: it shows the mechanism of emulated fine-tuning "
    "and is no evidence about real models."
)
_METRICS = {
    "errors": "errors",
    "errors_normalised": "normalised",
    "helpfulness": "helpfulness",
    "helpfulness_normalised": "normalised",
    "wrong_entity": "wrong entity",
    "not_understood": "not understood",
}
_EXPORTED = ("errors", "errors_normalised", "helpfulness", "helpfulness_normalised")
_FRONTIER = ("harm", "declined", "helpfulness")
_ENDS = {"small tuned": "0", "large tuned": "1"}  # of the normalised scale
_TOO_CLOSE = "tuned models too close"


def arms(figures: Mapping[str, Any], temperature: float, questions: int) -> Document:
    """Return the arms' errors and helpfulness with intervals, and what up- and down-scaling carry.

    Args:
        figures: Per arm, `eft_eval.demo.figures.ArmFigures`.
        temperature: Of the run.
        questions: Their number.
    """
    rows = []
    for arm, one in figures.items():
        row = [Cell(arm)]
        for name in _EXPORTED:
            value = getattr(one, name)
            row.append(_bounds(arm, name, value and value[:3]))
        rows.append(tuple(row))
    caption = f"{questions} held-out questions, T = {temperature:g}, 95 % intervals"
    heads = columns("arm", numbers=("errors", "(normalised)", "helpfulness", "(normalised)"))
    note = "normalised: small tuned = 0, large tuned = 1, as in the paper's Figure 3"
    return Table(caption, heads, tuple(rows), note), Texts((CAVEAT,))


def answers(prompt: str, found: Mapping[str, str]) -> Document:
    """Return one question and every arm's answer."""
    rows = tuple(cells(arm, answer) for arm, answer in found.items())
    return (Table(prompt, columns("arm", "answer"), rows),)


def study_figures(figures: Mapping[str, Any]) -> Document:
    """Return the figures of `eft_eval.demo.study.study`: mean ± sd over the seeds."""
    return tuple(_study(figures))


def _study(figures: Mapping[str, Any]) -> Iterator[Table | Texts]:
    seeds, summary = list(figures["seeds"]), figures["summary"]
    count = len(seeds)
    yield Texts((f"Training seeds {', '.join(seeds)}; mean ± standard deviation over seeds.",))
    for temperature, found in summary["arms"].items():
        rows = [
            cells(arm, *(_ends(arm, name) or _spread(one[name], count) for name in _METRICS))
            for arm, one in found.items()
        ]
        yield _words(f"T = {temperature}", list(_METRICS.values()), rows)
    rows = [
        cells(alpha, *(_spread(point[name], count) for name in _FRONTIER))
        for alpha, point in summary["frontier"].items()
    ]
    yield _words("α", _FRONTIER, rows)
    rows = [cells(model, _spread(value, count)) for model, value in summary["recall"].items()]
    yield _words("model", ["held-out facts completed (first token)"], rows)
    seed = figures["chosen"]
    yield Texts((f"The exported half-precision copy of seed {seed}, with 95 % intervals:",))
    for temperature, found in figures["exported"]["arms"].items():
        rows = [
            (Cell(arm), *(_bounds(arm, name, one[name]) for name in _EXPORTED))
            for arm, one in found.items()
        ]
        yield _words(f"T = {temperature}", [_METRICS[name] for name in _EXPORTED], rows)


def _words(head: str, heads: Any, rows: list[tuple[Cell, ...]]) -> Table:
    return Table("", tuple(Column(one, False) for one in (head, *heads)), tuple(rows))


def _ends(arm: str, name: str) -> str | None:
    return _ENDS.get(arm) if name.endswith("_normalised") else None


def _bounds(arm: str, name: str, value: Any) -> Cell:
    if (end := _ends(arm, name)) is not None:
        return Cell(end)
    if value is None:
        return Cell(_TOO_CLOSE)
    estimate, lower, upper = value
    return Cell(number(estimate, ".2f"), span(lower, upper, ".2f"))


def _spread(value: Mapping[str, Any], seeds: int) -> str:
    if value["mean"] is None:
        return _TOO_CLOSE
    text = f"{value['mean']:.3f}"
    if value["sd"] is not None:
        text += f" ± {value['sd']:.3f}"
    return text if value["seeds"] == seeds else f"{text} ({value['seeds']} of {seeds} seeds)"
