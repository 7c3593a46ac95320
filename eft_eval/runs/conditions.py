"""Under which conditions a run was made: what may differ between two runs besides the model."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from eft_eval.runs.metadata import decoding_in, members_in, prompt_data_in
from eft_eval.runs.records import Run, TaskRun
from eft_eval.secrets import without_secrets

__all__ = [
    "SAMPLING_KEY",
    "bears_on_scores",
    "conditions_of",
    "sampling_rule",
    "unfinished_responses",
]

SAMPLING_KEY = "eft_sampling_defaults"
"""In a results file's ``config``: what the checkpoint sets of sampling where a task is silent.

Absent where nobody noted it."""
_ONLY_SAMPLED = ("temperature", "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff",
                 "eta_cutoff")  # fmt: skip
_ALWAYS = ("repetition_penalty", "no_repeat_ngram_size", "num_beams", "length_penalty",
           "presence_penalty", "frequency_penalty", "encoder_repetition_penalty")  # fmt: skip
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "temperature": (1,),
    "top_k": (0, -1),
    "top_p": (1,),
    "min_p": (0,),
    "typical_p": (1,),
    "epsilon_cutoff": (0,),
    "eta_cutoff": (0,),
    "repetition_penalty": (1,),
    "no_repeat_ngram_size": (0,),
    "num_beams": (1,),
    "length_penalty": (1,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "encoder_repetition_penalty": (1,),
}
_UNFINISHED = "responses whose reasoning did not end"
_SEEDS = ("random_seed", "numpy_seed", "torch_seed", "fewshot_seed")
_HF = ("hf", "hf-auto", "huggingface", "hf-multimodal")
_BEARING = (
    "lm-eval", "type of the weights", "type of the logits", "quantization", "chat template",
    "system instruction", "sampling of ", "data of ", "judge of ",
)  # fmt: skip


def bears_on_scores(condition: str) -> bool:
    """Whether a condition that differs may move scores by itself, and so is warned of."""
    return condition.startswith(_BEARING)


def conditions_of(run: Run) -> dict[str, str]:
    """Return the conditions of a run by name; of a baseline those that were kept."""
    if run.kind == "baseline":
        return dict(run.conditions) if run.conditions else dict(_known_of_old(run))
    return {name: str(without_secrets(value)) for name, value in _conditions(run) if value}


def unfinished_responses(run: Run) -> tuple[int, int]:
    """Return how many responses' reasoning did not end, and of how many; 0 of 0 if not known."""
    found = re.fullmatch(r"(\d{1,15}) of (\d{1,15})", conditions_of(run).get(_UNFINISHED, ""))
    return (int(found[1]), int(found[2])) if found else (0, 0)


def sampling_rule(generation: Any, config: Mapping[str, Any]) -> str:
    """Return the rule that tokens were chosen by: a task's settings over the checkpoint's.

    Args:
        generation: The task's ``generation_kwargs``.
        config: ``config`` of the results file.

    Returns:
        Such as "sampled, top_p 0.8"; empty for a task that generates nothing.
    """
    if not isinstance(generation, Mapping):
        return ""
    defaults = config.get(SAMPLING_KEY)
    temperature = generation.get("temperature")
    sampled = generation.get("do_sample")
    if sampled is None:
        sampled = bool(temperature)
    greedy = not sampled or temperature == 0
    merged = {**(defaults if isinstance(defaults, Mapping) else {}), **generation}
    names = _ALWAYS if greedy else (*_ONLY_SAMPLED, *_ALWAYS)
    words = ["greedy" if greedy else "sampled"]
    for name in names:
        value = merged.get(name)
        if value is not None and value not in _NEUTRAL[name]:
            words.append(f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}")
    if defaults is None and config.get("model") in _HF:
        words.append("and what the checkpoint's generation_config sets, which nobody noted")
    return ", ".join(words)


def _known_of_old(run: Run) -> Iterator[tuple[str, str]]:
    """Yield what a baseline without conditions says all the same."""
    if run.lm_eval_version:
        yield "lm-eval", run.lm_eval_version
    for task in run.tasks.values():
        if rule := sampling_rule(json.loads(task.generation), {}):
            yield f"sampling of {task.name}", rule


def _conditions(run: Run) -> Iterator[tuple[str, str]]:
    config = run.files[0].config if run.files else {}
    details = run.details
    yield "lm-eval", run.lm_eval_version
    yield "eft-eval", str(config.get("eft_version") or "")
    yield "transformers", str(details.get("transformers_version") or "")
    yield "adapter", str(config.get("model") or "")
    yield "type of the weights", _weights(config, run.label)
    yield "type of the logits", _logits(config, run.label)
    quantized = [one.quantization for one in members_in(config, run.label) if one.quantization]
    yield "quantization", ", ".join(sorted(set(quantized))) or "none"
    yield "chat template", str(details.get("chat_template_sha") or "none")[:12]
    yield "system instruction", str(details.get("system_instruction_sha") or "none")[:12]
    for task in run.tasks.values():
        of_file = run.file_of(task.name).config
        yield (
            f"sampling of {task.name}",
            sampling_rule(task.config.get("generation_kwargs"), of_file),
        )
        yield f"data of {task.name}", _data(task)
        for pipeline in task.pipelines.values():
            if (judge := pipeline.judge) is not None:
                answered = ", ".join(judge.returned)
                text = judge.model + (f", answered by {answered}" if answered else "")
                yield f"judge of {task.name}, {pipeline.name}", text
    decoded = decoding_in(config, run.label)
    if decoded is not None and decoded.unfinished:
        yield _UNFINISHED, f"{decoded.unfinished} of {decoded.requests + (decoded.resumed or 0)}"
    seeds = [f"{key.removesuffix('_seed')} {config[key]}" for key in _SEEDS if key in config]
    yield "seeds", ", ".join(seeds)
    for name, key in (("device", "device"), ("batch size", "batch_size"), ("limit", "limit")):
        yield name, "" if config.get(key) is None else str(config[key])
    yield "revision of the folder", str(details.get("git_hash") or "")


def _weights(config: Mapping[str, Any], where: str) -> str:
    types = sorted({one.weights for one in members_in(config, where) if one.weights})
    return ", ".join(types) or str(config.get("model_dtype") or "").removeprefix("torch.")


def _logits(config: Mapping[str, Any], where: str) -> str:
    """Return the type of logits where some member's are wider than its weights."""
    types = {one.head_dtype for one in members_in(config, where) if one.head_dtype}
    return ", ".join(sorted(one.removeprefix("torch.") for one in types))


def _data(task: TaskRun) -> str:
    own = prompt_data_in(task.config, task.name)
    if own is not None:
        where = own.origin or own.name
        return f"{where}, {own.used} prompts ({own.prompts_sha256[:12]})"
    names = [task.config.get(key) for key in ("dataset_path", "dataset_name")]
    options = task.config.get("dataset_kwargs")
    revision = options.get("revision") if isinstance(options, Mapping) else None
    return ", ".join(str(one) for one in (*names, revision) if one)
