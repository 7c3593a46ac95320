"""Passes of a `transformers` model: what its arguments are called, with its cache and without."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from eft_eval.engine.cache import RowCache
from eft_eval.engine.inner_state import InnerState, keeps_inside
from eft_eval.engine.prefixes import Forest
from eft_eval.engine.windows import Window
from eft_eval.errors import ConfigError

__all__ = ["Masks", "Passes"]

Masks = Tensor | Mapping[str, Tensor | None] | None
"""What a pass's tokens see: of one mask for all layers, or by the layers' kinds."""


_STATES = ("cache", "past_key_values", "cache_params", "state")
"""What models call what they have read; transformers from 5.24 on the first, if one at all."""


class Passes:
    """Runs a causal language model over token ids.

    Args:
        model: Of `transformers`, in evaluation mode.
        device: Where its inputs go.
        label: What errors call it.

    Attributes:
        narrowed: Whether its last logits came in half precision.
    """

    def __init__(self, model: Any, device: torch.device, label: str) -> None:
        self.model, self.device, self.label = model, device, label
        self.narrowed = False
        self.text = model.config.get_text_config(decoder=True)
        self.takes = frozenset(inspect.signature(model.forward).parameters)
        self._recurrent = set(getattr(self.text, "layer_types", None) or ()) == {"linear_attention"}
        self._keeps_inside = keeps_inside(model)
        self._state = next((name for name in _STATES if name in self.takes), "past_key_values")

    @property
    def name(self) -> str:
        """The model's class."""
        return type(self.model).__name__

    @property
    def dtype(self) -> torch.dtype:
        """What the model computes in."""
        found: torch.dtype = self.model.dtype
        return found

    @property
    def quantized(self) -> bool:
        """Whether its weights are, so that its logits are rounded whatever their type."""
        return getattr(self.model, "hf_quantizer", None) is not None

    @property
    def exact(self) -> bool:
        """Whether it computes in float32 or float64 throughout."""
        return self.dtype in (torch.float32, torch.float64) and not self.quantized

    @property
    def boolean_masks(self) -> bool:
        """Whether its attention takes a mask of truth values; others add theirs."""
        return getattr(self.model.config, "_attn_implementation", "eager") == "sdpa"

    def logits(self, inputs: Sequence[Sequence[int]], lengths: Sequence[int]) -> tuple[Tensor, int]:
        """Return the logits after the last ``lengths[i]`` tokens of every row, without a cache.

        Padding on the right needs no mask: a causal model's earlier positions do not see it.

        Returns:
            Logits [rows, positions, V'] from the first position that some row needs, and that
            position's number; token j of a row lies at position j.
        """
        longest = max(map(len, inputs))
        first = min(len(tokens) - length for tokens, length in zip(inputs, lengths, strict=True))
        batch = torch.zeros(len(inputs), longest, dtype=torch.long)
        for row, tokens in enumerate(inputs):
            batch[row, : len(tokens)] = torch.tensor(tokens)
        output = self._run(batch.to(self.device), longest - first, use_cache=False)
        return output.logits[:, first - longest :], first

    def tree_pass(self, forest: Forest, windows: Sequence[Window]) -> Tensor:
        """Read trees of rows without a cache; return the logits of the nodes that they keep."""
        made = {one.kind: self.mask(forest.mask(one).to(self.device)) for one in windows}
        masks: Masks = made if len(made) > 1 else next(iter(made.values()))
        options: dict[str, Any] = {"attention_mask": masks, "use_cache": False}
        if "position_ids" in self.takes:
            options["position_ids"] = forest.positions.to(self.device)
        tokens = forest.tokens.to(self.device)
        logits: Tensor = self._run(tokens, forest.keep, **options).logits[:, -forest.keep :]
        return logits

    def mask(self, seen: Tensor) -> Tensor:
        """Return a mask of truth values as the model's attention takes it."""
        if self.boolean_masks:
            return seen
        zeros = torch.zeros(seen.shape, dtype=self.dtype, device=seen.device)
        return zeros.masked_fill(~seen, torch.finfo(self.dtype).min)

    def row_pass(
        self, tokens: Tensor, masks: Masks, positions: Tensor, cache: RowCache, keep: int
    ) -> Tensor:
        """Read tokens on, [rows, width]; return the logits after the last ``keep``."""
        options: dict[str, Any] = {"attention_mask": masks, self._state: cache}
        if "position_ids" in self.takes:
            options["position_ids"] = positions
        logits: Tensor = self._run(tokens, keep, use_cache=True, **options).logits[:, -keep:]
        return logits

    def read_on(
        self, tokens: Tensor, mask: Tensor, positions: Tensor, cache: Any
    ) -> tuple[Tensor, Any]:
        """Read tokens on with the model's own cache, None at first.

        Returns:
            The logits after the last token of every row, [rows, 1, V'], and the cache.
        """
        options: dict[str, Any] = {}
        if "attention_mask" in self.takes:
            # state-space models multiply the tokens of the pass by it
            options["attention_mask"] = mask[:, -tokens.shape[1] :] if self._recurrent else mask
        if "position_ids" in self.takes:
            options["position_ids"] = positions
        if self._keeps_inside:
            cache = cache or InnerState(self.model, len(tokens))
            cache.install()
            options[self._state] = cache.attention
        elif cache is not None:
            options[self._state] = cache
        output = self._run(tokens, 1, use_cache=True, **options)
        if isinstance(cache, InnerState):
            cache.collect()
        names = set(output)  # asking for a former name would warn
        made = next((output[name] for name in _STATES if name in names), cache)
        if made is None:
            raise ConfigError(f"{self.label}: {self.name} gives no key-value cache and no state")
        return output.logits[:, -1:], made

    def _run(self, tokens: Tensor, keep: int, **options: Any) -> Any:
        if "logits_to_keep" in self.takes:
            options["logits_to_keep"] = keep
        output = self.model(tokens, **options)
        self.narrowed = output.logits.element_size() < 4
        return output
