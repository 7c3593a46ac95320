"""Generation settings that a checkpoint of transformers brings along, whatever a task says."""

from __future__ import annotations

from typing import Any

from transformers import GenerationConfig

__all__ = ["logit_settings", "sampling_defaults"]

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


_OF_LOGITS: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(
        (
            "repetition_penalty", "encoder_repetition_penalty", "num_beams", "guidance_scale",
        ),
        (1,),
    ),
    **dict.fromkeys(
        (
            "no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "min_length", "min_new_tokens",
            "penalty_alpha",
        ),
        (0,),
    ),
    **dict.fromkeys(
        (
            "suppress_tokens", "begin_suppress_tokens", "bad_words_ids", "sequence_bias",
            "exponential_decay_length_penalty", "forced_bos_token_id", "forced_eos_token_id",
            "watermarking_config", "stop_strings",
        ),
        ([],),
    ),
}  # fmt: skip
"""Those that change greedy answers, too, with the values that do not."""


def logit_settings(config: Any) -> dict[str, Any]:
    """Return what a checkpoint's generation settings do to every answer, greedy ones included.

    Args:
        config: Of transformers; None: there are none.
    """
    values = ((name, getattr(config, name, None)) for name in _OF_LOGITS)
    return {
        name: value for name, value in values if value is not None and value not in _OF_LOGITS[name]
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
