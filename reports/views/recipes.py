"""Named recipes with their members, parameters and the memory of their weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eft_eval.recipe import Recipe, needs
from eft_eval.reports.document import Document, Table, cells, columns

__all__ = ["recipes"]


def recipes(found: Mapping[str, Recipe]) -> Document:
    """Return the table of named recipes."""
    rows = []
    for name, recipe in found.items():
        need = needs(recipe)
        size = _billions(need.parameters), _gib(need.weight_bytes)
        rows.append(cells(name, _formula(recipe), *size))
    heads = columns("name", "composite", numbers=("parameters", "weights"))
    note = "weights: memory of the weights alone; key-value caches and activations come on top"
    return (Table("Named recipes: --model_args model=NAME", heads, tuple(rows), note),)


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
