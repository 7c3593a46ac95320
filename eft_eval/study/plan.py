"""The runs that a study consists of: every arm with every seed, as lm-eval is told to run it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from eft_eval.errors import ConfigError, nearest
from eft_eval.recipe import (
    Recipe,
    canonical_name,
    parse_model_args,
    parse_recipe,
    split_recipe,
)
from eft_eval.recipe.model import MemberSpec
from eft_eval.study.design import Arm, Design, family_of
from eft_eval.study.family import BETWEEN, MEMBERS, Family

__all__ = ["ArmRun", "PlannedArm", "StudyPlan", "plan_study"]


class PlannedArm(NamedTuple):
    """An arm with one value of every setting.

    Attributes:
        name: Its own, with the setting that varies behind it.
        group: The name in the design.
        setting: Which setting varies; empty where none does.
        value: That setting's.
        recipe: What is evaluated.
    """

    name: str
    group: str
    setting: str
    value: float | str | None
    recipe: Recipe


class ArmRun(NamedTuple):
    """One arm with one seed: a run of lm-eval, by the name of its folder below ``arms/``."""

    arm: PlannedArm
    seed: int

    @property
    def name(self) -> str:
        return f"{self.arm.name}/seed-{self.seed}"


@dataclass(frozen=True)
class StudyPlan:
    """A study with all that is left open in its design filled in.

    Attributes:
        design: The design.
        family: Its models.
        tasks: What is evaluated.
        arms: What is compared, in the design's order.
        runs: All runs, by seed.
        judge: The judge that was asked for; empty: the default one.
    """

    design: Design
    family: Family
    tasks: tuple[str, ...]
    arms: tuple[PlannedArm, ...]
    judge: str = ""
    runs: tuple[ArmRun, ...] = field(init=False)

    def __post_init__(self) -> None:
        runs = tuple(ArmRun(arm, seed) for seed in self.design.seeds for arm in self.arms)
        object.__setattr__(self, "runs", runs)

    @property
    def chat_template(self) -> bool:
        """Whether prompts go through the chat template."""
        asked = self.design.chat_template
        return self.family.chat_template if asked is None else asked

    @property
    def batch_size(self) -> str:
        """Rows at a time, as lm-eval takes them."""
        return str(self._rows)

    @property
    def _rows(self) -> int | str:
        return self.design.batch_size or (16 if self.design.engine == "eft" else "auto")

    @property
    def model_args(self) -> dict[str, Any]:
        """Run-time arguments of every arm."""
        return {**self.family.model_args, **self.design.model_args}

    def identity(self) -> dict[str, Any]:
        """Return all that its results depend on, as JSON data."""
        design = self.design
        return {
            "analysis": design.analysis,
            "family": self.family.name,
            "arms": {arm.name: canonical_name(arm.recipe) for arm in self.arms},
            "blocks": {arm.name: arm.recipe.decoding.block for arm in self.arms},
            "tasks": list(self.tasks),
            "seeds": list(design.seeds),
            "limit": design.limit,
            "batch-size": self._rows if design.analysis == "speed" else None,
            "engine": design.engine,
            "chat-template": self.chat_template,
            "gen-kwargs": design.gen_kwargs,
            "model-args": self.model_args,
            "documents": design.documents if design.analysis in ("tokens", "sequence") else None,
            "judge": self.judge or None,
            "level": design.level,
        }

    def check_arguments(self) -> None:
        """Check that the run-time arguments are some, and leave to the arms what they sum.

        Raises:
            ConfigError: A key is unknown, or one changes an arm's composite.
        """
        for arm in self.arms:
            if own := self.model_args.keys() & _written(arm.recipe).keys():
                raise ConfigError(f"model-args: {', '.join(sorted(own))} is what the arms say")
            given = self._model_args(ArmRun(arm, 0), Path("responses"))
            try:
                if self.design.engine == "eft":
                    found = parse_model_args(given).recipe
                else:
                    found = parse_recipe(split_recipe(given)[0])
            except ConfigError as error:
                said = str(error).removeprefix("model_args: ")
                raise ConfigError(f"model-args: {said}") from error
            if _summed(found) != _summed(arm.recipe) or "resume" in self.model_args:
                raise ConfigError(
                    f"model-args: {', '.join(self.model_args)} would change what arm {arm.name} "
                    "is; models, weights, blocks and filters are the arms', and the study resumes "
                    "by itself"
                )

    def command(self, run: ArmRun, output: Path, responses: Path) -> list[str]:
        """Return the command that makes a run.

        Args:
            run: Which.
            output: Its folder.
            responses: Where finished responses are kept until it is whole.
        """
        design = self.design
        words = [sys.executable, "-m", "eft_eval", "run", "--model", design.engine]
        words += ["--model_args", json.dumps(self._model_args(run, responses))]
        words += ["--tasks", ",".join(self.tasks), "--seed", f"0,1234,{run.seed},1234"]
        words += ["--batch_size", self.batch_size, "--log_samples"]
        if design.limit is not None:
            words += ["--limit", f"{design.limit:.15g}"]
        if self.chat_template:
            words += ["--apply_chat_template"]
        if design.gen_kwargs is not None:
            words += ["--gen_kwargs", design.gen_kwargs]
        return [*words, "--output_path", str(output)]

    def _model_args(self, run: ArmRun, responses: Path) -> dict[str, Any]:
        found = {**self.model_args, **_written(run.arm.recipe)}
        if self.design.engine == "eft":  # the other keeps none
            found["resume"] = str(responses)
        return found


def _written(recipe: Recipe) -> dict[str, Any]:
    """Return a recipe as lm-eval's run-time arguments."""
    found = recipe.model_dump(exclude_none=True, exclude_defaults=True, mode="json")
    if recipe.is_base_alone:
        found.pop("deltas", None)
    return found


