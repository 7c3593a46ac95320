"""Writes docs/models.md: ``python -m docs.generate.models``, in a checkout; takes some minutes.

A tiny random model of each causal architecture of the installed transformers that can be built
small, with windows and blocks shorter than the trial's rows, goes through what ``eft-eval
check-model`` runs.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from eft_eval.engine.checking import ModelCheck, check_model
from eft_eval.engine.passes import Passes

PAGE = Path(__file__).parents[1] / "models.md"
LARGEST = 20_000_000  # parameters
_SIZES = (
    (r"vocab_size|n_tokens", 259),
    (r"num_hidden_layers|n_layers?|num_layers|num_blocks", 4),
    (r"(num_)?(attention_heads|query_heads|n_heads?|heads)|num_heads", 4),
    (r"(num_|n_)?(key_value|kv|global_key_value)_heads|n_head_kv", 2),
    (r"hidden_size|n_embd|d_model|dim|embedding_size|d_embed|word_embed_proj_dim", 32),
    (r"dim_model|attention_hidden_size|emb_dim", 32),
    (r"(moe_|shared_expert_|expert_|dense_)?(intermediate|ffn|ffn_hidden)(_size|_dim)?", 48),
    (r"n_inner|d_ff|dim_ff|moe_ffn_hidden_size|moe_shared_expert_intermediate_size", 48),
    (r"intermediate_size_mlp", 48),
    (r"max_position_embeddings|n_positions|n_ctx|max_seq_len|max_sequence_length", 256),
    (r"head_dim|global_head_dim|attn_head_dim|attention_head_dim|kv_channels|v_head_dim", 8),
    (r"sliding_window(_size)?|local_attention|attention_(window_size|chunk_size)|window_size", 16),
    (r"(num|n)_(local_|routed_)?experts|moe_num_experts", 4),
    (r"num_experts_per_tok(en)?|top_k_experts|moe_k|moe_topk|router_top_k|moe_top_k", 2),
    (r"n_group|num_expert_group|topk_group|first_k_dense_replace|num_dense_layers", 1),
    (r"(q|kv|o)_lora_rank", 16),
    (r"qk_(rope|nope)_head_dim", 4),
)
_FULL = {"num_key_value_heads": 4}
_LATENT = {**_FULL, "head_dim": 4}
_INDEXED = {**_FULL, "index_head_dim": 8, "index_topk": 256, "index_n_heads": 4}
_MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8}
_LINEAR = {"layer_types": ["linear_attention", "full_attention"] * 2}
_HEADS = {"linear_head_dim": 8, "linear_num_heads": 4}
_PER_LAYER = {"vocab_size_per_layer_input": 259, "hidden_size_per_layer_input": 8}
_OWN: dict[str, dict[str, Any]] = {
    "axk1": _LATENT, "deepseek_v3": _LATENT, "longcat_flash": _LATENT, "youtu": _LATENT,
    "axk2": _INDEXED, "deepseek_v32": _INDEXED, "glm_moe_dsa": _INDEXED,
    "bailing_hybrid": {**_LINEAR, **_FULL}, "kimi_linear": {**_LINEAR, **_FULL, **_HEADS},
    "minimax": _LINEAR,
    "bamba": {**_MAMBA, "attn_layer_indices": [1, 3]},
    "granitemoehybrid": {**_MAMBA, "layer_types": ["mamba", "attention"] * 2},
    "codegen": {"rotary_dim": 4}, "gptj": {"rotary_dim": 4},
    "deepseek_v2": {**_FULL, "num_experts_per_tok": 2},
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2},
    "gemma3n_text": {**_PER_LAYER, "num_kv_shared_layers": 0}, "gemma4_text": _PER_LAYER,
    "glm4_moe_lite": _FULL, "minicpm3": _FULL,
    "gpt_neo": {"attention_types": [[["global", "local"], 2]]},
    "hunyuan_v1_dense": {"head_dim": 8}, "ministral": {"head_dim": 8},
    "hunyuan_v1_moe": {"head_dim": 8, "num_experts": 4, "moe_topk": 2},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "lfm2": {"layer_types": ["conv", "full_attention"] * 2},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "mamba2": {"num_heads": 8, "head_dim": 8},
    "minimax_m3_vl_text": {
        "layer_types": ["full_attention", "minimax_m3_sparse"] * 2, "index_block_size": 4,
        "index_topk_blocks": 2, "index_n_heads": 2, "index_head_dim": 8,
        "mlp_layer_types": ["dense", "sparse"] * 2,
    },
    "nemotron": {"num_key_value_heads": 2, "head_dim": 8},
    "qwen4_exp_text": {
        "linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_num_key_heads": 2,
        "linear_num_value_heads": 4, "hc_lowrank": 8, "hc_count": 2, "ngram_vocab_size_base": 500,
        "heads_per_ngram": 2, "split_ngram_parts": 4, "indexer_n_heads": 2, "indexer_kv_heads": 1,
        "indexer_head_dim": 8, "indexer_budget": 8, "indexer_compress_ratio": 4,
    },
    "zamba2": {
        "layers_block_type": ["mamba", "hybrid"] * 2, "hybrid_layer_ids": [1, 3],
        "num_mem_blocks": 1, "attention_hidden_size": 64, "attention_head_dim": 16,
        "num_key_value_heads": 4, "mamba_ngroups": 1, "n_mamba_heads": 8, "mamba_headdim": 8,
        "mamba_d_state": 8, "adapter_rank": 8,
    },
    "xlstm": {"hidden_size": 128, "embedding_dim": 128},  # pads its inner sizes to 64
}  # fmt: skip
_HEAD = """# Models

