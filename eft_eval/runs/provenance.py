"""Where a run comes from, and how its responses were made: facts of its results file, typed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from eft_eval.runs.metadata import Decoding, Member, decoding_in, members_in, model_arguments
from eft_eval.runs.records import JudgeSeen, Run
from eft_eval.secrets import without_secrets

__all__ = ["Fact", "decoding_of", "facts_of", "judges_of", "members_of"]

_SEEDS = ("random_seed", "numpy_seed", "torch_seed", "fewshot_seed")


class Fact(NamedTuple):
    """One line on where a run comes from."""

    name: str
    value: str


def decoding_of(run: Run) -> Decoding | None:
    """Return what the generation loop did; None for a model that is no composite."""
    return decoding_in(_config(run), run.label)


def members_of(run: Run) -> tuple[Member, ...]:
    """Return the models of a composite; none for other models."""
    return members_in(_config(run), run.label)


def facts_of(run: Run) -> tuple[Fact, ...]:
    """Return name, date, versions, arguments and seeds; what the files do not say is left out."""
    return tuple(Fact(name, without_secrets(value)) for name, value in _facts(run) if value)


def judges_of(run: Run) -> tuple[tuple[str, JudgeSeen], ...]:
    """Return the judges of a run, each with the task and filter that it judged."""
    return tuple(
        (f"{task.name}, {pipeline.name}", pipeline.judge)
        for task in run.tasks.values()
        for pipeline in task.pipelines.values()
        if pipeline.judge is not None
    )


def _facts(run: Run) -> Iterator[tuple[str, str]]:
    config, details = _config(run), run.details
    yield "model", run.model
    yield "files", run.label
    yield "date", run.date
    yield "kind", "baseline file (no texts)" if run.kind == "baseline" else ""
    yield "adapter", str(config.get("model") or "")
    yield "model arguments", _arguments(model_arguments(config))
    recipe = config.get("eft_recipe")
    if isinstance(recipe, Mapping):
        shown = without_secrets(recipe)
        yield "recipe", json.dumps(shown, sort_keys=True, ensure_ascii=False)
    for name, key in (("generation arguments", "gen_kwargs"), ("documents, at most", "limit")):
        yield name, _plain(without_secrets(config.get(key)))
    yield "batch size", _plain(config.get("batch_size"))
    seeds = [f"{key.removesuffix('_seed')} {config[key]}" for key in _SEEDS if key in config]
    yield "seeds", ", ".join(seeds)
    for task in run.tasks.values():
        shots = f", {task.shots}-shot" if task.shots is not None else ""
        count = f", {task.documents} documents" if task.documents is not None else ""
        yield f"task {task.name}", f"version {task.version}{shots}{count}"
    yield "lm-eval", run.lm_eval_version
    yield "transformers", _plain(details.get("transformers_version"))
    yield "revision of the folder", _plain(details.get("git_hash"))
    yield "chat template", _plain(details.get("chat_template_sha"))


def _config(run: Run) -> Mapping[str, Any]:
    return run.files[0].config if run.files else {}


def _arguments(given: Mapping[str, Any]) -> str:
    """Return model arguments as ``key=value,…``; what may be a secret is not shown."""
    return ",".join(f"{key}={_plain(value)}" for key, value in without_secrets(given).items())


def _plain(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
