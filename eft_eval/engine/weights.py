"""Whether a checkpoint held just its model's weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import Any

from eft_eval.errors import ConfigError

__all__ = ["check_weights"]

_UNFIT = {
    "missing_keys": "missing",
    "mismatched_keys": "of another shape",
    "unexpected_keys": "unknown to the model",
}
"""What transformers finds of a checkpoint, and what to call it."""


def check_weights(
    loaded: Mapping[str, Iterable[Any]], label: str, buffers: Set[str] = frozenset()
) -> None:
    """Raise ConfigError unless a checkpoint held just its model's weights.

    transformers starts weights that are missing at random, and leaves out what it does not know.

    Args:
        loaded: What it says of that; it names neither tied nor deliberately ignored ones.
        label: What errors call the member.
        buffers: What the model computes itself.
    """
    wrong = []
    for name, word in _UNFIT.items():
        keys = sorted(map(_key_name, loaded.get(name) or ()))
        if name == "unexpected_keys":
            keys = [key for key in keys if not _computed(key, buffers)]
        if keys:
            wrong.append(f"{_few(keys)} {word}")
    if wrong:
        raise ConfigError(
            f"{label}: the checkpoint does not hold this model's weights: {'; '.join(wrong)}; it "
            "would answer at random: save it again from the unwrapped model (not compiled, not an "
            "adapter alone), or give another folder"
        )


def _computed(key: str, buffers: Set[str]) -> bool:
    """Whether a tensor that no model reads is one that it computes: masks, rotary frequencies.

    Older versions of transformers saved them (GPT-J, GPT-Neo, GPT-2, …).
    """
    return key in buffers or key.endswith((".attn.bias", ".masked_bias", ".inv_freq"))


def _key_name(key: Any) -> str:
    return str(key if isinstance(key, str) else next(iter(key)))  # a key with its two shapes


def _few(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
