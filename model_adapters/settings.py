"""What lm-eval hands over about device, ranks, texts and batches, checked."""

from __future__ import annotations

import atexit
import json
import math
import os
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import torch
import torch.distributed

# Before a group of processes is there: its functions' default group is the one of that moment,
# and would keep it, with its threads, beyond its end.
import torch.distributed.nn.functional
from accelerate import Accelerator, InitProcessGroupKwargs

from eft_eval.composite.model import CompositeModel
from eft_eval.engine.devices import usable_device
from eft_eval.errors import ConfigError
from eft_eval.model_adapters.chat import check_template_args
from eft_eval.recipe import MemberSpec, Recipe, needs
from eft_eval.streams import logger

log = logger("lm_eval.eft")


def pick_device(asked: str | None) -> torch.device:
    """Return the device asked for; lm-eval's command asks for cuda:0 on every machine."""
    count = torch.cuda.device_count()
    if asked is None or (count == 0 and str(asked).startswith("cuda")):
        return torch.device("cuda" if count else "cpu")
    return usable_device(asked, "device")


def rank_attributes(asked: str | None) -> dict[str, Any]:
    """Return the attributes of `HFLM` on device and ranks; joins the other processes, if any.

    Args:
        asked: The device asked for.

    Raises:
        ConfigError: There are several processes, and accelerate does not join them.
    """
    size = os.environ.get("WORLD_SIZE") or "1"
    if size.strip() == "1":
        return {"_device": pick_device(asked), "_rank": 0, "_world_size": 1}
    # a rank may wait long for another's judge or download
    patience = InitProcessGroupKwargs(timeout=timedelta(weeks=1))
    way_on = (
        "launch with `accelerate launch`, on a CPU set ACCELERATE_USE_CPU=true, or unset WORLD_SIZE"
    )
    atexit.register(_leave)
    try:
        joined = Accelerator(kwargs_handlers=[patience])
    except ValueError as error:  # what a launcher sets is not there, or no number
        raise ConfigError(
            f"WORLD_SIZE is {size}, but accelerate joins no processes ({error}): {way_on}"
        ) from None
    if joined.num_processes == 1:
        raise ConfigError(
            f"WORLD_SIZE is {size}, but accelerate sees one process here, so "
            f"that each would evaluate every document: {way_on}"
        )
    return {
        "accelerator": joined,
        "_device": joined.device,
        "_rank": joined.process_index,
        "_world_size": joined.num_processes,
    }


def _leave() -> None:
    """Leave the other processes: gloo's threads, left alone, may abort one that has done its work.

    The launcher would then end every rank, also one that still judges or writes results.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def text_attributes(runtime: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of `HFLM` that say how texts are read and written, checked.

    Args:
        runtime: Run-time arguments of ``model_args``.
    """
    limit, prefix = runtime.get("max_length"), runtime.get("prefix_token_id")
    end: Any = runtime.get("think_end_token")
    thinking = runtime.get("enable_thinking")
    if thinking and end is None:
        raise ConfigError(
            "enable_thinking=True needs think_end_token=..., the token that ends the "
            "reasoning (for example think_end_token=</think>)"
        )
    template_args = _mapping("chat_template_args", runtime.get("chat_template_args"))
    check_template_args(template_args)
    if thinking is not None:
        template_args["enable_thinking"] = thinking
    return {
        "add_bos_token": runtime.get("add_bos_token"),
        "truncation": bool(runtime.get("truncation", False)),
        "logits_cache": bool(runtime.get("logits_cache", True)),
        "_max_length": whole_number("max_length", limit),
        "custom_prefix_token_id": whole_number("prefix_token_id", prefix, 0),
        "enable_thinking": thinking,
        "chat_template_args": template_args,
        "think_end_token": int(end) if str(end).isdecimal() else end,
    }


def check_length(composite: CompositeModel, asked: int | None) -> None:
    """Warn where rows may be longer than what the members say that they read."""
    limit = composite.max_length
    if asked is not None and limit is not None and asked > limit:
        log.warning(
            "max_length=%d is more than the %d tokens that the shortest member says it reads: what "
            "it makes of longer texts is not what it was made for", asked, limit,
        )  # fmt: skip


def batch_attributes(runtime: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of `HFLM` that say how batches are made and summed, checked."""
    given = runtime.get("batch_size")
    size, _, schedule = str(1 if given is None else given).partition(":")
    try:
        batch = size if size == "auto" else int(size)
        often = float(schedule or 1)
    except ValueError:
        batch, often = 0, 0.0
    if (batch != "auto" and int(batch) < 1) or not 1 <= often < math.inf:
        raise ConfigError(f"batch_size: got {given!r}, expected a number from 1 on, auto or auto:N")
    return {
        "batch_size_per_gpu": batch,
        "batch_schedule": often,
        "batch_sizes": {},
        "max_batch_size": whole_number("max_batch_size", runtime.get("max_batch_size")) or 64,
        "softmax_dtype": _dtype("softmax_dtype", runtime),
        "mixed_precision_dtype": _dtype("mixed_precision_dtype", runtime),
    }


def _dtype(name: str, runtime: Mapping[str, Any]) -> torch.dtype | None:
    given = runtime.get(name)
    if given is None or isinstance(given, torch.dtype):
        return given
    try:
        spelt = MemberSpec(model="-", dtype=given).dtype
    except ValueError:
        spelt = "auto"
    found = getattr(torch, spelt, None)
    if not isinstance(found, torch.dtype):
        raise ConfigError(f"{name}: got {given!r}, expected float32, float64, bfloat16 or float16")
    return found


def whole_number(name: str, given: Any, least: int = 1) -> int | None:
    """Return a whole number that may be given as text, None where there is none.

    Raises:
        ConfigError: It is none, or too small.
    """
    if given is None:
        return None
    try:
        found = float(given) if not isinstance(given, bool) else math.nan
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not (math.isfinite(found) and found == int(found) and found >= least):
        raise ConfigError(f"{name}: got {given!r}, expected a whole number from {least} on")
    return int(found)


def _mapping(name: str, given: Any) -> dict[str, Any]:
    """Return a mapping that may be given as JSON text."""
    try:
        found = json.loads(given) if isinstance(given, str) else given or {}
    except (ValueError, RecursionError):
        found = given
    if not isinstance(found, Mapping):
        raise ConfigError(
            f"{name}: got {given!r}, expected a JSON mapping; with more than one entry give all of "
            '--model_args as JSON: \'{"base": ..., "' + name + "\": {...}}'"
        )
    return dict(found)


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
