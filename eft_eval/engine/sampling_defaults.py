"""Sampling settings that a checkpoint of transformers brings along, whatever a task says."""

from __future__ import annotations

from typing import Any

from transformers import GenerationConfig

__all__ = ["sampling_defaults"]

_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "temperature": (1,),
    "top_k": (0,),
    "top_p": (1,),
    "min_p": (0,),
    "typical_p": (1,),
    "epsilon_cutoff": (0,),
    "eta_cutoff": (0,),
    "repetition_penalty": (1,),
    "encoder_repetition_penalty": (1,),
    "no_repeat_ngram_size": (0,),
    "num_beams": (1,),
    "length_penalty": (1,),
}


def sampling_defaults(model: Any) -> dict[str, Any]:
    """Return what ``model.generate`` does unless it is told otherwise, neutral settings left out.

    A setting that the checkpoint leaves open has transformers' own default, such as top_k 50.
    """
    config = getattr(model, "generation_config", None)
    made = getattr(GenerationConfig, "_get_default_generation_params", None)
    general = made() if made is not None else {}
    found = {}
    for name, neutral in _NEUTRAL.items():
        value = getattr(config, name, None)
        value = general.get(name) if value is None else value
        if value is not None and value not in neutral:
            found[name] = value
    return found
