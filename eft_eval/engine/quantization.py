"""Members of fewer bits: what was asked for, what a checkpoint declares, and what either needs."""

from __future__ import annotations

import logging
from importlib.util import find_spec
from typing import Any

import torch

from eft_eval.errors import ConfigError

__all__ = ["asked_quantization", "check_quantization", "declared_quantization"]

_PACKAGES: dict[str, tuple[str, ...]] = {
    "bitsandbytes": ("bitsandbytes",),
    "bitsandbytes_8bit": ("bitsandbytes",),
    "bitsandbytes_4bit": ("bitsandbytes",),
    "gptq": ("gptqmodel", "optimum"),
    "awq": ("gptqmodel",),
    "torchao": ("torchao",),
    "compressed-tensors": ("compressed_tensors",),
    "quanto": ("optimum.quanto",),
    "hqq": ("hqq",),
    "aqlm": ("aqlm",),
    "eetq": ("eetq",),
    "quark": ("quark",),
    "auto-round": ("auto_round",),
}
"""What transformers imports for a checkpoint's ``quant_method``."""


def asked_quantization(bits: str, dtype: torch.dtype) -> Any:
    """Return the settings of bitsandbytes for weights of 8 or 4 bits.

    Args:
        bits: ``8bit`` or ``4bit``.
        dtype: What weights of 4 bits are computed in.
    """
    from transformers import BitsAndBytesConfig

    # says with every pass of every layer that float32 is rounded
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    if bits == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=dtype)


def check_quantization(config: Any, asked: str | None, label: str) -> None:
    """Raise ConfigError where a member's weights need a package that is missing.

    Args:
        config: Of the checkpoint.
        asked: ``8bit``, ``4bit`` or None.
        label: What errors call the member.
    """
    declared = getattr(config, "quantization_config", None)
    if declared is None:
        if asked is not None and _missing("bitsandbytes"):
            raise ConfigError(
                f"{label}: quantization={asked} needs bitsandbytes: "
                'pip install "eft-eval[quantization]"'
            )
        return
    method = _method(declared)
    if asked is not None and not method.startswith("bitsandbytes"):
        raise ConfigError(
            f"{label}: its checkpoint is quantised already ({method}): leave quantization={asked} "
            "out"
        )
    missing = [one for one in _PACKAGES.get(method, ()) if _missing(one)]
    if missing:
        names = ["optimum-quanto" if one == "optimum.quanto" else one for one in missing]
        names = [one.replace("_", "-") for one in names]
        raise ConfigError(
            f"{label}: its checkpoint is quantised with {method}, which needs "
            f"{' and '.join(names)}: pip install {' '.join(names)}"
        )


def declared_quantization(config: Any) -> str | None:
    """Return what a checkpoint says of its weights, such as ``gptq 4 bits``; None where nothing."""
    declared = getattr(config, "quantization_config", None)
    if declared is None:
        return None
    settings = declared if isinstance(declared, dict) else declared.to_dict()
    method = _method(declared)
    if method == "bitsandbytes":
        bits: Any = 4 if settings.get("load_in_4bit") or settings.get("_load_in_4bit") else 8
        return f"bitsandbytes {bits} bits"
    bits = settings.get("bits") or settings.get("w_bit")
    return f"{method} {bits} bits" if isinstance(bits, int) else method


def _method(declared: Any) -> str:
    settings = declared if isinstance(declared, dict) else declared.to_dict()
    method = str(settings.get("quant_method") or "unknown")
    return method.rpartition(".")[2].lower() if method.startswith("Quant") else method


def _missing(package: str) -> bool:
    try:
        return find_spec(package) is None
    except ModuleNotFoundError:  # of a parent
        return True
