"""What a decoder layer of transformers takes beyond its weights: kernels started one by one."""

from __future__ import annotations

from collections.abc import Callable

import torch
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

__all__ = ["layer_seconds", "least_seconds"]

_LAYERS = (2, 10)
_TIMES = 4


def layer_seconds(clock: Callable[[], float]) -> float:
    """Return the seconds of a decoder layer with next to no weights, for one token.

    Args:
        clock: Seconds.
    """
    few, many = (_step_seconds(layers, clock) for layers in _LAYERS)
    return max(0.0, (many - few) / (_LAYERS[1] - _LAYERS[0]))


def _step_seconds(layers: int, clock: Callable[[], float]) -> float:
    config = LlamaConfig(
        vocab_size=8, hidden_size=64, intermediate_size=64, num_hidden_layers=layers,
        num_attention_heads=2, max_position_embeddings=64,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    cache, token = DynamicCache(config=config), torch.ones(1, 1, dtype=torch.long)
    with torch.inference_mode():
        return least_seconds(lambda: model(token, past_key_values=cache, use_cache=True), clock)


def least_seconds(run: Callable[[], object], clock: Callable[[], float]) -> float:
    """Return the least seconds of a few runs: other work makes some slower, and none faster."""
    least = float("inf")
    for _ in range(_TIMES):
        start = clock()
        run()
        least = min(least, clock() - start)
    return least
