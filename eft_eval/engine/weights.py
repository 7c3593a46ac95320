"""Whether a checkpoint holds just its model's weights: its files, and what they held."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Set
from pathlib import Path
from typing import Any

from eft_eval.errors import ConfigError
from eft_eval.files import read_text
from eft_eval.streams import logger

__all__ = ["check_files", "check_weights", "folders_hint"]

log = logger("eft_eval")
_WHOLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"

_UNFIT = {
    "missing_keys": "missing",
    "mismatched_keys": "of another shape",
    "unexpected_keys": "unknown to the model",
}
"""What transformers finds of a checkpoint, and what to call it."""


def folders_hint(folder: Path) -> str:
    """Return what to say of a folder that is no model but holds some; else nothing."""
    found = sorted(
        {
            file.parent.name
            for name in ("adapter_", "")
            for file in folder.glob(f"*/{name}config.json")
        }
    )
    return f", such as in its {', '.join(found[:3])}" if found else ""


def check_files(folder: Path, label: str) -> None:
    """Check a local checkpoint whose weights lie in several files; reads their headers only.

    transformers takes a tensor that two files hold from either, and one whole file before all.

    Args:
        folder: Of the model; nothing is checked where it is none, or has no index.
        label: What errors call the member.

    Raises:
        ConfigError: Two files hold the same tensor.
    """
    if not (folder / _INDEX).is_file():
        return
    content = json.loads(read_text(folder / _INDEX, f"{label}: {_INDEX}"))
    names = sorted(set(content["weight_map"].values()) - {_WHOLE})
    there = [name for name in names if (folder / name).is_file()]
    if (folder / _WHOLE).is_file():
        if names and there == names:
            log.warning(
                "%s: its weights are read from %s; those of %s beside it are not: take one of them "
                "away if that is not what was meant", label, _WHOLE, _INDEX,
            )  # fmt: skip
        return
    owners: dict[str, str] = {}
    for name in there:
        for key in _tensors(folder / name):
            if owners.setdefault(key, name) != name:
                raise ConfigError(
                    f"{label}: {owners[key]} and {name} both hold {key}: files of two checkpoints "
                    "lie in one folder; save the model again, to an empty one"
                )


def _tensors(file: Path) -> Iterable[str]:
    from safetensors import safe_open

    with safe_open(file, framework="pt") as content:
        return [*content.keys()]


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
