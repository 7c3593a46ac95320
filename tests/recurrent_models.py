"""Tiny models with recurrent layers: alone, beside attention in every layer, between its layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tiny_models import save_kind

_MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_n_groups": 1,
          "mamba_chunk_size": 32}  # fmt: skip
_DELTA = {
    "linear_num_value_heads": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 8,
    "linear_value_head_dim": 8, "layer_types": ["linear_attention", "full_attention"] * 2,
    "num_hidden_layers": 4,
}  # fmt: skip
KINDS: dict[str, dict[str, Any]] = {
    "Bamba": {**_MAMBA, "attn_layer_indices": [1]},
    "FalconH1": {**_MAMBA, "mamba_d_ssm": 64},
    "GraniteMoeHybrid": {
        **_MAMBA, "layer_types": ["mamba", "attention", "mamba"], "num_local_experts": 0,
        "shared_intermediate_size": 48, "mamba_expand": 2,
    },
    "Lfm2": {"layer_types": ["conv", "full_attention", "conv"], "block_auto_adjust_ff_dim": False},
    "Mamba2": {"state_size": 8, "num_heads": 8, "n_groups": 1, "expand": 2, "chunk_size": 32},
    "OlmoHybrid": {},
    "Qwen3Next": {
        **_DELTA, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 16,
    },
    "Qwen3_5Text": _DELTA,
}  # fmt: skip


def save_recurrent(folder: Path, kind: str) -> str:
    """Save a random model of ``kind``, float32, with its tokenizer; return the path."""
    return save_kind(folder, kind, **KINDS[kind])
