"""`eft-eval train-pair`: the two tuned models of the frontier, by DPO on HH."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eft_eval.cli.options import grouped
from eft_eval.errors import ConfigError
from eft_eval.streams import say

if TYPE_CHECKING:
    from eft_eval.training.folder import PairFolder
    from eft_eval.training.pair import PairPlan
    from eft_eval.training.settings import Training

_TOLD = 10  # lines of progress a model, about


@dataclass(frozen=True)
class PairDataOptions:
    """From what, and on what."""

    reference: Annotated[
        str | None, typer.Option(help="The model that both are tuned from: id, folder, GGUF file.")
    ] = None
    large_base: Annotated[
        str | None, typer.Option(help="A larger one of its tokenizer, for the family file.")
    ] = None
    helpful: Annotated[
        str | None,
        typer.Option(help="File of pairs {chosen, rejected}; by default helpful-base of HH."),
    ] = None
    harmless: Annotated[str | None, typer.Option(help="Likewise; harmless-base of HH.")] = None
    pairs: Annotated[int | None, typer.Option(help="Pairs of a model, at most.")] = None
    held_out: Annotated[
        int | None, typer.Option(help="Pairs that are measured on, and not trained on.")
    ] = None


@dataclass(frozen=True)
class TuningOptions:
    """What of the settings is changed."""

    beta: Annotated[float | None, typer.Option(help="DPO's β.")] = None
    learning_rate: Annotated[float | None, typer.Option(help="Of AdamW, at its highest.")] = None
    epochs: Annotated[int | None, typer.Option(help="Passes over the pairs.")] = None
    steps: Annotated[int | None, typer.Option(help="Steps, in place of the epochs'.")] = None
    batch_size: Annotated[int | None, typer.Option(help="Pairs of a step.")] = None
    max_length: Annotated[
        int | None, typer.Option(help="Tokens; pairs with a longer dialogue are left out.")
    ] = None
    seed: Annotated[int | None, typer.Option(help="Of order and first weights.")] = None


@grouped
def train_pair(
    data: PairDataOptions,
    tuning: TuningOptions,
    name: Annotated[
        str | None, typer.Argument(help="llama2, or a YAML file; none: the options alone.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the pair; the same goes on with it.")
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Show data, steps, tokens and memory; load no weights."),
    ] = False,
) -> None:
    """Tune a helpful and a harmless model from one reference: DPO with LoRA adapters.

    For `eft-eval study frontier`, whose family file it writes. The same command goes on after a
    kill from the last checkpoint; a model that is whole is not trained again. Needs
    `pip install "eft-eval[train]"`.
    """
    training = _training(name, data, tuning)
    if not dry_run:
        from eft_eval.training.tuning import check_packages

        check_packages()
    from eft_eval.files import check_folder

    place = out or Path(f"pair-{Path(name).stem if name else 'own'}")
    check_folder(place)
    device = _device()
    from eft_eval.training.folder import PairFolder
    from eft_eval.training.pair import plan_pair

    plan = plan_pair(training, device)
    folder = PairFolder(place, plan.settings)
    folder.check()
    if dry_run:
        _show(plan, folder)
    else:
        _train(plan, folder, device)


def _training(name: str | None, data: PairDataOptions, tuning: TuningOptions) -> Training:
    from eft_eval.training.settings import find_training

    if name is None and data.reference is None:
        raise ConfigError(
            "which model? give --reference MODEL, the name of a training (llama2), or a YAML file"
        )
    given = {**vars(data), **vars(tuning)}
    return find_training(name, {key.replace("_", "-"): value for key, value in given.items()})


def _device() -> Any:
    """Return where models are trained: one GPU, or the CPU.

    Raises:
        ConfigError: There are several GPUs, or several processes.
    """
    import os

    import torch

    from eft_eval.model_adapters.settings import pick_device

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("train-pair is one process: run it without torchrun or accelerate launch")
    if torch.cuda.device_count() > 1:
        raise ConfigError(
            f"train-pair trains on one GPU, and {torch.cuda.device_count()} are visible: set "
            "CUDA_VISIBLE_DEVICES=0"
        )
    return pick_device(None)


def _sides(plan: PairPlan, folder: PairFolder) -> dict[str, dict[str, Any]]:
    found = {}
    for side in plan.sides:
        left_out = dict(side.rows.left_out)
        if longer := side.train.too_long + side.held_out.too_long:
            left_out[f"with more than {plan.training.max_length} tokens"] = longer
        place = folder.side(side.name)
        found[side.name] = {
            "origin": side.rows.origin,
            "pairs": len(side.train.pairs),
            "held_out": len(side.held_out.pairs),
            "left_out": left_out,
            "steps": side.steps,
            "done": side.steps if place.is_tuned else place.last_step(),
            "tokens": side.tokens,
        }
    return found


def _show(plan: PairPlan, folder: PairFolder) -> None:
    from eft_eval.reports.renderers.terminal import print_document
    from eft_eval.reports.views.training import training_plan
    from eft_eval.training.needs import memory_of

    longest = max(max(pair.tokens) for side in plan.sides for pair in side.train.pairs)
    memory = memory_of(plan.training, longest)
    parts = {
        "weights": memory.weights,
        f"adapter of {memory.parameters:,} parameters, gradients, AdamW": memory.adapter,
        f"activations, {2 * plan.training.micro_batch_size} rows of {longest:,} tokens": (
            memory.activations
        ),
    }
    print_document(training_plan(_sides(plan, folder), parts))
    say(f"folder: {folder.path}")


def _train(plan: PairPlan, folder: PairFolder, device: Any) -> None:
    from eft_eval.reports.renderers.terminal import print_document
    from eft_eval.reports.views.training import left_out_lines, training_results
    from eft_eval.training.pair import FAMILY_FILE
    from eft_eval.training.pair import train_pair as train

    def waiting() -> None:
        say(f"{folder.path}: another process trains this pair; waiting for it", sys.stderr)

    for line in left_out_lines(_sides(plan, folder)):
        say(line, sys.stderr)
    with folder.held(waiting):
        figures = train(plan, folder, device, _Teller())
    print_document(training_results(figures, folder.path / FAMILY_FILE))


class _Teller:
    """Says a line every so many steps, with the time that is left."""

    def __init__(self) -> None:
        self._begun: dict[str, tuple[int, float]] = {}

    def __call__(self, side: str, step: int, steps: int, line: Mapping[str, Any]) -> None:
        first, begun = self._begun.setdefault(side, (step, time.monotonic()))
        if step != steps and step % max(1, steps // _TOLD):
            return
        text = (
            f"{side}: step {step:,} of {steps:,}: loss {line['loss']:.3f}, margin "
            f"{line['margin']:.3f}, accuracy {line['accuracy']:.2f}"
        )
        if first < step < steps:
            left = (time.monotonic() - begun) / (step - first) * (steps - step)
            text += (
                f"; about {left:.0f} s left" if left < 90 else f"; about {left / 60:.0f} min left"
            )
        say(text, sys.stderr)
