"""The shipped models of the demo: their names and where they lie. Loads nothing."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path

from eft_eval.errors import ConfigError, nearest

__all__ = ["MODELS", "PREFIX", "model_folder", "models_folder"]

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


def models_folder() -> Path:
    """Return the folder of the family: ``EFT_DEMO_MODELS``, else the one in the package."""
    own = os.environ.get("EFT_DEMO_MODELS")
    return Path(own).expanduser() if own else Path(str(resources.files(__package__) / "models"))


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
