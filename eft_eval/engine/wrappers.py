"""Which class loads a checkpoint, and what of a multimodal one is the language model."""

from __future__ import annotations

from typing import Any

from eft_eval.errors import ConfigError

__all__ = ["drop_other_senses", "loader_of"]

_OTHER_SENSES = ("vision_tower", "visual", "vision_model", "audio_tower", "multi_modal_projector")


def loader_of(config: Any, label: str) -> Any:
    """Return the `transformers` auto class that loads a model of this configuration.

    Multimodal checkpoints (Mistral Small 3, Ministral 3, Qwen3-VL …) have no class of causal
    language models; their own answers texts as its language model does.

    Raises:
        ConfigError: It is of neither kind.
    """
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    remote = "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {})
    for known in (AutoModelForCausalLM, AutoModelForImageTextToText):
        if type(config) in known._model_mapping or (remote and known is AutoModelForCausalLM):
            return known
    raise ConfigError(
        f"{label}: {config.model_type!r} is no causal language model that this transformers knows; "
        "give another model, or a transformers that has it"
    )


def drop_other_senses(model: Any) -> None:
    """Free the weights of a multimodal model that texts do not need."""
    if model.config.get_text_config(decoder=True) is model.config:
        return
    for owner in (model, model.base_model):
        for name in _OTHER_SENSES:
            if getattr(owner, name, None) is not None:
                setattr(owner, name, None)