def _summed(recipe: Recipe) -> tuple[object, ...]:
    """Return what a study's arms differ in."""
    models = [(role, spec.model, spec.revision) for role, spec in recipe.members]
    decoding = recipe.decoding
    weights = [delta.weight for delta in recipe.deltas]
    return models, weights, decoding.block, decoding.weight_top_p


def plan_study(design: Design, judge: str = "") -> StudyPlan:
    """Return the plan of a design.

    Raises:
        ConfigError: There is no such family, or it lacks a model that an arm names.
    """
    family = family_of(design)
    arms = [
        planned
        for name, arm in design.arms.items()
        for rung, one in _rungs(name, arm, family)
        for planned in _planned(rung, one, family)
    ]
    if not arms:
        raise ConfigError(f"the family {family.name} has no size between small and large: no arm")
    names = [arm.name.casefold() for arm in arms]  # folders, which some systems take for the same
    if twice := next((arm.name for arm in arms if names.count(arm.name.casefold()) > 1), None):
        raise ConfigError(f"two arms are called {twice!r}; give one of them another name")
    plan = StudyPlan(design, family, design.tasks or family.tasks, tuple(arms), judge)
    plan.check_arguments()
    return plan


def _rungs(name: str, arm: Arm, family: Family) -> Iterator[tuple[str, Arm]]:
    """Yield an arm, or one for every size between small and large where it names these.

    A size without a tuned model has no arm that names it.
    """
    named = {arm.base, arm.reference, *arm.tuned} & {*BETWEEN}
    if not named:
        yield name, arm
        return
    for size in family.between:
        found = {kind: kind.replace("between", size, 1) for kind in BETWEEN}
        if not {found[kind] for kind in BETWEEN if kind in named} <= family.members.keys():
            continue
        changed = {
            "base": found.get(arm.base, arm.base),
            "tuned": tuple(found.get(one, one) for one in arm.tuned),
            "reference": found.get(arm.reference or "", arm.reference),
        }
        yield f"{name}-{size}", arm.model_copy(update=changed)


def _planned(name: str, arm: Arm, family: Family) -> Iterator[PlannedArm]:
    settings: Mapping[str, Sequence[Any]] = {
        "weight": arm.weight, "alpha": arm.alpha, "weight-top-p": arm.weight_top_p,
        "block": arm.block,
    }  # fmt: skip
    setting = next((key for key, values in settings.items() if len(values) > 1), "")
    for value in settings.get(setting, [None]):
        one = arm.model_copy(update={setting.replace("-", "_"): (value,)}) if setting else arm
        shown = f"{value:g}" if isinstance(value, float) else str(value).lower()
        whole = f"{name}-{setting}-{shown}" if setting else name
        yield PlannedArm(whole, name, setting, value, _recipe(whole, one, family))


def _recipe(name: str, arm: Arm, family: Family) -> Recipe:
    def spec(model: str) -> dict[str, Any]:
        found = _member(model, name, family)
        return found.model_dump(exclude_none=True, exclude_defaults=True, mode="json")

    values: dict[str, Any] = {"base": spec(arm.base)}
    if arm.tuned and arm.reference is not None:
        weights = (arm.alpha[0], 1 - arm.alpha[0]) if arm.alpha else (arm.weight[0],)
        reference = spec(arm.reference)
        values["deltas"] = [
            {"tuned": spec(tuned), "reference": reference, "weight": weight}
            for tuned, weight in zip(arm.tuned, weights, strict=True)
        ]
    values["decoding"] = {"block": arm.block[0]}
    if arm.weight_top_p[0] is not None:
        values["decoding"]["weight_top_p"] = arm.weight_top_p[0]
    try:
        return parse_recipe(values)
    except ConfigError as error:
        raise ConfigError(f"arm {name}: {error}") from error


def _member(model: str, arm: str, family: Family) -> MemberSpec:
    """Return the model of the family that has this name, else the model so called."""
    if model in family.members:
        return family.members[model]
    if model in MEMBERS:
        raise ConfigError(f"arm {arm}: the family {family.name} has no {model}; add it to its YAML")
    if not {"/", ":", "."} & {*model}:
        raise ConfigError(
            f"arm {arm}: {model!r} is no model of a family{nearest(model, MEMBERS)}; a family has "
            f"{', '.join((*MEMBERS, *BETWEEN))}; any other model is an id OWNER/NAME or a folder"
        )
    return MemberSpec(model=model)
