"""Makes a trained model of any larger shape that says the same: real acceptance at a real size.

The trained weights lie in a corner of the large matrices; what is around them is random, so that
every byte is read and multiplied, but neither attention nor feed-forward layers write any of it
to the residual stream, and layers beyond the trained ones write nothing at all. Norms, softmax
scale and rotary frequencies are made up for, so logits are the trained model's up to rounding.
Tokens beyond the trained vocabulary are given logits by which no sum chooses them. Knows Llama's
form.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Shape", "config_of", "widen"]

_SPARE = 1e-4  # what the first added dimension of the residual stream holds, in every token
_UNSEEN = 60.0  # how far tokens beyond the trained vocabulary lie below 0, at least about
_ROOM = 30.0  # how much the stream may grow over the layers


@dataclass(frozen=True)
class Shape:
    """The sizes of a model of Llama's form.

    Attributes:
        key_values: Heads that keep keys and values; at least the trained model's.
        head: Size of a head; a multiple of the trained model's.
        tied: Whether input and output embeddings are one matrix.
        subtracted: Whether it is a reference: its logits of tokens that were not trained are 0, so
            that the difference is as low as the tuned member's.
    """

    hidden: int
    inner: int
    layers: int
    heads: int
    key_values: int
    head: int
    vocabulary: int
    tied: bool
    subtracted: bool = False


def config_of(trained: Any, shape: Shape, positions: int) -> Any:
    """Return the configuration of a trained model's `widen`.

    Args:
        trained: The trained model's configuration.
        shape: The sizes.
        positions: Tokens that it can read.
    """
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_values,
        head_dim=shape.head,
        max_position_embeddings=positions,
        # the mean of squares is taken over more numbers, most of them zeros
        rms_norm_eps=trained.rms_norm_eps * trained.hidden_size / shape.hidden,
        rope_parameters=dict(trained.rope_parameters),
        tie_word_embeddings=shape.tied,
        bos_token_id=trained.bos_token_id,
        eos_token_id=trained.eos_token_id,
        pad_token_id=trained.pad_token_id,
    )


@torch.no_grad()
def widen(
    trained: Any, shape: Shape, positions: int, device: torch.device, dtype: torch.dtype
) -> Any:
    """Return a model of this shape, on a device, that says what a trained one says.

    Args:
        trained: A LlamaForCausalLM without biases, one key-value head per head, on the CPU.
        shape: Its sizes are no smaller than the trained model's.
        positions: Tokens that the result can read.
        device: Where it is made.
        dtype: Of its weights.
    """
    from transformers import LlamaForCausalLM

    small = trained.config
    assert small.num_attention_heads == small.num_key_value_heads <= shape.key_values
    assert shape.head % small.head_dim == 0
    assert shape.hidden > small.hidden_size
    assert shape.layers >= small.num_hidden_layers
    config = config_of(small, shape, positions)
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            model = LlamaForCausalLM(config)
    finally:
        torch.set_default_dtype(before)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.normal_(0.0, 0.02)
    source = trained.float()
    _embeddings(source, model, 0.0 if shape.subtracted else _UNSEEN)
    for number, layer in enumerate(model.model.layers):
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()
        if number < len(source.model.layers):
            _layer(source.model.layers[number], layer, small, shape)
    return model.eval()


def _embeddings(source: Any, model: Any, unseen: float) -> None:
    words, dims = source.get_input_embeddings().weight.shape
    inputs: Tensor = model.get_input_embeddings().weight
    outputs: Tensor = model.get_output_embeddings().weight
    spare = dims
    inputs[:, dims:] = 0.0
    inputs[:words, :dims] = source.get_input_embeddings().weight.to(inputs)
    inputs[:words, spare] = _SPARE
    if outputs is not inputs:
        outputs[:words, :dims] = source.get_output_embeddings().weight.to(outputs)
        outputs[:words, spare] = 0.0
    outputs[words:, :dims] = 0.0
    outputs[words:, spare] = -1.0
    norm = model.model.norm.weight
    _norm(source.model.norm, model.model.norm)
    # the spare number, over the mean of squares of what is said, times this, is what tokens that
    # were not trained lose; the embeddings' own size is the least that the stream has
    least = source.get_input_embeddings().weight.square().sum(dim=-1).max().sqrt()
    norm[spare] = float(unseen * least / (_SPARE * norm.shape[0] ** 0.5) * _ROOM)


def _norm(source: Any, target: Any) -> None:
    small, large = source.weight.shape[0], target.weight.shape[0]
    target.weight.zero_()
    target.weight[:small] = source.weight.to(target.weight) * (small / large) ** 0.5


def _layer(source: Any, target: Any, small: Any, shape: Shape) -> None:
    dims, inner, before = small.hidden_size, small.intermediate_size, small.head_dim
    _norm(source.input_layernorm, target.input_layernorm)
    _norm(source.post_attention_layernorm, target.post_attention_layernorm)
    # rotary pairs keep their frequency: pair i of a head is pair i * times of one so much larger
    times = shape.head // before
    first = torch.arange(before // 2) * times
    turned = torch.cat([first, first + shape.head // 2])
    group = shape.heads // shape.key_values
    attention, own = target.self_attn, source.self_attn
    for head in range(small.num_attention_heads):
        query, key = head * group * shape.head, head * shape.head
        rows = slice(head * before, (head + 1) * before)
        for projection, start, factor in (("q_proj", query, times**0.5), ("k_proj", key, 1.0)):
            weight = getattr(attention, projection).weight
            weight[start : start + shape.head] = 0.0
            new = getattr(own, projection).weight[rows] * factor
            weight[start + turned.to(weight.device), :dims] = new.to(weight)
        _place(attention.v_proj, own.v_proj.weight[rows], key)
        out = attention.o_proj.weight
        out[:dims, query : query + before] = own.o_proj.weight[:, rows].to(out)
    _place(target.mlp.gate_proj, source.mlp.gate_proj.weight, 0)
    _place(target.mlp.up_proj, source.mlp.up_proj.weight, 0)
    down = target.mlp.down_proj.weight
    down[:dims, :inner] = source.mlp.down_proj.weight.to(down)


def _place(linear: nn.Linear, weight: Tensor, start: int) -> None:
    linear.weight[start : start + len(weight), : weight.shape[1]] = weight.to(linear.weight)
