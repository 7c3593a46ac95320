"""A task's generation settings, checked: what the decoder does not do is refused, never ignored."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from eft_eval.decoding.requests import SamplingRule
from eft_eval.errors import ConfigError, nearest

__all__ = ["GenerationPlan", "generation_plan"]

_LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
"""Names of one setting, as lm-eval ranks them."""
_KNOWN = (
    "do_sample", "temperature", "top_k", "top_p", "min_p", "typical_p", "until", "max_gen_toks",
)  # fmt: skip
_NOTHING: tuple[Any, ...] = (None, False, 0)
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "use_cache": (True, False, None),
    **dict.fromkeys(
        (
            "num_beams", "num_beam_groups", "num_return_sequences", "n", "best_of",
            "repetition_penalty", "encoder_repetition_penalty", "length_penalty", "guidance_scale",
            "skip_special_tokens", "spaces_between_special_tokens",
        ),
        (None, 1, True),
    ),
    **dict.fromkeys(
        (
            "no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "presence_penalty",
            "frequency_penalty", "diversity_penalty", "penalty_alpha", "epsilon_cutoff",
            "eta_cutoff", "top_h", "min_length", "min_new_tokens", "min_tokens", "early_stopping",
            "ignore_eos", "include_stop_str_in_output", "remove_invalid_values", "token_healing",
            "output_scores", "output_logits", "output_attentions", "output_hidden_states",
            "return_dict_in_generate", "low_memory", "bad_words_ids", "force_words_ids",
            "suppress_tokens", "begin_suppress_tokens", "forced_bos_token_id",
            "forced_eos_token_id", "sequence_bias", "constraints", "watermarking_config",
            "exponential_decay_length_penalty", "logit_bias", "logprobs", "prompt_logprobs",
        ),
        _NOTHING,
    ),
    "renormalize_logits": (None, True, False),
}  # fmt: skip
"""Settings of other decoders, with the values that change nothing."""
_MEANT = {
    **dict.fromkeys(("stop", "stop_sequences", "stop_strings", "stop_words"), ": write `until`"),
    "seed": ": it is an option of the command, --seed N",
}
_REASONS = {
    "repetition_penalty": "it changes logits, of which a sum of models has no absolute size",
    "num_beams": "responses are sampled or greedy",
}


class GenerationPlan(NamedTuple):
    """A task's generation settings, checked."""

    rule: SamplingRule
    until: list[str]
    max_new_tokens: int


def generation_plan(
    settings: Mapping[str, Any], default_tokens: int, end_text: str | None
) -> GenerationPlan:
    """Check lm-eval's generation settings.

    A temperature without ``do_sample`` samples, as in lm-eval; without both the best token is
    taken, and what only concerns samples changes nothing.

    Args:
        settings: ``generation_kwargs`` of a task, with ``--gen_kwargs``.
        default_tokens: Longest response where they do not say.
        end_text: Of the end-of-sequence token; it ends responses, too.

    Raises:
        ConfigError: A setting is unknown, or its value is not what it may be.
    """
    given = dict(settings)
    until = _strings(given.pop("until", None))
    if end_text is not None and end_text not in until:
        until.append(end_text)
    lengths = [given.pop(name, None) for name in _LENGTHS]
    asked = next((length for length in lengths if length is not None), default_tokens)
    length = _number("max_gen_toks", asked, "a whole number from 1 on")
    if length < 1 or length != int(length):
        raise _wrong("max_gen_toks", asked, "a whole number from 1 on")
    rule = _rule(given)
    for name, value in given.items():
        if name not in _NEUTRAL:
            meant = _MEANT.get(name) or nearest(name, _KNOWN)
            raise ConfigError(
                f"generation setting {name}={value!r} is unknown{meant}; eft takes "
                f"{', '.join(_KNOWN)}"
            )
        if value not in _NEUTRAL[name]:
            why = f": {_REASONS[name]}" if name in _REASONS else ""
            raise ConfigError(
                f"generation setting {name}={value!r} is not supported with eft{why}; leave it out "
                f"(eft takes {', '.join(_KNOWN)})"
            )
    return GenerationPlan(rule, until, int(length))


def _rule(given: dict[str, Any]) -> SamplingRule:
    """Return how tokens are chosen; takes what says it out of ``given``."""
    sampling, heat = given.pop("do_sample", None), given.pop("temperature", None)
    if sampling not in (None, True, False):
        raise _wrong("do_sample", sampling, "true or false")
    asked = {name: given.pop(name, None) for name in ("top_k", "top_p", "min_p", "typical_p")}
    temperature = 1.0 if heat is None else _number("temperature", heat, "a number from 0 on")
    if temperature < 0:
        raise _wrong("temperature", heat, "a number from 0 on")
    if sampling is None:
        sampling = heat is not None and temperature > 0
    if not sampling or temperature == 0:
        return SamplingRule()
    top_k = _number("top_k", asked["top_k"] or 0, "a whole number; 0 or -1 for all tokens")
    if top_k != int(top_k) or top_k < -1:
        raise _wrong("top_k", asked["top_k"], "a whole number; 0 or -1 for all tokens")
    top_p = _share("top_p", asked["top_p"])
    typical_p = _share("typical_p", asked["typical_p"])
    min_p = _number("min_p", asked["min_p"] or 0, "a number from 0 to 1")
    if not 0 <= min_p <= 1:
        raise _wrong("min_p", asked["min_p"], "a number from 0 to 1")
    return SamplingRule(
        temperature, int(top_k) if top_k > 0 else None, top_p, min_p or None, typical_p
    )


def _share(name: str, value: Any) -> float | None:
    """Return a mass that samples are taken from; None where that is all."""
    if value is None:
        return None
    share = _number(name, value, "a number above 0, at most 1")
    if not 0 < share <= 1:
        raise _wrong(name, value, "a number above 0, at most 1")
    return share


def _strings(value: Any) -> list[str]:
    found = [value] if isinstance(value, str) else value or []
    if not isinstance(found, (list, tuple)) or not all(isinstance(one, str) for one in found):
        raise _wrong("until", value, "a text or a list of texts")
    return [*found]


def _number(name: str, value: Any, expected: str) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise _wrong(name, value, expected)
    return number


def _wrong(name: str, value: Any, expected: str) -> ConfigError:
    return ConfigError(f"generation setting {name}: got {value!r}, expected {expected}")
