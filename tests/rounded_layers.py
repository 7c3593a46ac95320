"""Models whose layers round what they read, as those with 8-bit activations do."""

from __future__ import annotations

import torch


def rounds_each_token(model: torch.nn.Module) -> None:
    """Let layers round their inputs to 6 bits with a scale for each token, as W8A8 does to 8."""

    def rounded(_: object, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        step = inputs[0].abs().amax(-1, keepdim=True).clamp_min(1e-6) / 31
        return ((inputs[0] / step).round() * step,)

    for name, layer in model.named_modules():
        if isinstance(layer, torch.nn.Linear) and name != "lm_head":
            layer.register_forward_pre_hook(rounded)
    model.hf_quantizer = object()  # type: ignore[assignment]  # as transformers marks such models
