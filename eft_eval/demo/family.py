"""The shipped models of the demo: their names and where they lie. Loads nothing."""

from __future__ import annotations

import json
import os
from importlib import resources
from pathlib import Path

from eft_eval.errors import ConfigError, nearest

__all__ = [
    "MODELS", "PREFIX", "WORLD_FILE", "family_folder", "model_folder", "models_folder",
    "world_size",
]  # fmt: skip

PREFIX = "demo:"
"""``demo:NAME`` names a model of the family wherever a member is named."""

MODELS = (
    "small-base",
    "small-tuned",
    "small-helpful",
    "small-harmless",
    "large-base",
    "large-tuned",
)

WORLD_FILE = "family.json"
"""Beside the models of an exported family: what world it knows."""


def models_folder() -> Path:
    """Return the folder of the family: ``EFT_DEMO_MODELS``, else the one in the package."""
    own = os.environ.get("EFT_DEMO_MODELS")
    return Path(own).expanduser() if own else Path(str(resources.files(__package__) / "models"))


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
    file = (folder or models_folder()) / WORLD_FILE
    if not file.is_file():
        return 1.0
    return float(json.loads(file.read_text(encoding="utf-8"))["world_size"])


def model_folder(member: str) -> Path:
    """Return the folder of ``demo:NAME``.

    Raises:
        ConfigError: The family has no such model, or its folder is missing.
    """
    name = member.removeprefix(PREFIX)
    if name not in MODELS:
        raise ConfigError(
            f"the demo family has no model {member!r}{nearest(name, MODELS)}; "
            f"it has {', '.join(PREFIX + known for known in MODELS)}"
        )
    folder = models_folder() / f"demo-{name}"
    if not folder.is_dir():
        raise ConfigError(
            f"{member}: {folder} does not exist; set EFT_DEMO_MODELS to the folder of a family "
            "that `eft-eval demo train` made, or unset it to use the shipped one"
        )
    return folder
