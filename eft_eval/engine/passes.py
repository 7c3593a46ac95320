"""One pass of one model over right-padded rows, without a cache."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from eft_eval.engine.view import View

__all__ = ["takes", "view_logits"]


def view_logits(
    view: View, inputs: Sequence[Sequence[int]], lengths: Sequence[int]
) -> tuple[Tensor, int]:
    """Run one view over right-padded rows.

    Padding on the right needs no mask: a causal model's earlier positions do not see it.

    Returns:
        Logits [rows, positions, V'] from the first position that some row needs, and that
        position's number.
    """
    longest = max(map(len, inputs))
    first = min(len(tokens) - length for tokens, length in zip(inputs, lengths, strict=True))
    batch = torch.zeros(len(inputs), longest, dtype=torch.long)
    for row, tokens in enumerate(inputs):
        batch[row, : len(tokens)] = torch.tensor(tokens)
    model = view.member.model
    options: dict[str, Any] = {"use_cache": False}
    kept = takes(model, "logits_to_keep")
    if kept:
        options["logits_to_keep"] = longest - first
    logits: Tensor = model(batch.to(view.member.device), **options).logits
    return (logits if kept else logits[:, first:]), first


def takes(model: Any, option: str) -> bool:
    """Whether a model's forward has a parameter of this name."""
    return option in inspect.signature(model.forward).parameters
