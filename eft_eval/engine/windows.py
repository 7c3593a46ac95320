"""Which cached tokens each layer of a model sees: all, a sliding window, or a chunk of them.

Knows configurations and positions, no models.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from eft_eval.engine.layer_settings import common, largest, layer_settings
from eft_eval.engine.positions import ATTENDS, attention_reach

__all__ = [
    "ALL",
    "ATTENTION_BESIDE",
    "NO_ATTENTION",
    "Window",
    "layer_windows",
    "longest_window",
    "narrowed",
    "recurrent_windows",
]


@dataclass(frozen=True)
class Window:
    """What a layer's tokens see of those before them.

    Attributes:
        kind: The layer's kind as models call it, a key of their masks.
        size: Tokens of the window or chunk; None: all.
    """

    kind: str = "full_attention"
    size: int | None = None

    def first(self, position: int) -> int:
        """Return the first position that a token at ``position`` sees."""
        if self.size is None:
            return 0
        if self.kind == "chunked_attention":
            return position // self.size * self.size
        return max(0, position - self.size + 1)

    def mask(self, cached: Tensor, positions: Tensor) -> Tensor:
        """Return which cached positions the tokens see; both broadcast."""
        seen = cached <= positions
        if self.size is None:
            return seen
        if self.kind == "chunked_attention":
            return seen & (cached // self.size == positions // self.size)
        return seen & (cached > positions - self.size)


ALL = Window()


def layer_windows(text: Any) -> tuple[Window, ...] | None:
    """Return what every layer sees by a configuration; None where it says so in no known way.

    Args:
        text: A language model's configuration.
    """
    layers = layer_settings(text)
    kinds = list(getattr(text, "layer_types", None) or ())[: len(layers)]
    if not kinds:
        slides = getattr(text, "use_sliding_window", True)
        kinds = [
            "sliding_attention" if slides and getattr(layer, "sliding_window", None) else ALL.kind
            for layer in layers
        ]
    if len(kinds) < len(layers) or not set(kinds) <= set(ATTENDS):
        return None
    windows = tuple(
        Window(kind, _size(layer, kind)) for kind, layer in zip(kinds, layers, strict=True)
    )
    if len(set(windows)) > len(set(kinds)):
        return None  # masks are by kind
    reach = min((one.size for one in windows if one.size is not None), default=None)
    return windows if reach == attention_reach(text) else None  # as GPT-Neo's, of another name


NO_ATTENTION = ("linear_attention", "conv", "moe", "mlp", "mamba", "dense", "sparse")
ATTENTION_BESIDE = {"hybrid": "full_attention", "hybrid_sliding": "sliding_attention"}


def recurrent_windows(text: Any) -> tuple[Window, ...] | None:
    """Return what the attention of every layer sees, where some layers are recurrent.

    Args:
        text: A language model's configuration.

    Returns:
        `ALL` for layers without attention; None where there are layers of an unknown kind.
    """
    layers = layer_settings(text)
    kinds = list(getattr(text, "layer_types", None) or ())[: len(layers)]
    kinds = [ATTENTION_BESIDE.get(kind, kind) for kind in kinds]
    if not kinds or not set(kinds) <= {*ATTENDS, *NO_ATTENTION}:
        return None
    return tuple(
        ALL if kind in NO_ATTENTION else Window(kind, _size(layer, kind))
        for kind, layer in zip(kinds, layers, strict=False)
    )


def _size(text: Any, kind: str) -> int | None:
    name = ATTENDS[kind]
    size = getattr(text, name, None) if name else None
    return None if size is None else int(size)


def longest_window(text: Any) -> int | None:
    """Return the tokens of the longest window or chunk; None where there is none.

    Args:
        text: A language model's configuration, of layers of any kind.
    """
    sizes = [largest(text, name) for name in ATTENDS.values() if name is not None]
    found = [int(size) for size in sizes if size]
    slides = getattr(text, "use_sliding_window", True)
    return max(found, default=None) if slides else None


@contextlib.contextmanager
def narrowed(text: Any, size: int) -> Iterator[None]:
    """Give a model's windows and chunks another size for a while, to reach over them in a trial.

    Args:
        text: The language model's configuration, which its forward pass reads the sizes from.
        size: Tokens.
    """
    before = {
        name: value
        for name in ATTENDS.values()
        if name is not None and (value := common(text, name)) is not None
    }
    try:
        for name in before:
            setattr(text, name, size)
        yield
    finally:
        for name, value in before.items():
            setattr(text, name, value)
