"""The demo's models: which world they know, and where an exported family lies. Loads nothing."""

from __future__ import annotations

import json
from pathlib import Path

from eft_eval.errors import ConfigError
from eft_eval.recipe.locations import SHIPPED

__all__ = ["MODELS", "PREFIX", "WORLD_FILE", "family_folder", "world_size"]

PREFIX = "demo:"
"""``demo:NAME`` names a model of the family wherever a member is named."""

MODELS = SHIPPED["demo"].models

WORLD_FILE = "family.json"
"""Beside the models of an exported family: what world it knows."""


def family_folder(given: Path) -> Path:
    """Return the folder with the models: ``given``, or ``models`` in what `demo train` made.

    Raises:
        ConfigError: Neither has them.
    """
    for folder in (given, given / "models"):
        if all((folder / f"demo-{name}").is_dir() for name in MODELS):
            return folder
    raise ConfigError(
        f"{given}: no family here; give the --out folder of `eft-eval demo train`, or a folder "
        f"with {', '.join(f'demo-{name}' for name in MODELS)}"
    )


def world_size(folder: Path | None = None) -> float:
    """Return the size of the world that the family in ``folder`` knows; None: the one in use."""
    file = (folder or SHIPPED["demo"].models_folder()) / WORLD_FILE
    if not file.is_file():
        return 1.0
    return float(json.loads(file.read_text(encoding="utf-8"))["world_size"])
