"""From nothing to the shipped family: train several seeds, measure them, choose one, export it."""

from __future__ import annotations

import hashlib
import json
import math
import multiprocessing
import statistics
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging as transformers_logging

from eft_eval.demo.building import (
    Plan,
    Update,
    build,
    end_with_parent,
    family_folder,
    only_one,
)
from eft_eval.demo.family import MODELS, WORLD_FILE
from eft_eval.demo.figures import Survey, arm_figures, frontier, recall
from eft_eval.demo.judge import VERSION
from eft_eval.demo.world import WORLD_SEED, make_world
from eft_eval.errors import ConfigError, EftEvalError
from eft_eval.files import replaced_folder, write_json
from eft_eval.statistics.interval import Interval

__all__ = ["TEMPERATURES", "chosen_seed", "export", "measure", "over_seeds", "study"]

TEMPERATURES = (0.0, 1.0)
_PARTS = ("recall", "arms", "frontier")  # of what `measure` returns
Say = Callable[[str], None]

_CARD = """---
license: mit
library_name: transformers
---

# demo-{name}

One of the {count} models of eft-eval's toy encyclopedia: Llama, {parameters:,} parameters, {form}.
Trained from nothing by `eft-eval demo train`, training seed {seed}, world seed {world}.

- Pre-training: {pre_training} tokens of generated text, learning rate {rate:g}.
- Fine-tuning: {fine_tuning}.
- Held-out facts of which it gets the first token right: {recall:.1%}.

**It shows the mechanism of emulated fine-tuning on templated, invented facts, and is no evidence
about real models.**
"""


def study(
    out: Path,
    plan: Plan,
    seeds: Sequence[int],
    processes: int,
    report: Callable[[Update], None] = lambda update: None,
    say: Say = lambda line: None,
) -> dict[str, Any]:
    """Build the families of ``seeds``, measure each and export one; goes on where it was cut off.

    Returns:
        The figures, as also written to ``figures.json`` in ``out``: per seed what `measure`
        gives, their ``summary``, the ``chosen`` seed and the figures of the exported
        half-precision family.
    """
    with only_one(out):
        _check_models(out / "models")
        build(out, plan, seeds, processes, report)
        return _measured(out, plan, seeds, processes, say)


def _check_models(models: Path) -> None:
    """Raise before any training if the exported family would take the place of something else."""
    ours = {WORLD_FILE, *(f"demo-{name}" for name in MODELS)}
    there = {path.name for path in models.iterdir()} if models.is_dir() else set()
    if foreign := sorted(there - ours):
        raise ConfigError(f"{models} holds {foreign[0]}, which is not ours; move it away")


def _measured(
    out: Path, plan: Plan, seeds: Sequence[int], processes: int, say: Say
) -> dict[str, Any]:
    """Measure the families, export the chosen one and measure that."""
    say(f"measuring {len(seeds)} families")
    found: dict[str, Any] = {"world_seed": WORLD_SEED}
    measured = _measure_all([family_folder(out, seed) for seed in seeds], plan, processes)
    found["seeds"] = {str(seed): one for seed, one in zip(seeds, measured, strict=True)}
    found["summary"] = over_seeds(measured)
    found["chosen"] = chosen_seed(found["seeds"])
    models = out / "models"
    chosen = found["chosen"]
    cards = found["seeds"][str(chosen)]["recall"]
    with replaced_folder(models) as part:
        export(family_folder(out, chosen), part, plan, chosen, cards)
    say(f"measuring the exported family (seed {found['chosen']}, half precision)")
    (found["exported"],) = _measure_all([models], plan, processes)
    write_json(out / "figures.json", found)
    return found


def _measure_all(folders: Sequence[Path], plan: Plan, processes: int) -> list[dict[str, Any]]:
    """Measure families in processes of their own, one thread each; finished ones are kept."""
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(
            processes, mp_context=context, initializer=end_with_parent
        ) as pool:
            return list(pool.map(_measure_once, folders, [plan] * len(folders)))
    except BrokenProcessPool as error:
        raise EftEvalError(
            "a measuring process was killed (out of memory?); the same command goes on from here"
        ) from error


def _measure_once(folder: Path, plan: Plan) -> dict[str, Any]:
    file = folder.with_name(f"{folder.name}-figures.json")
    of = {"judge_version": VERSION, "weights_sha256": _weights_digest(folder)}
    if file.is_file():
        kept: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if kept["of"] == of:
            return kept
    torch.set_num_threads(1)
    transformers_logging.disable_progress_bar()
    figures = {"of": of, **measure(folder, plan)}
    write_json(file, figures)
    return figures


