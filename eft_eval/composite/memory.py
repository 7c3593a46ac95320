"""What a composite needs of each device's memory, and whether it is there: asked before loading."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import torch

from eft_eval.composite.model import CompositeModel, View
from eft_eval.engine.adapters import AdaptedMember
from eft_eval.engine.footprint import cache_bytes, parameter_count, state_bytes, weight_bytes
from eft_eval.errors import ConfigError

__all__ = ["ALIKE", "available_bytes", "check_memory", "needed_bytes", "row_states", "score_bytes"]

ALIKE = 1.05  # members whose costs differ by less draft alike


def needed_bytes(
    composite: CompositeModel, rows: int, length: int, block: int
) -> dict[torch.device, int]:
    """Return the bytes needed per device, before anything is loaded.

    weights + caches + scores, with
    caches = 2 · layers · key-value heads · head size · rows · (length + block + 1) · bytes,
    per view, the length rounded up to a multiple of 128, and at most the window and 128 tokens in
    layers with windows, all on a CUDA device; states of recurrent layers three times,
    (block + 3) times of the smallest members, which may draft;
    scores = rows · (block + 1) · V · 4 bytes, for the sum, its noise and each view in flight.
    A member that is spread over several devices (``placement: auto``) is not counted. A model alone
    has no drafts.

    Args:
        composite: The model.
        rows: Rows in a batch.
        length: Tokens of the longest prompt and response together.
        block: Longest draft.
    """
    block = block if len(composite.views) > 1 else 0
    found: dict[torch.device, int] = defaultdict(int)
    summed = [view.member for view in composite.views]
    below = [member.base for member in summed if isinstance(member, AdaptedMember)]
    for member in dict.fromkeys([*summed, *below]):
        if member.spec.placement != "auto":
            found[member.device] += weight_bytes(member)
    states = row_states(composite.views, block)
    for view, state in zip(composite.views, states, strict=True):
        if view.member.spec.placement != "auto":
            found[view.member.device] += cache_bytes(view.member, rows, length + block + 1)
            found[view.member.device] += rows * state
    found[composite.device] += score_bytes(rows, block, composite.vocabulary, len(composite.views))
    return dict(found)


def row_states(views: Sequence[View], block: int) -> list[int]:
    """Return the bytes of recurrent states that every view keeps of a row; see `needed_bytes`."""
    smallest = ALIKE * min(parameter_count(view.member) for view in views)
    return [
        state_bytes(view.member) * (block + 3 if parameter_count(view.member) <= smallest else 3)
        for view in views
    ]


def score_bytes(rows: int, block: int, vocabulary: int, views: int) -> int:
    """Return the bytes of a round's scores: float32, of every view, their sum and its noise."""
    return rows * (block + 1) * vocabulary * 4 * (views + 2)


def available_bytes(device: torch.device) -> int | None:
    """Return the free memory of a device in bytes, None where nobody can say."""
    if device.type == "cuda":
        # what torch keeps for later is free for us
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0] + kept)
    if device.type == "cpu":
        try:
            lines = Path("/proc/meminfo").read_text().splitlines()
        except OSError:
            return None
        for line in lines:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None


def check_memory(composite: CompositeModel, rows: int, length: int, block: int) -> None:
    """Raise ConfigError if a device has not what the composite needs; see `needed_bytes`."""
    for device, need in needed_bytes(composite, rows, length, block).items():
        free = available_bytes(device)
        if free is not None and need > free:
            raise ConfigError(
                f"{composite.name} needs {need / 2**30:.1f} GiB on {device} (weights, caches of "
                f"{rows} rows of {length} tokens, scores), {free / 2**30:.1f} GiB are available: "
                "try quantization=4bit, another placement or dtype, a smaller batch or shorter "
                "responses"
            )
