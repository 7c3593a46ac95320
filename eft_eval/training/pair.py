"""A pair of trainings from their data to two adapters, and the family that they make."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import yaml

from eft_eval.engine.loading import LoadOptions, Member
from eft_eval.errors import ConfigError
from eft_eval.files import user_path, write_lines
from eft_eval.recipe.model import MemberSpec
from eft_eval.recipe.naming import member_identity
from eft_eval.training.figures import Figures, held_out
from eft_eval.training.folder import PairFolder, SideFolder
from eft_eval.training.held_out import margins_of
from eft_eval.training.memory import enough_memory
from eft_eval.training.quiet import quiet_libraries
from eft_eval.training.rows import Rows, rows_of
from eft_eval.training.settings import SIDES, Training
from eft_eval.training.texts import Fitting, Texts, fitting
from eft_eval.training.tuning import SideWork, check_packages, tune

__all__ = ["FAMILY_FILE", "PairPlan", "SidePlan", "family_text", "plan_pair", "train_pair"]

FAMILY_FILE = "family.yaml"
_ADAPTER_KEPT = (
    "no memory is left to measure held-out pairs; {} is whole: free memory, and the same command "
    "goes on from there"
)
_LOG_SHARE = 0.1  # of the steps, that the first and the last figures are means of

Told = Callable[[str, int, int, Mapping[str, Any]], None]
"""Called after every step, with the side, the step, how many there are, and its line of the log."""


@dataclass(frozen=True)
class SidePlan:
    """What one model is made of.

    Attributes:
        name: ``helpful`` or ``harmless``.
        rows: Where its pairs are from, and how many rows are none.
        train: Texts to train on.
        held_out: Texts to measure on.
        steps: Steps of the optimiser.
        tokens: Tokens of all that these steps read; where they end within an epoch, on average.
    """

    name: str
    rows: Rows
    train: Fitting
    held_out: Fitting
    steps: int
    tokens: int


@dataclass(frozen=True)
class PairPlan:
    """What both models are made of.

    Attributes:
        training: The settings.
        sides: Helpful, then harmless.
    """

    training: Training
    sides: tuple[SidePlan, ...]

    @property
    def settings(self) -> dict[str, Any]:
        """What tells this training from any other, as plain JSON data."""
        found = {**self.training.identity, "reference": member_identity(self.training.reference)}
        for side in self.sides:
            found[side.name] = {"files": dict(side.rows.files), "revision": side.rows.revision}
        return found


def plan_pair(training: Training, device: torch.device) -> PairPlan:
    """Read configuration, tokenizer and data; no weights.

    Args:
        training: The settings.
        device: Where the models will be trained.

    Raises:
        ConfigError: The model or the data cannot be read, or do not fit the settings.
    """
    member = Member(training.reference, LoadOptions(), "reference")
    limit = member.max_length
    if limit is not None and training.max_length > limit:
        raise ConfigError(
            f"max-length is {training.max_length}, and the reference reads {limit} tokens; lower it"
        )
    if member.dtype == torch.float16 and device.type == "cpu":
        if training.reference.dtype != "auto":
            raise ConfigError(
                "reference: float16 is not trained on a CPU; give it dtype: float32, or bfloat16"
            )
        wider = training.reference.model_copy(update={"dtype": "float32"})  # the same weights
        training = training.model_copy(update={"reference": wider})
    narrow = member.dtype == torch.bfloat16 and device.type == "cuda"
    if narrow and not torch.cuda.is_bf16_supported():
        raise ConfigError("reference: this GPU has no bfloat16; give it dtype: float16, or float32")
    texts = Texts(member.tokenizer, training.chat_template)
    return PairPlan(training, tuple(_side(training, texts, name) for name in SIDES))


def _side(training: Training, texts: Texts, name: str) -> SidePlan:
    rows = rows_of(training, name)
    longest = training.max_length
    train = fitting(texts, rows.train, longest, training.pairs)
    measured = fitting(texts, rows.held_out, longest)
    for what, found in (("to train on", train), ("to measure on", measured)):
        if not found.pairs:
            raise ConfigError(
                f"{name}: all {found.too_long} pairs {what} have more than {longest} tokens; give "
                "a larger max-length"
            )
    per_epoch = math.ceil(len(train.pairs) / training.batch_size)
    steps = training.steps or training.epochs * per_epoch
    epochs, rest = divmod(steps, per_epoch)  # an epoch's last step has the pairs that are left
    passes = epochs + rest * training.batch_size / len(train.pairs)
    return SidePlan(name, rows, train, measured, steps, round(train.tokens * passes))


def train_pair(
    plan: PairPlan, folder: PairFolder, device: torch.device, told: Told
) -> dict[str, Figures]:
    """Make what is not there yet of both models; return their figures.

    Args:
        plan: What is trained.
        folder: Held by this process.
        device: Where the models go.
        told: Told of every step.

    Raises:
        ConfigError: A package is missing, or a training cannot go on.
    """
    found = {}
    for side in plan.sides:
        place = folder.side(side.name)
        if (figures := place.figures) is None:
            check_packages()
            with quiet_libraries():
                figures = _made(plan.training, side, place, device, told)
        found[side.name] = figures
    write_lines(folder.path / FAMILY_FILE, [family_text(plan.training, folder)])
    return found


def _made(
    training: Training, side: SidePlan, place: SideFolder, device: torch.device, told: Told
) -> Figures:
    if not place.is_tuned:
        work = SideWork(training, side.train.pairs, side.steps, place, device)
        tune(work, lambda step, steps, line: told(side.name, step, steps, line))
        gc.collect()  # the trainer and its model hold each other
        if device.type == "cuda":
            torch.cuda.empty_cache()
    pairs = side.held_out.pairs
    with enough_memory(lambda: _ADAPTER_KEPT.format(place.adapter)):
        margins = margins_of(training.reference, place.adapter, pairs, training.beta, device)
    measured = held_out(margins, [one.prompt for one in pairs])
    logged = place.logged()
    loss, margin, accuracy = (_ends(logged, name) for name in ("loss", "margin", "accuracy"))
    figures = Figures(len(side.train.pairs), side.steps, loss, margin, accuracy, measured)
    place.finish(
        figures,
        (
            {"prompt": one.prompt, "margin": margin}
            for one, margin in zip(pairs, margins, strict=True)
        ),
    )
    return figures


def _ends(steps: Sequence[Mapping[str, Any]], name: str) -> tuple[float, float]:
    """Return the means of the first and of the last tenth of the steps."""
    some = max(1, round(len(steps) * _LOG_SHARE))
    first, last = (sum(one[name] for one in part) / some for part in (steps[:some], steps[-some:]))
    return first, last


def family_text(training: Training, folder: PairFolder) -> str:
    """Return the YAML of the family that both models make, for `eft-eval study frontier`."""
    own = _written(training.reference)
    models: dict[str, Any] = {"small-base": own}
    for name in SIDES:
        models[f"small-{name}"] = {**own, "adapter": str(folder.side(name).adapter.absolute())}
    if training.large_base is not None:
        models["large-base"] = _written(training.large_base)
    if training.chat_template:
        models["chat-template"] = True
    return yaml.safe_dump(models, sort_keys=False, allow_unicode=True)


def _written(spec: MemberSpec) -> dict[str, Any]:
    folder = user_path(spec.model)
    found = spec.model_dump(mode="json", exclude_defaults=True)
    return {**found, "model": str(folder.absolute())} if folder.is_dir() else found
