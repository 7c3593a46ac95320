"""Tables in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from eft_eval.recipe import Recipe, needs


def print_recipes(recipes: Mapping[str, Recipe], console: Console | None = None) -> None:
    """Print named recipes with their members, parameters and the memory of their weights."""
    table = Table(title="Named recipes: --model_args model=NAME", title_justify="left")
    table.add_column("name", no_wrap=True)
    table.add_column("composite", overflow="fold")
    table.add_column("parameters", justify="right", no_wrap=True)
    table.add_column("weights", justify="right", no_wrap=True)
    for name, recipe in recipes.items():
        need = needs(recipe)
        table.add_row(name, _formula(recipe), _billions(need.parameters), _gib(need.weight_bytes))
    out = console or make_console()
    out.print(table)
    out.print("weights: memory of the weights alone; key-value caches and activations come on top")


def make_console() -> Console:
    """Return a console on stdout that is wide enough for the tables."""
    console = Console()
    # a pipe has no width: give the table the room it needs, so that lines are not cut
    return console if console.is_terminal else Console(width=160)


def _formula(recipe: Recipe) -> str:
    text = _label(recipe.base)
    for delta in recipe.deltas:
        weight = "" if delta.weight == 1.0 else f"{delta.weight:g} * "
        text += f" + {weight}({_label(delta.tuned)} - {_label(delta.reference)})"
    return text


def _label(member: Any) -> str:
    name = str(member.model).rsplit("/", 1)[-1]
    return f"{name}@{member.quantization}" if member.quantization else name


def _billions(count: int | None) -> str:
    return "?" if count is None else f"{count / 1e9:.1f} B"


def _gib(size: int | None) -> str:
    return "?" if size is None else f"{size / 2**30:.1f} GiB"
