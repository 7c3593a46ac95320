"""Tiny model folders of several architectures, made on the spot with random weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    LlamaConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

CHAT_TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def byte_tokenizer(
    *, bos: bool = False, extra: tuple[str, ...] = (), swap: bool = False, chat: bool = False
) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer of 256 + 3 tokens; ``swap`` exchanges two of them."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    if swap:
        alphabet[40], alphabet[41] = alphabet[41], alphabet[40]
    specials = ["<s>", "</s>", "<pad>"]
    vocab = {token: i for i, token in enumerate([*specials, *alphabet, *extra])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[], unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", vocab["<s>"])]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        chat_template=CHAT_TEMPLATE if chat else None,
    )


def make_model(
    folder: Path,
    kind: str = "llama",
    *,
    seed: int = 0,
    vocabulary: int = 259,
    hidden: int = 32,
    layers: int = 2,
    positions: int = 256,
    eos: int | list[int] = 1,
    scale: float = 2.0,
    tokenizer: PreTrainedTokenizerFast | None = None,
) -> str:
    """Save a random model of ``kind`` (llama, gpt2, qwen2) with its tokenizer; return the path.

    ``scale`` sharpens the last layer, so that greedy choices are no near-ties.
    """
    shape = {
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 2 * hidden,
        "max_position_embeddings": positions,
        "bos_token_id": 0,
        "eos_token_id": eos,
        "pad_token_id": 2,
        "tie_word_embeddings": False,
    }
    if kind == "gpt2":
        config = GPT2Config(
            vocab_size=vocabulary,
            n_embd=hidden,
            n_layer=layers,
            n_head=4,
            n_positions=positions,
            bos_token_id=0,
            eos_token_id=eos,
            pad_token_id=2,
            tie_word_embeddings=False,
        )
    else:
        config = {"llama": LlamaConfig, "qwen2": Qwen2Config}[kind](**shape)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config).float()
        with torch.no_grad():
            for weights in model.parameters():
                if weights.dim() > 1:
                    weights.normal_(0.0, 0.15)
            model.get_output_embeddings().weight.mul_(scale)
    model.save_pretrained(folder)
    (tokenizer or byte_tokenizer()).save_pretrained(folder)
    return str(folder)


def save_drawn(model: Any, folder: Path) -> str:
    """Draw a model's matrices anew, large enough that its tokens differ; save it, return the path.

    Its tokenizer is the one of bytes.
    """
    with torch.no_grad():
        for weights in model.parameters():
            if weights.dim() > 1:
                weights.normal_(0, 0.25)
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return str(folder)


SHAPE = {
    "vocab_size": 259, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2,
    "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 48, "max_position_embeddings": 256, "head_dim": 8,
}  # fmt: skip
"""Settings of a tiny model of any kind."""


def save_kind(folder: Path, kind: str, **settings: Any) -> str:
    """Save a random model, float32, with its tokenizer; return the path.

    Args:
        folder: The model's.
        kind: The beginning of its configuration's name.
        settings: What its configuration has besides `SHAPE`.
    """
    config = getattr(transformers, f"{kind}Config")(**{**SHAPE, **settings})
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return save_drawn(transformers.AutoModelForCausalLM.from_config(config), folder)


def perturb(source: str, folder: Path, *, seed: int, amount: float) -> str:
    """Save a copy of a model with random noise on its weights: like fine-tuning, a little other."""
    model = AutoModelForCausalLM.from_pretrained(source)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weights in model.parameters():
            if weights.dim() > 1:
                noise = torch.randn(weights.shape, generator=draw)
                weights.add_(noise * amount * weights.std())
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(source).save_pretrained(folder)
    return str(folder)


def scripted_model(
    folder: Path, tokenizer: PreTrainedTokenizerFast, tokens: Sequence[int], *, seed: int = 0
) -> str:
    """Save a model that says ``tokens``, whatever it read: the one of each place, from 0 on.

    Its scores for all other tokens are small noise of ``seed``.
    """
    size = max(tokenizer.get_vocab().values()) + 1
    places = len(tokens)
    config = GPT2Config(
        vocab_size=size,
        n_embd=places,
        n_layer=1,
        n_head=1,
        n_positions=places,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        tie_word_embeddings=False,
    )
    model = AutoModelForCausalLM.from_config(config).float()
    noise = torch.randn(size, places, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        for weights in model.parameters():
            weights.zero_()
        model.transformer.wpe.weight.copy_(torch.eye(places))  # a place is a direction
        model.transformer.ln_f.weight.fill_(1.0)
        model.lm_head.weight.copy_(noise * 0.02)
        model.lm_head.weight[torch.tensor(list(tokens)), torch.arange(places)] += 5.0
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)
