"""What a study is: a closed description of arms × tasks × settings, and what ships of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, FiniteFloat, ValidationError, model_validator

from eft_eval.errors import ConfigError
from eft_eval.study.family import Family, find_family, parse_family
from eft_eval.study.words import Closed, grid, listed, no_flag, problems_of
from eft_eval.yaml_text import NamedYaml

__all__ = ["Analysis", "Arm", "Design", "design_names", "family_of", "find_design", "own_family"]

Analysis = Literal["scaling", "frontier", "truncation", "speed", "tokens", "sequence", "weights"]
_SHIPPED = NamedYaml(
    "study", "eft_eval.study", "designs", "known: NAMES, or the path of a YAML file"
)


def _each(value: Any) -> Any:
    return value if isinstance(value, (list, tuple)) else [value]


def _own(value: Any) -> Any:
    """Return a family that is written out as one; its name or file as it is."""
    if not isinstance(value, Mapping):
        return value
    try:
        return parse_family(value, "family")
    except ConfigError as error:
        raise ValueError(str(error).removeprefix("family: ")) from None


def _numbers(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return grid(value, "grid")
        except ConfigError as error:
            raise ValueError(str(error).removeprefix("grid: ")) from None
    return _each(value)


_Weights = Annotated[tuple[FiniteFloat, ...], BeforeValidator(_numbers), BeforeValidator(no_flag)]
_Shares = Annotated[
    tuple[Annotated[FiniteFloat, Field(ge=0, le=1)], ...],
    BeforeValidator(_numbers),
    BeforeValidator(no_flag),
]
_ArmName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.+-]{0,63}$")]


class Arm(Closed):
    """One composite, or several that differ in one setting that is given as a list.

    Attributes:
        base: A model of the family, or any other that a recipe takes; alone it is that model.
        tuned: Whose behaviour is added; of two, ``alpha`` and 1 - ``alpha``.
        reference: What they were tuned from.
        weight: Of the one delta.
        alpha: Of the first of two deltas, from 0 to 1.
        weight_top_p: Filter of the up-scaling weights; none is unfiltered.
        block: Tokens drafted per round.
    """

    base: str
    tuned: Annotated[tuple[str, ...], BeforeValidator(listed), BeforeValidator(_each)] = ()
    reference: str | None = None
    weight: _Weights = (1.0,)
    alpha: _Shares = ()
    weight_top_p: Annotated[
        tuple[float | None, ...], BeforeValidator(_each), BeforeValidator(no_flag)
    ] = (None,)
    block: Annotated[
        tuple[int | Literal["auto"], ...], BeforeValidator(_each), BeforeValidator(no_flag)
    ] = ("auto",)

    @model_validator(mode="after")
    def _fits(self) -> Arm:
        if bool(self.tuned) != (self.reference is not None):
            raise ValueError("give both tuned and reference, or neither")
        if len(self.tuned) > 2 or (len(self.tuned) == 2) != bool(self.alpha):
            raise ValueError("two tuned models need alpha, and only two have it")
        if not self.tuned and (self.weight != (1.0,) or self.weight_top_p != (None,)):
            raise ValueError("a base alone has no weight and no filter")
        several = [len(one) > 1 for one in (self.weight, self.alpha, self.weight_top_p, self.block)]
        if sum(several) > 1:
            raise ValueError("only one setting may be a list; write another arm for the other")
        if not all((self.weight, self.weight_top_p, self.block)):
            raise ValueError("an empty list makes no arm")
        return self


class Design(Closed):
    """A study.

    Attributes:
        analysis: What is made of its results.
        arms: What is compared, by name.
        family: Whose models the arms name: its name or file, or the models themselves.
        tasks: Of lm-eval; empty: the family's.
        seeds: Of the sampling noise; every arm runs with each.
        limit: Documents per task, or a share below 1.
        batch_size: Rows at a time; none: 16, of eft-vllm as many as the engine takes.
        engine: lm-eval's model: eft or eft-vllm.
        chat_template: Whether prompts go through the chat template; none: as the family says.
        gen_kwargs: In place of the tasks' generation settings, as lm-eval takes them.
        model_args: Further run-time arguments of every arm.
        documents: Responses that `tokens` and `sequence` look into, per task.
        level: Confidence level of the intervals.
    """

    analysis: Analysis
    arms: dict[_ArmName, Arm] = Field(min_length=1)
    family: Annotated[str | Family | None, BeforeValidator(_own)] = None
    tasks: Annotated[tuple[str, ...], BeforeValidator(listed)] = ()
    seeds: Annotated[
        tuple[Annotated[int, Field(ge=0, lt=2**63)], ...],
        BeforeValidator(_each),
        BeforeValidator(no_flag),
    ] = (1234,)
    limit: Annotated[FiniteFloat | None, Field(gt=0), BeforeValidator(no_flag)] = None
    batch_size: (
        Annotated[int, Field(ge=1)]
        | Annotated[str, Field(pattern=r"^([1-9][0-9]{0,5}|auto(:[1-9][0-9]{0,5})?)$")]
        | None
    ) = None
    engine: Literal["eft", "eft-vllm"] = "eft"
    chat_template: bool | None = None
    gen_kwargs: str | None = None
    model_args: dict[str, Any] = Field(default_factory=dict)
    documents: Annotated[int, Field(ge=2)] = 64
    level: Annotated[float, Field(gt=0, lt=1)] = 0.95

    @model_validator(mode="after")
    def _fits_its_analysis(self) -> Design:
        if not self.seeds:
            raise ValueError("an empty list of seeds makes no run")
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError("a seed appears twice")
        if len(set(self.tasks)) != len(self.tasks):
            raise ValueError("a task appears twice")
        if wrong := [one for one in self.tasks if "," in one or not one.strip()]:
            raise ValueError(f"tasks: got {wrong[0]!r}: each is one name")
        if self.limit is not None and self.limit > 1 and not self.limit.is_integer():
            raise ValueError(
                f"limit: got {self.limit:g}: a whole number of documents, or a share below 1"
            )
        if self.analysis == "sequence" and len(self.seeds) < 2:
            raise ValueError("sequence weighs several samples of a prompt: give at least two seeds")
        if self.analysis in ("tokens", "sequence") and not any(
            arm.tuned for arm in self.arms.values()
        ):
            raise ValueError(f"{self.analysis} looks into composites: no arm has a tuned model")
        return self


def design_names() -> tuple[str, ...]:
    """Return the names of the studies that ship, sorted."""
    return _SHIPPED.names()


def find_design(name: str, changes: Mapping[str, Any]) -> Design:
    """Return the study of that name, or of that YAML file, with some settings changed.

    Args:
        name: ``scaling`` and so on, or a path.
        changes: Keys of a design, as its YAML has them; ``alpha`` and ``weight`` go to the arms
            that have several.

    Raises:
        ConfigError: There is none, a key is unknown or a value is wrong.
    """
    content, where, _ = _SHIPPED.read(name)
    if not isinstance(content, dict):
        raise ConfigError(f"{where}: expected a mapping with analysis and arms")
    return _validated(_changed(content, changes, where), where)


def _changed(content: dict[str, Any], changes: Mapping[str, Any], where: str) -> dict[str, Any]:
    settings = {key: value for key, value in changes.items() if value is not None}
    grids = {key: settings.pop(key) for key in ("alpha", "weight") if key in settings}
    for key, value in grids.items():
        points = grid(value, f"--{key}")
        arms = content.get("arms")
        found = [one for one in arms.values() if key in one] if isinstance(arms, dict) else []
        if not found:
            raise ConfigError(f"--{key}: no arm of {where} has {key!r}")
        for one in found:
            one[key] = points
    return {**content, **settings}


def _validated(content: Mapping[str, Any], where: str) -> Design:
    try:
        return Design.model_validate(content)
    except ValidationError as error:
        fields = {**Design.model_fields, **Arm.model_fields}
        keys = [field.alias for field in fields.values() if field.alias]
        raise ConfigError(f"{where}: {problems_of(error, keys)}") from error


def family_of(design: Design) -> Family:
    """Return the family of a design.

    Raises:
        ConfigError: It names none, or one that does not exist.
    """
    if isinstance(design.family, Family):
        return design.family
    if design.family is None:
        raise ConfigError(
            "which models? give --family NAME (`eft-eval families` lists them), a YAML file, or "
            "--small-base, --small-tuned, --large-base and --large-tuned"
        )
    return find_family(design.family)


def own_family(models: Mapping[str, str | None]) -> Family | None:
    """Return the family of models that were named one by one; None where none was."""
    given = {name: model for name, model in models.items() if model is not None}
    return parse_family(given, "the models named") if given else None
