"""The same composite by other means: what one would write with transformers alone.

`SideBySide` steps three models with their own caches, as proxy-tuning and model arithmetic do;
`CompositeModule` is one module whose logits are the composite's, for transformers' own `generate`
with an assistant model.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, GenerationMixin, PreTrainedModel
from transformers.cache_utils import Cache
from transformers.modeling_outputs import CausalLMOutputWithPast

__all__ = ["CompositeModule", "SideBySide", "as_shipped"]


@contextlib.contextmanager
def as_shipped(models: list[Any]) -> Iterator[None]:
    """Give models the linear layers of torch for a while: ours are quicker on a CPU."""
    ours = [
        (layer, layer.__dict__.pop("forward"))
        for model in models
        for layer in model.modules()
        if type(layer.__dict__.get("forward")).__module__ == "eft_eval.engine.products"
    ]
    try:
        yield
    finally:
        for layer, forward in ours:
            layer.forward = forward


class SideBySide:
    """Greedy decoding of base + tuned - reference, one pass of each model per token."""

    def __init__(self, base: Any, tuned: Any, reference: Any, stop: int) -> None:
        self._models = (base, tuned, reference)
        self._stop = stop

    @torch.inference_mode()
    def generate(self, prompts: list[list[int]], limit: int) -> list[list[int]]:
        """Return the responses; the batch runs until its last row has ended."""
        device = self._models[0].device
        longest = max(map(len, prompts))
        tokens = torch.full((len(prompts), longest), self._stop)
        mask = torch.zeros(len(prompts), longest, dtype=torch.long)
        for row, prompt in enumerate(prompts):
            tokens[row, longest - len(prompt) :] = torch.tensor(prompt)
            mask[row, longest - len(prompt) :] = 1
        tokens, mask = tokens.to(device), mask.to(device)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        caches = [DynamicCache(config=model.config) for model in self._models]
        made: list[list[int]] = [[] for _ in prompts]
        running = [True] * len(prompts)
        for _ in range(limit):
            parts = [
                model(
                    tokens, attention_mask=mask, position_ids=positions, past_key_values=cache,
                    use_cache=True, logits_to_keep=1,
                ).logits[:, -1].float().log_softmax(-1)
                for model, cache in zip(self._models, caches, strict=True)
            ]  # fmt: skip
            chosen = (parts[0] + parts[1] - parts[2]).argmax(-1)
            for row, token in enumerate(chosen.tolist()):
                if running[row]:
                    made[row].append(token)
                    running[row] = token != self._stop
            if not any(running):
                break
            tokens = chosen[:, None]
            mask = torch.cat([mask, torch.ones_like(tokens)], dim=-1)
            positions = mask.sum(-1, keepdim=True) - 1
        return made


class CompositeModule(PreTrainedModel, GenerationMixin):  # type: ignore[misc]  # untyped there
    """base + tuned - reference as one `transformers` model, with one cache for all three."""

    _supports_sdpa = True

    def __init__(self, base: Any, tuned: Any, reference: Any) -> None:
        super().__init__(base.config)
        self._own = (base, tuned, reference)  # a tuple: not registered twice
        self.anchor = torch.nn.Parameter(torch.zeros(1, device=base.device), requires_grad=False)
        self.generation_config = base.generation_config

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        past_key_values: Any = None,
        position_ids: Tensor | None = None,
        **options: Any,
    ) -> CausalLMOutputWithPast:
        if past_key_values is None or not hasattr(past_key_values, "parts"):
            parts = [DynamicCache(config=model.config) for model in self._own]
            past_key_values = Cache(layers=[layer for part in parts for layer in part.layers])
            past_key_values.parts = parts
        kept = {k: v for k, v in options.items() if k == "logits_to_keep"}
        total: Tensor | None = None
        for model, cache, sign in zip(self._own, past_key_values.parts, (1, 1, -1), strict=True):
            logits = model(
                input_ids, attention_mask=attention_mask, position_ids=position_ids,
                past_key_values=cache, use_cache=True, **kept,
            ).logits.float().log_softmax(-1)  # fmt: skip
            total = sign * logits if total is None else total.add_(logits, alpha=sign)
        return CausalLMOutputWithPast(logits=total, past_key_values=past_key_values)
