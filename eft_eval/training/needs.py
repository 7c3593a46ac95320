"""What a training takes of memory, from the configuration alone."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from eft_eval.engine.loading import LoadOptions, Member
from eft_eval.engine.wrappers import loader_of
from eft_eval.errors import ConfigError
from eft_eval.plans.members import Work, work_of
from eft_eval.training.settings import Training

__all__ = ["TrainingMemory", "adapter_parameters", "memory_of"]

_STATE = 16  # bytes of an adapter's parameter: itself, its gradient and two of AdamW, in float32
_TILE = 2**26  # numbers of the head's scores that TRL holds at a time, about


class TrainingMemory(NamedTuple):
    """Bytes of one training, an estimate.

    Attributes:
        weights: Of the reference.
        adapter: Of the adapter, its gradients and what the optimiser keeps.
        activations: Of the longest micro-batch.
        parameters: Of the adapter.
    """

    weights: int
    adapter: int
    activations: int
    parameters: int

    @property
    def total(self) -> int:
        """All of it, without what driver and kernels take."""
        return self.weights + self.adapter + self.activations


def memory_of(training: Training, longest: int) -> TrainingMemory:
    """Return what one of the two trainings holds.

    Args:
        training: The settings.
        longest: Tokens of the longest text.

    Raises:
        ConfigError: The reference's configuration cannot be read, or no layer has these names.
    """
    member = Member(training.reference, LoadOptions(), "reference")
    work = work_of(member, "eft")
    parameters = adapter_parameters(member, training)
    return TrainingMemory(
        work.weights,
        _STATE * parameters,
        _activations(training, work, longest, member.dtype.itemsize),
        parameters,
    )


def _activations(training: Training, work: Work, longest: int, width: int) -> int:
    tokens = 2 * training.micro_batch_size * longest  # chosen and rejected
    inside = tokens * work.widest * width + tokens * work.heads[0] * longest * width
    between = tokens * work.hidden * width
    layers = between * work.layers + inside if training.gradient_checkpointing else 0
    return int((layers or inside * work.layers) + 4 * _TILE)


def adapter_parameters(member: Member, training: Training) -> int:
    """Return the parameters of an adapter, counted on a model without weights.

    Raises:
        ConfigError: No layer has one of the names.
    """
    with torch.device("meta"):
        model: Any = loader_of(member.config, member.label).from_config(member.config)
    head = model.get_output_embeddings()
    every = training.layers == ("all-linear",)
    count = 0
    for name, layer in model.named_modules():
        weight = getattr(layer, "weight", None)
        if weight is None or weight.dim() != 2 or layer is head:
            continue
        linear = type(layer).__name__ in ("Linear", "Conv1D")
        if linear and (every or name.rpartition(".")[2] in training.layers):
            count += training.rank * sum(weight.shape)
    if not count:
        raise ConfigError(
            f"layers: the reference has no layer called {', '.join(training.layers)}; give the "
            "last part of names such as q_proj, or all-linear"
        )
    return count
