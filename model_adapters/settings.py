"""What lm-eval hands over about device and generation, checked."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import torch
from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs

from eft_eval.decoding.requests import SamplingRule
from eft_eval.errors import ConfigError
from eft_eval.recipe import Recipe, needs


def pick_device(asked: str | None) -> torch.device:
    """Return the device asked for; lm-eval's command asks for cuda:0 on every machine."""
    count = torch.cuda.device_count()
    if asked is None or (count == 0 and asked.startswith("cuda")):
        return torch.device("cuda" if count else "cpu")
    device = torch.device(asked)
    if device.type == "cuda" and (device.index or 0) >= count:
        raise ConfigError(f"device: got {asked!r}, but this machine has {count} CUDA devices")
    return device


_TINY = 20_000_000  # parameters


def limit_threads(recipe: Recipe, device: torch.device) -> None:
    """Let tiny models on a CPU run on one thread, unless OMP_NUM_THREADS says otherwise.

    Their operations are over before a second thread is awake: on an idle machine threads gain
    nothing, on a busy one they wait for each other and cost a multiple.
    """
    parameters = needs(recipe).parameters
    tiny = parameters is not None and parameters < _TINY
    if tiny and device.type == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)


class GenerationPlan(NamedTuple):
    """A task's generation settings, checked."""

    rule: SamplingRule
    until: list[str]
    max_new_tokens: int


def generation_plan(
    gen_kwargs: dict[str, Any], default_tokens: int, eos_text: str | None
) -> GenerationPlan:
    """Check lm-eval's generation settings; what the decoder does not do is refused."""
    given = normalize_gen_kwargs(gen_kwargs, default_tokens)
    until = handle_stop_sequences(given.pop("until", None), eos=eos_text)
    max_new_tokens = given.pop("max_gen_toks")
    if not given.pop("do_sample"):
        temperature = 0.0
        given.pop("temperature", None)
        given.pop("top_k", None)
        given.pop("top_p", None)
    else:
        temperature = float(given.pop("temperature", 1.0))
    top_k, top_p = given.pop("top_k", None), given.pop("top_p", None)
    beams = given.pop("num_beams", 1)
    given.pop("use_cache", None)
    if given or int(beams) != 1:
        name = next(iter(given), "num_beams")
        raise ConfigError(
            f"generation setting {name!r} is not supported with eft; supported are do_sample, "
            "temperature, top_k, top_p, until, max_gen_toks"
        )
    if temperature < 0 or max_new_tokens < 1 or (top_p is not None and not 0 < float(top_p) <= 1):
        raise ConfigError(
            f"generation settings: got temperature={temperature}, top_p={top_p}, "
            f"max_gen_toks={max_new_tokens}; expected temperature >= 0, 0 < top_p <= 1 and "
            "max_gen_toks >= 1"
        )
    return GenerationPlan(
        SamplingRule(
            temperature,
            int(top_k) if top_k else None,
            None if top_p is None else float(top_p),
        ),
        until,
        max_new_tokens,
    )
