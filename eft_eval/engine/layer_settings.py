"""Settings of a configuration whose layers may each have their own (Gemma 4's heads, say).

Such a setting has no one value, and transformers raises an error where it is read as if it had.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["common", "largest", "layer_settings"]


def layer_settings(text: Any) -> Sequence[Any]:
    """Return the configuration of every layer; the model's own where all are alike.

    Args:
        text: A language model's configuration.
    """
    if getattr(text, "is_heterogeneous", False):
        return list(text.per_layer_config)
    return [text] * int(text.num_hidden_layers)


def common(text: Any, name: str) -> Any:
    """Return a setting of all layers but those with their own; None where there is none."""
    if not getattr(text, "is_heterogeneous", False):
        return getattr(text, name, None)
    return vars(text).get(name)


def largest(text: Any, name: str) -> Any:
    """Return a setting, of layers that differ the largest; None where there is none.

    Args:
        text: A language model's configuration.
        name: Of a number.
    """
    if not getattr(text, "is_heterogeneous", False):
        return getattr(text, name, None)
    values = [getattr(one, name, None) for one in layer_settings(text)]
    return max((value for value in values if value is not None), default=None)
