"""Tiny GGUF files, written from models of `tiny_models`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from eft_eval.engine.gguf import reads_gguf

needs_gguf = pytest.mark.skipif(not reads_gguf(), reason="GGUF files need transformers 5.23")

_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def write_gguf(
    model_folder: str,
    file: Path,
    kind: str = "F32",
    *,
    splits: str = "gpt-2",
    merges: Sequence[str] = ("q q", "q q"),
    settings: Mapping[str, object] = MappingProxyType({}),
    tensors: Mapping[str, np.ndarray] = MappingProxyType({}),
) -> str:
    """Write a Llama model and its tokenizer as a GGUF file whose matrices are of ``kind``.

    A byte tokenizer has the token ``qq``, or those of other ``merges``: readers want two. One with
    bytes to fall back on is written as SentencePiece's. How texts are split before, further
    settings and tensors are written as they are.
    """
    import gguf

    model = AutoModelForCausalLM.from_pretrained(model_folder)
    config, out = model.config, gguf.GGUFWriter(file, "llama")
    settings = {"block_count": config.num_hidden_layers, **settings}
    out.add_context_length(config.max_position_embeddings)
    out.add_embedding_length(config.hidden_size)
    out.add_feed_forward_length(config.intermediate_size)
    out.add_head_count(config.num_attention_heads)
    out.add_head_count_kv(config.num_key_value_heads)
    out.add_layer_norm_rms_eps(config.rms_norm_eps)
    out.add_rope_freq_base(config.rope_parameters["rope_theta"])
    out.add_vocab_size(config.vocab_size)
    add = {str: out.add_string, bool: out.add_bool, int: out.add_uint32, float: out.add_float32}
    for name, value in settings.items():
        add[type(value)](name if name.startswith("tokenizer.") else f"llama.{name}", value)
    _add_tokenizer(out, model_folder, splits, merges)
    for name, tensor in model.state_dict().items():
        _add_tensor(out, name, tensor, config, kind)
    for name, values in tensors.items():
        out.add_tensor(name, values)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    return str(file)


def _add_tokenizer(out: object, folder: str, splits: str, merges: Sequence[str]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokens = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)
    special = set(tokenizer.all_special_ids)
    if "<0x00>" in tokens:
        _add_sentencepiece(out, tokens, special)
    else:
        _add_bytes(out, tokens, special, splits, merges)
    out.add_bos_token_id(tokenizer.bos_token_id)  # type: ignore[attr-defined]
    out.add_eos_token_id(tokenizer.eos_token_id)  # type: ignore[attr-defined]
    if tokenizer.chat_template:
        out.add_chat_template(tokenizer.chat_template)  # type: ignore[attr-defined]


def _add_sentencepiece(out: object, tokens: Sequence[str], special: Set[int]) -> None:
    bytes_ = {f"<0x{byte:02X}>" for byte in range(256)}
    out.add_tokenizer_model("llama")  # type: ignore[attr-defined]
    out.add_token_list(tokens)  # type: ignore[attr-defined]
    out.add_token_scores([-float(i) for i in range(len(tokens))])  # type: ignore[attr-defined]
    types = [3 if i in special else 6 if one in bytes_ else 1 for i, one in enumerate(tokens)]
    out.add_token_types(types)  # type: ignore[attr-defined]
    out.add_unk_token_id(tokens.index("<unk>"))  # type: ignore[attr-defined]


def _add_bytes(
    out: object, tokens: Sequence[str], special: Set[int], splits: str, merges: Sequence[str]
) -> None:
    out.add_tokenizer_model("gpt2")  # type: ignore[attr-defined]
    out.add_tokenizer_pre(splits)  # type: ignore[attr-defined]
    out.add_token_list(tokens)  # type: ignore[attr-defined]
    out.add_token_types([3 if i in special else 1 for i in range(len(tokens))])  # type: ignore[attr-defined]
    out.add_token_merges(list(merges))  # type: ignore[attr-defined]


def _add_tensor(out: object, name: str, tensor: torch.Tensor, config: object, kind: str) -> None:
    import gguf

    values = tensor.float().numpy()
    heads = {"q": config.num_attention_heads, "k": config.num_key_value_heads}  # type: ignore[attr-defined]
    for letter, count in heads.items():  # llama.cpp pairs rotary positions side by side
        if f"self_attn.{letter}_proj" in name:
            rows, width = values.shape
            values = values.reshape(count, 2, rows // count // 2, width).swapaxes(1, 2)
            values = np.ascontiguousarray(values.reshape(rows, width))
    short = {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.norm.weight": "output_norm.weight",
        "lm_head.weight": "output.weight",
    }.get(name)
    if short is None:
        _, _, layer, *rest = name.split(".")
        short = f"blk.{layer}.{_NAMES['.'.join(rest[:-1])]}.weight"
    if kind != "F32" and values.ndim > 1:
        type_ = gguf.GGMLQuantizationType[kind]
        out.add_tensor(short, gguf.quants.quantize(values, type_), raw_dtype=type_)  # type: ignore[attr-defined]
    else:
        out.add_tensor(short, values)  # type: ignore[attr-defined]
