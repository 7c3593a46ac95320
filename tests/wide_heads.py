"""Llamas with wider attention heads that say the same: for kernels that know no narrow ones."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def widen(source: str, target: Path) -> str:
    """Save a Llama with heads of twice the width, whose new half is zero; return its folder.

    A rotation of dimension i of d has the angle θ^(-2i/d): with 2d dimensions it is the same for
    θ². Halves are rotated against each other, so that each half is filled up by itself. Scores
    are divided by √(2d) where they were by √d: queries are longer by √2.
    """
    model: Any = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    config = model.config
    width, heads = config.head_dim, config.num_attention_heads
    assert config.num_key_value_heads == heads
    state = model.state_dict()
    half = width // 2
    places = [*range(half), *range(width, width + half)]  # of the old dimensions among the new
    rows = torch.tensor([head * 2 * width + place for head in range(heads) for place in places])
    for name in list(state):
        if not name.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight", "o_proj.weight")):
            continue
        old = state[name]
        if name.endswith("o_proj.weight"):
            new = torch.zeros(old.shape[0], heads * 2 * width)
            new[:, rows] = old
        else:
            new = torch.zeros(heads * 2 * width, old.shape[1])
            new[rows] = old * (math.sqrt(2) if name.endswith("q_proj.weight") else 1)
        state[name] = new
    config.head_dim = 2 * width
    config.rope_parameters = {
        **config.rope_parameters, "rope_theta": config.rope_parameters["rope_theta"] ** 2
    }  # fmt: skip
    config.dtype = torch.float32
    wide: Any = AutoModelForCausalLM.from_config(config)
    wide.load_state_dict(state)
    wide.generation_config = model.generation_config
    wide.save_pretrained(target)
    AutoTokenizer.from_pretrained(source).save_pretrained(target)
    return str(target)