What each architecture can do as a member, found by `eft-eval check-model` on tiny random models
(`python -m docs.generate.models`; transformers {version}, torch {torch}; prompts of 57, 36 and 15
tokens, windows of 16 where there are any). Every trial is compared with passes without a cache over
each row alone. Drafts: whether the member's tokens can be taken back. Plain batches, where nothing
is drafted: `any`, prompts of any lengths share one; `equal`, those of one length; `one`, one
response at a time; `reread`, its cache does not work, and every token reads its row anew. Scored in
batches: `exact`, as each row alone. Encoders (BERT and its kin) are tried as decoders
(`is_decoder`); encoder-decoders and multimodal wrappers, whose language models have rows of their
own, are not listed. Random weights of this size say nothing of a checkpoint's own code or of
quantised weights: run it on yours.

<!-- not run: needs a model -->
```sh
eft-eval check-model ./my-model --json
```

| architecture | drafts | plain batches | scored in batches | because |
|---|---|---|---|---|
"""


def small(kind: str) -> Any:
    """Return a small configuration of an architecture."""
    of_kind = CONFIG_MAPPING[kind]
    values = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    default = of_kind()
    if getattr(default, "is_decoder", None) is False:
        values["is_decoder"] = True
    for name, value in vars(default).items():
        if isinstance(value, int) and not isinstance(value, bool) and value:
            fitting = (size for pattern, size in _SIZES if re.fullmatch(pattern, name))
            if (size := next(fitting, None)) is not None:
                values[name] = min(size, value)
    return of_kind(**{**values, **_OWN.get(kind, {})})


def tiny_model(kind: str) -> Any:
    """Return a random model of an architecture."""
    config = small(kind)
    with torch.device("meta"):
        size = AutoModelForCausalLM.from_config(config).num_parameters()
    if size > LARGEST:
        raise ValueError(f"{size:,} parameters at least")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config).float().eval()
        with torch.no_grad():
            for weights in model.parameters():
                if weights.dim() > 1:
                    weights.normal_(0, 0.15)
    return model


def kinds() -> list[str]:
    """Return the architectures that transformers calls causal and that are of text alone."""
    found = []
    for kind in sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES):
        try:
            default = CONFIG_MAPPING[kind]()
        except Exception:  # noqa: BLE001  # has no default: see the page's end
            found.append(kind)
            continue
        alone = default.get_text_config(decoder=True) is default
        if alone and not default.is_encoder_decoder:
            found.append(kind)
    return found


def row(kind: str, found: ModelCheck) -> str:
    """Return a line of the table."""
    if found.refused is not None:
        return f"| {kind} | – | – | – | refused: {found.refused} |"
    why = "; ".join(
        dict.fromkeys(one for one in (found.no_drafts, found.lost, found.scored) if one)
    )
    scored = "otherwise" if found.scored else "exact"
    cells = (kind, found.drafts, found.batches, scored, why.replace("|", "/"))
    return f"| {' | '.join(cells)} |"


def page(names: Iterable[str]) -> str:
    """Return docs/models.md."""
    head = _HEAD.format(version=transformers.__version__, torch=torch.__version__.split("+")[0])
    lines, unbuilt = [], []
    for kind in names:
        try:
            model = tiny_model(kind)
        except Exception as error:  # noqa: BLE001  # configurations of all kinds
            unbuilt.append(kind)
            print(f"{kind}: {' '.join(str(error).split())[:60]}", file=sys.stderr)
            continue
        found = check_model(Passes(model, torch.device("cpu"), kind), scale=3)
        lines.append(row(kind, found))
        print(lines[-1], flush=True)
    end = f"\n\nNot built small, so not tried: {', '.join(unbuilt)}.\n"
    return head + "\n".join(lines) + end


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    PAGE.write_text(page(sys.argv[1:] or kinds()), encoding="utf-8")
