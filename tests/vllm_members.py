"""Random members that vLLM's kernels can run, and tasks for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tokenizer_kinds import size_of, tokenizer_of
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)

PROMPTS = ["What is the capital of France?", "hello", "1 2 3 4", "The quick brown fox"]


def model(folder: Path, kind: Any, shape: tuple[int, int, int], seed: int, **more: Any) -> str:
    """Save a random model: (width, layers, tokens that pad the vocabulary)."""
    width, layers, padding = shape
    tokenizer = tokenizer_of("qwen")  # AutoTokenizer gives Qwen2 models Qwen's own splits
    settings = {
        "vocab_size": size_of(tokenizer) + padding,
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": width // 32,
        "num_key_value_heads": width // 32,
        "head_dim": 32,  # the CPU kernel's smallest
        "max_position_embeddings": 256,
        "initializer_range": 0.2,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": None,
    }
    config = kind(**(settings | more))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        AutoModelForCausalLM.from_config(config).float().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


TIED = {"tie_word_embeddings": True}
SLIDING = ["sliding_attention", "full_attention"]
MEMBERS: dict[str, tuple[Any, tuple[int, int, int], dict[str, Any]]] = {
    "base": (LlamaConfig, (128, 3, 16), {}),
    "tuned": (Qwen2Config, (64, 2, 0), TIED),
    "reference": (Qwen2Config, (64, 2, 0), TIED),
    "qwen3": (Qwen3Config, (96, 2, 8), {}),
    # windows of all layers, of some, of two sizes; none
    "mistral": (MistralConfig, (128, 2, 0), {"sliding_window": 8}),
    "mistral16": (MistralConfig, (64, 2, 0), {"sliding_window": 16}),
    "gemma": (Gemma3TextConfig, (64, 2, 0), TIED | {"sliding_window": 12, "layer_types": SLIDING}),
}


def save_members(root: Path) -> dict[str, str]:
    """Save all of them, and return their folders by name."""
    return {
        name: model(root / name, kind, shape, seed, **more)
        for seed, (name, (kind, shape, more)) in enumerate(MEMBERS.items())
    }


def write_tasks(tmp_path: Path) -> None:
    (tmp_path / "docs.jsonl").write_text(json.dumps({"q": "Pick one:", "a": 0, "c": WORDS}) + "\n")
    (tmp_path / "pick.yaml").write_text(
        "task: pick\ndataset_path: json\ntest_split: test\noutput_type: multiple_choice\n"
        f"dataset_kwargs: {{data_files: {{test: {tmp_path}/docs.jsonl}}}}\n"
        'doc_to_text: "{{q}}"\ndoc_to_target: "{{a}}"\ndoc_to_choice: "{{c}}"\n'
    )
    (tmp_path / "say.yaml").write_text(
        (tmp_path / "pick.yaml").read_text().replace("task: pick", "task: say")
        .replace("multiple_choice", "generate_until").replace('doc_to_choice: "{{c}}"\n', "")
        + "generation_kwargs: {until: [], max_gen_toks: 12, do_sample: false}\n"
        "metric_list: [{metric: bypass}]\n"
    )  # fmt: skip


WORDS = ("red", "blue", "a dog")