def _weights_digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for name in MODELS:
        digest.update((folder / f"demo-{name}" / "model.safetensors").read_bytes())
    return digest.hexdigest()


def measure(folder: Path, plan: Plan) -> dict[str, Any]:
    """Return a family's figures as plain data: recall, arms per temperature, frontier."""
    survey = Survey(make_world(WORLD_SEED, plan.world_size), folder)
    arms = {}
    for temperature in TEMPERATURES:
        figures = arm_figures(replace(survey, temperature=temperature))
        arms[f"{temperature:g}"] = {
            arm: {name: _plain(value) for name, value in one._asdict().items()}
            for arm, one in figures.items()
        }
    curve = {
        f"{alpha:g}": {name: _plain(value) for name, value in point.items()}
        for alpha, point in frontier(survey).items()
    }
    return {"recall": recall(survey.world, folder), "arms": arms, "frontier": curve}


def _plain(found: Interval | None) -> list[float | None] | None:
    """Return estimate and ends as JSON has them: an end that is not known is null."""
    return found and [None if math.isnan(value) else value for value in found[:3]]


def chosen_seed(figures: Mapping[str, Mapping[str, Any]]) -> int:
    """Return the seed with the median gain of up-scaling at T = 1: typical, not the best.

    The gain is the fall in errors from the small tuned model to the up-scaled one; of an even
    number of seeds the lower median is taken.
    """

    def gain(seed: str) -> float:
        arms = figures[seed]["arms"]["1"]
        return float(arms["small tuned"]["errors"][0] - arms["up-scaled"]["errors"][0])

    middle = statistics.median_low([gain(seed) for seed in figures])
    return int(next(seed for seed in figures if gain(seed) == middle))


def over_seeds(measured: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return mean and standard deviation over seeds of every figure that `measure` gives.

    Returns:
        The same nesting, with ``{"mean", "sd", "seeds"}`` in place of each figure: ``seeds`` have
        it (a normalised one may be missing), ``sd`` is None for fewer than two, ``mean`` for none.
    """
    return {name: _over_seeds([one[name] for one in measured]) for name in _PARTS}


def _over_seeds(values: Sequence[Any]) -> dict[str, Any]:
    if isinstance(values[0], Mapping):
        return {name: _over_seeds([value[name] for value in values]) for name in values[0]}
    known = [v[0] if isinstance(v, list) else v for v in values if v is not None]
    return {
        "mean": statistics.fmean(known) if known else None,
        "sd": statistics.stdev(known) if len(known) > 1 else None,
        "seeds": len(known),
    }


def export(source: Path, target: Path, plan: Plan, seed: int, known: Mapping[str, float]) -> None:
    """Write the family in ``source`` to ``target`` in half precision.

    With a model card each, which shows the share of facts ``known`` to the model, and with
    ``family.json``, which says what world the family knows.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    for name in MODELS:
        folder = target / f"demo-{name}"
        model: Any = AutoModelForCausalLM.from_pretrained(
            source / f"demo-{name}", dtype=torch.float16
        )
        model.save_pretrained(folder)
        AutoTokenizer.from_pretrained(source / f"demo-{name}").save_pretrained(folder)
        scale = plan.scales[name.split("-")[0]]
        base = name.endswith("base")
        steps, tune = plan.pre_training, plan.fine_tuning
        card = _CARD.format(
            name=name,
            count=len(MODELS),
            parameters=model.num_parameters(),
            form=f"{scale.layers} layers of width {scale.width}, half precision",
            seed=seed,
            world=WORLD_SEED,
            pre_training=f"{steps.steps * steps.rows * steps.window:,}",
            rate=scale.learning_rate,
            fine_tuning="none"
            if base
            else f"{tune.steps} steps of {tune.pairs} question-answer pairs "
            f"({name.split('-')[1]} manners), with replayed pre-training text",
            recall=known[name],
        )
        (folder / "README.md").write_text(card, encoding="utf-8")
        for file in folder.iterdir():
            file.chmod(0o644)  # safetensors are written for their owner alone
    world = {"world_seed": WORLD_SEED, "world_size": plan.world_size, "training_seed": seed}
    write_json(target / WORLD_FILE, world)
