"""Tiny models whose layers see a window or a chunk of tokens, mixed with layers that see all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tiny_models import save_kind

MIXED = ["sliding_attention", "full_attention", "sliding_attention"]
_PER_LAYER = {"vocab_size_per_layer_input": 259, "hidden_size_per_layer_input": 8}
KINDS: dict[str, dict[str, Any]] = {
    "Cohere2": {"layer_types": MIXED},
    "Exaone4": {"layer_types": MIXED},
    "Gemma2": {"layer_types": MIXED},
    "Gemma3Text": {"layer_types": MIXED},
    "Gemma3nText": {
        **_PER_LAYER, "num_hidden_layers": 5, "num_kv_shared_layers": 2, "laurel_rank": 8,
        "activation_sparsity_pattern": [0.0] * 5, "intermediate_size": [48] * 5,
        "layer_types": [*MIXED, "sliding_attention", "full_attention"],
    },
    "Gemma4Text": {
        **_PER_LAYER, "global_head_dim": 16, "num_hidden_layers": 5, "num_kv_shared_layers": 2,
        "layer_types": [*MIXED, "sliding_attention", "full_attention"],
    },
    "GptOss": {"layer_types": MIXED, "num_local_experts": 4, "num_experts_per_tok": 2},
    "Llama4Text": {
        "intermediate_size_mlp": 48, "num_local_experts": 2,
        "layer_types": ["chunked_attention", "full_attention", "chunked_attention"],
    },
    "Mistral": {},
    "Olmo3": {"layer_types": MIXED},
    "Qwen2": {"layer_types": MIXED, "use_sliding_window": True},
    "Starcoder2": {},
}  # fmt: skip


def save_windowed(folder: Path, kind: str, window: int) -> str:
    """Save a random model of ``kind``, float32, with its tokenizer; return the path."""
    seen = {"attention_chunk_size" if kind == "Llama4Text" else "sliding_window": window}
    return save_kind(folder, kind, **KINDS[kind], **seen)
