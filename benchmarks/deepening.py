"""Makes a model cost more without changing what it says: extra layers that add nothing.

A layer whose attention and feed-forward outputs are projected by zeros leaves the residual stream
as it is, so logits, and with them acceptance, are those of the trained model.
"""

from __future__ import annotations

import copy
import time
from pathlib import Path
from typing import Any

import torch

__all__ = ["cost_per_token", "deepen", "depth_for_cost"]

_POSITIONS = 4096  # of the copies, so that long prompts can be timed


def deepen(source: str, target: Path, layers: int, dtype: torch.dtype) -> str:
    """Save a copy of a Llama-like model with ``layers`` layers in all; return its folder."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model: Any = AutoModelForCausalLM.from_pretrained(source, dtype=dtype)
    grow(model, layers)
    model.config.max_position_embeddings = _POSITIONS
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(source).save_pretrained(target)
    return str(target)


def grow(model: Any, layers: int) -> None:
    """Add layers that add nothing, in place, up to ``layers``."""
    stack = model.model.layers
    while len(stack) < layers:
        layer = copy.deepcopy(stack[-1])
        layer.self_attn.layer_idx = len(stack)
        with torch.no_grad():
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        stack.append(layer)
    model.config.num_hidden_layers = len(stack)
    if getattr(model.config, "layer_types", None):
        model.config.layer_types = ["full_attention"] * len(stack)


@torch.inference_mode()
def cost_per_token(models: list[Any], tokens: int = 60) -> list[float]:
    """Return the seconds of one decoding step of each model at batch 1.

    The least of ``tokens`` steps, which alternate between the models: a busy machine slows some
    steps, and none is faster than it can be.
    """
    from transformers import DynamicCache

    caches = [DynamicCache(config=model.config) for model in models]
    token = torch.ones(1, 1, dtype=torch.long, device=models[0].device)
    least = [float("inf")] * len(models)
    for _ in range(tokens):
        for number, (model, cache) in enumerate(zip(models, caches, strict=True)):
            start = time.perf_counter()
            model(token, past_key_values=cache, use_cache=True)
            if model.device.type == "cuda":
                torch.cuda.synchronize()
            least[number] = min(least[number], time.perf_counter() - start)
    return least


def depth_for_cost(large: str, small: str, ratio: float, device: str, dtype: str) -> int:
    """Return the depth at which ``large`` costs at least ``ratio`` times ``small`` per token."""
    from transformers import AutoModelForCausalLM

    models = [
        AutoModelForCausalLM.from_pretrained(name, dtype=getattr(torch, dtype)).to(device).eval()
        for name in (large, small)
    ]
    while True:
        costs = cost_per_token(models)
        depth = len(models[0].model.layers)
        if costs[0] >= ratio * costs[1]:
            return depth
        grow(models[0], max(depth + 1, round(depth * min(2.0, ratio * costs[1] / costs[0]))))
        models[0].to(device, getattr(torch, dtype))
