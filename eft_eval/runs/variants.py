"""What makes another model of one name: what lies on it, and which of its files are taken."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from eft_eval.runs.metadata import model_arguments

__all__ = ["laid_on", "public_variant", "variant_of"]

_ON_TOP = ("peft", "delta", "lora", "adapter", "steer")
_FILES = ("revision", "subfolder", "gguf_file")
_PLAIN = ("", "0", "false", "none", "main")


def laid_on(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the arguments that lay something on a model's weights: adapters, deltas, steering.

    Args:
        config: ``config`` of the results file.
    """
    return {
        key: str(value)
        for key, value in model_arguments(config).items()
        if any(word in key.lower() for word in _ON_TOP) and _is_given(value)
    }


def variant_of(config: Mapping[str, Any]) -> dict[str, str]:
    """Return what tells a model from others that lm-eval gives the same name.

    That is what lies on it, and a revision, folder or file of its repository. A composite has all
    that in its name.

    Args:
        config: ``config`` of the results file.
    """
    if "eft_name" in config or str(config.get("model")).startswith("eft"):
        return {}
    arguments = model_arguments(config)
    files = {key: str(arguments[key]) for key in _FILES if _is_given(arguments.get(key, ""))}
    return {**laid_on(config), **files}


def public_variant(variant: Mapping[str, str]) -> str:
    """Return a variant as text, without paths on somebody's machine."""
    return ", ".join(f"{key}={_public(value)}" for key, value in sorted(variant.items()))


def _public(value: str) -> str:
    path = PurePath(value)
    local = path.is_absolute() or value.startswith((".", "~")) or len(path.parts) > 2
    return path.name if local else value


def _is_given(value: object) -> bool:
    return str(value).strip().lower() not in _PLAIN
