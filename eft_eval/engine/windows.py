"""Which cached tokens each layer of a model sees: all, a sliding window, or a chunk of them.

Knows configurations and positions, no models.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from eft_eval.engine.positions import attention_reach

__all__ = [
    "ALL",
    "ATTENTION_BESIDE",
    "NO_ATTENTION",
    "Window",
    "layer_windows",
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
_SIZES: dict[str, Literal["sliding_window", "attention_chunk_size"] | None] = {
    "full_attention": None,
    "sliding_attention": "sliding_window",
    "chunked_attention": "attention_chunk_size",
}


def layer_windows(text: Any) -> tuple[Window, ...] | None:
    """Return what every layer sees by a configuration; None where it says so in no known way.

    Args:
        text: A language model's configuration.
    """
    layers = int(text.num_hidden_layers)
    kinds = list(getattr(text, "layer_types", None) or ())[:layers]
    if not kinds:
        slides = getattr(text, "use_sliding_window", True) and getattr(text, "sliding_window", None)
        kinds = ["sliding_attention" if slides else "full_attention"] * layers
    if len(kinds) < layers or not set(kinds) <= set(_SIZES):
        return None
    windows = tuple(Window(kind, _size(text, kind)) for kind in kinds)
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
    kinds = list(getattr(text, "layer_types", None) or ())[: int(text.num_hidden_layers)]
    kinds = [ATTENTION_BESIDE.get(kind, kind) for kind in kinds]
    if not kinds or not set(kinds) <= {*_SIZES, *NO_ATTENTION}:
        return None
    return tuple(ALL if one in NO_ATTENTION else Window(one, _size(text, one)) for one in kinds)


def _size(text: Any, kind: str) -> int | None:
    name = _SIZES[kind]
    size = getattr(text, name, None) if name else None
    return None if size is None else int(size)


@contextlib.contextmanager
def narrowed(text: Any, size: int) -> Iterator[None]:
    """Give a model's windows and chunks another size for a while, to reach over them in a trial.

    Args:
        text: The language model's configuration, which its forward pass reads the sizes from.
        size: Tokens.
    """
    names = [name for name in _SIZES.values() if name and getattr(text, name, None) is not None]
    before = {name: getattr(text, name) for name in names}
    try:
        for name in names:
            setattr(text, name, size)
        yield
    finally:
        for name, value in before.items():
            setattr(text, name, value)
