"""The composite as vLLM's model class: every member a submodule, their logits summed (Eq. 5).

Only vLLM imports this, in its own processes, through `eft_eval.vllm.plugin`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from vllm.compilation.backends import set_model_tag
from vllm.config import VllmConfig
from vllm.config.utils import replace
from vllm.model_executor.layers.attention import Attention
from vllm.model_executor.model_loader.default_loader import DefaultModelLoader
from vllm.model_executor.models.utils import (
    extract_layer_index,
    init_vllm_registered_model,
    maybe_prefix,
)
from vllm.transformers_utils.config import get_config

from eft_eval.composite.mathematics import add_filtered_tuned, add_term
from eft_eval.engine.windows import layer_windows
from eft_eval.errors import ConfigError
from eft_eval.vllm.cpu_sampling import mend_sampling

__all__ = ["EFTForCausalLM"]

_MARK = "eft_member"


class EFTForCausalLM(nn.Module):
    """A composite model (Mitchell et al. 2023, Eq. 4 and 5) in vLLM.

    Members read the same tokens and keep caches of their own, which the engine pages, shards and
    shares as it does those of a single model. The engine's configuration says what is summed: see
    `eft_eval.vllm.arguments.engine_arguments`.
    """

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__()
        mend_sampling()
        config = vllm_config.model_config.hf_config
        records = config.eft_members
        self.vocabulary = int(config.eft_vocabulary)
        self.size = int(config.vocab_size)
        self.excluded = list(config.eft_excluded)
        self.weight_top_p = config.eft_weight_top_p
        self.views = [(int(member), float(factor)) for member, factor in config.eft_views]
        self.secondary_weights = [
            DefaultModelLoader.Source(
                record["model"], record["revision"], prefix=f"{_MARK}{number}."
            )
            for number, record in enumerate(records)
            if number
        ]
        self.names = [f"member{number}" for number in range(len(records))]
        self.widths: list[int] = []
        self.member_sizes: list[int] = []
        for name, record in zip(self.names, records, strict=True):
            engine = member_engine(vllm_config, record, name)
            own = engine.model_config.hf_config
            with set_model_tag(name):  # compiled functions are kept under it
                model = init_vllm_registered_model(
                    engine, hf_config=own, prefix=maybe_prefix(prefix, name)
                )
            _check_windows(model, own.get_text_config(), record["model"])
            self.add_module(name, model)
            self.widths.append(int(own.hidden_size))
            self.member_sizes.append(int(own.vocab_size))

    @property
    def members(self) -> list[Any]:
        """The members' own vLLM models."""
        # no ModuleList: vLLM reads a layer's number as the only number between dots of its name
        return [getattr(self, name) for name in self.names]

    def embed_input_ids(self, input_ids: Tensor) -> Tensor:
        """Return the ids: members embed them each in its own way."""
        return input_ids

    def forward(
        self,
        input_ids: Tensor,
        positions: Tensor,
        intermediate_tensors: Any = None,
        inputs_embeds: Tensor | None = None,
        **unused: Any,
    ) -> Tensor:
        """Return the members' hidden states side by side, [tokens, sum of widths]."""
        states = []
        for member, size in zip(self.members, self.member_sizes, strict=True):
            # a draft may hold a padding token that this member lacks: it is rejected anyway
            ids = input_ids if size >= self.size else input_ids.clamp(max=size - 1)
            states.append(member(ids, positions))
        return torch.cat(states, dim=-1)

    def compute_logits(self, hidden_states: Tensor) -> Tensor | None:
        """Return the composite's scores, float32, [rows, V]; None on ranks that do not sample."""
        parts = torch.split(hidden_states, self.widths, dim=-1)
        total: Tensor | None = None
        for place, (member, factor) in enumerate(self.views):
            # every rank calls every member: they gather their parts together
            logits = self.members[member].compute_logits(parts[member].contiguous())
            if logits is None:
                continue
            shared = logits[..., : self.vocabulary]
            if total is None:
                total = torch.zeros_like(shared, dtype=torch.float32)
            if self.weight_top_p is None:
                add_term(total, shared.float(), factor)
                continue
            log_probs = shared.log_softmax(dim=-1, dtype=torch.float32)
            if place == len(self.views) - 1:
                add_filtered_tuned(total, log_probs, float(self.weight_top_p))
            else:
                add_term(total, log_probs, factor)
        if total is None:
            return None
        if self.excluded:
            places = torch.tensor(self.excluded, device=total.device)
            total.index_fill_(-1, places, float("-inf"))
        if self.size > self.vocabulary:
            beyond = self.size - self.vocabulary
            total = nn.functional.pad(total, (0, beyond), value=float("-inf"))
        return total

    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> set[str]:
        """Give every member its checkpoint's weights, one checkpoint after the other."""
        loaded: set[str] = set()
        for number, of_one in groupby(weights, key=lambda pair: _member_of(pair[0])):
            names = self.members[number].load_weights(_own_names(of_one))
            loaded |= {f"{self.names[number]}.{name}" for name in names or ()}
        return loaded


def member_engine(whole: VllmConfig, record: Mapping[str, Any], name: str) -> VllmConfig:
    """Return the engine's configuration as one member is to see it.

    What vLLM reads off the engine's only model is else the first member's, for all of them: the
    window of every layer, how weights are quantised, and by what compiled functions are found
    again (two members of one shape would share them, with the names of one's layers inside).
    """
    model = copy.deepcopy(whole.model_config)
    own = get_config(record["model"], model.trust_remote_code, record["revision"])
    own.eft_member = name
    model.model = record["model"]
    model.revision = record["revision"]
    model.hf_config, model.hf_text_config = own, own.get_text_config()
    model.model_arch_config = model.get_model_arch_config()
    model.quantization = None
    model._verify_quantization()
    cache = copy.copy(whole.cache_config)
    cache.sliding_window = _window_of_all_layers(own.get_text_config())
    return replace(whole, model_config=model, cache_config=cache, quant_config=None)


def _window_of_all_layers(config: Any) -> int | None:
    """Return the window that vLLM gives layers which name none: as of a model of its own."""
    kinds = getattr(config, "layer_types", None)
    if kinds is not None and any(kind != "sliding_attention" for kind in kinds):
        return None
    return getattr(config, "sliding_window", None) or None


def _check_windows(model: nn.Module, config: Any, label: str) -> None:
    """Raise ConfigError where a layer of vLLM's model sees less, or more, than it was trained to.

    Most of vLLM's model classes know one kind of window, and some configurations name several.
    """
    windows = layer_windows(config)
    if windows is None or any(one.kind == "chunked_attention" for one in windows):
        return
    for layer in model.modules():
        if not isinstance(layer, Attention):
            continue
        size = windows[extract_layer_index(layer.layer_name)].size
        # of one more where the model counts the token itself
        if layer.sliding_window != size and layer.sliding_window != (size or 0) + 1:
            raise ConfigError(
                f"{label}: {layer.layer_name} has a window of {size} tokens (None: all), and of "
                f"{layer.sliding_window} in vLLM: use --model eft"
            )


def _member_of(name: str) -> int:
    if not name.startswith(_MARK):
        return 0
    return int(name[len(_MARK) :].partition(".")[0])


def _own_names(weights: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in weights:
        yield (name.partition(".")[2] if name.startswith(_MARK) else name), tensor
