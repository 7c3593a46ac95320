"""Where a member's model lies: on the hub, in a folder, or in a family that ships with the package.

Loads nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from eft_eval.errors import ConfigError, nearest
from eft_eval.files import user_path

__all__ = ["SHIPPED", "ShippedFamily", "check_revision", "location_of", "may_be_id", "split_file"]


class ShippedFamily(NamedTuple):
    """Models that come with the package.

    Attributes:
        models: Their names.
        folder: Where they lie, below the package's folder.
        variable: The environment variable that names another folder in its place.
        training: The command that makes such a folder.
    """

    models: tuple[str, ...]
    folder: str
    variable: str
    training: str

    def models_folder(self) -> Path:
        """Return the folder of the family: what its environment variable names, else our own."""
        own = os.environ.get(self.variable)
        return user_path(own) if own else Path(str(resources.files("eft_eval"))) / self.folder


SHIPPED: Mapping[str, ShippedFamily] = {
    "demo": ShippedFamily(
        models=(
            "small-base",
            "small-tuned",
            "small-helpful",
            "small-harmless",
            "large-base",
            "large-tuned",
        ),
        folder="demo/models",
        variable="EFT_DEMO_MODELS",
        training="eft-eval demo train",
    )
}
"""``FAMILY:NAME`` names the model NAME of a family wherever a member is named."""


def location_of(model: str) -> str:
    """Return what `transformers` is given: ``model``, or the folder that ``FAMILY:NAME`` means.

    Raises:
        ConfigError: The family has no such model, or its folder is missing.
    """
    prefix, colon, name = model.partition(":")
    family = SHIPPED.get(prefix)
    if not colon or family is None:
        return model
    if name not in family.models:
        raise ConfigError(
            f"the {prefix} family has no model {model!r}{nearest(name, family.models)}; "
            f"it has {', '.join(f'{prefix}:{known}' for known in family.models)}"
        )
    folder = family.models_folder() / f"{prefix}-{name}"
    if not folder.is_dir():
        raise ConfigError(
            f"{model}: {folder} does not exist; set {family.variable} to the folder of a family "
            f"that `{family.training}` made, or unset it to use the shipped one"
        )
    return str(folder)


def check_revision(location: str, revision: str | None, label: str) -> None:
    """Raise ConfigError where a revision is asked of a local folder, which has none."""
    if revision is not None and user_path(location).is_dir():
        raise ConfigError(
            f"{label}: revision {revision!r} is asked of the local folder {location}, which is "
            "read as it is: leave the revision out, or name the model on the hub (owner/name)"
        )


def may_be_id(name: str) -> bool:
    """Whether a name that is no folder may be an id on the Hugging Face hub (owner/name)."""
    local = name.startswith((".", "~", "/")) or name.count("/") > 1
    return not local and not {":", "\\"} & {*name}


def split_file(path: str) -> tuple[str, str]:
    """Return folder and file of a path; of a file on the hub, its OWNER/NAME and what follows."""
    folder, _, file = path.rpartition("/")
    if not folder:
        return ("/" if path.startswith("/") else "."), file
    parts = path.split("/")
    if not path.startswith((".", "~", "/")) and len(parts) > 3 and not Path(folder).is_dir():
        return "/".join(parts[:2]), "/".join(parts[2:])
    return folder, file
