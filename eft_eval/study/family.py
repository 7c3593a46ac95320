"""Families: models of one tokenizer at two scales, pre-trained and fine-tuned. Loads nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from eft_eval.errors import ConfigError
from eft_eval.recipe.model import MemberSpec
from eft_eval.study.words import Closed, listed, problems_of
from eft_eval.yaml_text import NamedYaml

__all__ = [
    "BETWEEN",
    "MEMBERS",
    "Family",
    "Size",
    "family_names",
    "find_family",
    "parse_family",
]

MEMBERS = (
    "small-base", "small-tuned", "large-base", "large-tuned", "small-helpful", "small-harmless",
)  # fmt: skip
"""What a family's models are called; the first four are what `scaling` needs."""
BETWEEN = ("between-base", "between-tuned")
"""What an arm calls the models of every size between small and large, which makes an arm each."""
_SHIPPED = NamedYaml(
    "family",
    "eft_eval.study",
    "families",
    "`eft-eval families` lists them, a path must end in .yaml, and four models are named with "
    "--small-base, --small-tuned, --large-base, --large-tuned",
)


class Size(Closed):
    """The models of one size.

    Attributes:
        base: The pre-trained model.
        tuned: What was fine-tuned from it.
    """

    base: MemberSpec
    tuned: MemberSpec | None = None


class Family(Closed):
    """Models that share a tokenizer.

    Attributes:
        name: What it is called.
        description: For people.
        unchecked: What of it nobody has looked at; empty where all has been.
        small_base: The small pre-trained model.
        small_tuned: What was fine-tuned from it.
        large_base: The large pre-trained model.
        large_tuned: What was fine-tuned from that.
        between: Sizes between small and large by name, rising: the rungs of a ladder.
        small_helpful: The small base tuned for helpfulness alone.
        small_harmless: The small base tuned for harmlessness alone.
        tasks: What its studies evaluate where nothing else is asked.
        chat_template: Whether prompts go through the tuned model's chat template.
        model_args: Further run-time arguments that its models need.
    """

    name: str = Field(default="own", min_length=1, max_length=100)
    description: str = ""
    unchecked: str = ""
    small_base: MemberSpec | None = None
    small_tuned: MemberSpec | None = None
    large_base: MemberSpec | None = None
    large_tuned: MemberSpec | None = None
    between: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.]*$")], Size] = Field(
        default_factory=dict
    )
    small_helpful: MemberSpec | None = None
    small_harmless: MemberSpec | None = None
    tasks: Annotated[tuple[str, ...], BeforeValidator(listed)] = ("eli5", "hh")
    chat_template: bool = False
    model_args: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _is_named_as_a_folder_may_be(self) -> Family:
        if self.name.startswith(".") or {"/", "\\"} & {*self.name} or not self.name.isprintable():
            raise ValueError(
                f"name: got {self.name!r}: folders are called so: no slash, no dot in front, no "
                "line break"
            )
        return self

    @model_validator(mode="after")
    def _each_model_has_one_name(self) -> Family:
        names = {*MEMBERS, *BETWEEN}
        if taken := [name for name in self.between if {f"{name}-base", f"{name}-tuned"} & names]:
            raise ValueError(f"a size cannot be called {taken[0]!r}, which is a name already")
        return self

    @property
    def members(self) -> dict[str, MemberSpec]:
        """Its models by name, those that there are."""
        found = {name: getattr(self, name.replace("-", "_")) for name in MEMBERS}
        for name, size in self.between.items():
            found |= {f"{name}-base": size.base, f"{name}-tuned": size.tuned}
        return {name: spec for name, spec in found.items() if spec is not None}


def family_names() -> tuple[str, ...]:
    """Return the names of the families that ship, sorted."""
    return _SHIPPED.names()


def find_family(name: str) -> Family:
    """Return the family of that name, or of that YAML file.

    Raises:
        ConfigError: There is none, or the file is none.
    """
    return parse_family(*_SHIPPED.read(name))


def parse_family(content: Any, where: str, name: str = "own") -> Family:
    """Return the family that a mapping describes.

    Args:
        content: Parsed YAML: ``small-base: MODEL`` and so on.
        where: What it is, for the error.
        name: What it is called unless it says so itself.

    Raises:
        ConfigError: A key is unknown, a value is wrong, or it has no model.
    """
    if not isinstance(content, Mapping):
        raise ConfigError(f"{where}: expected NAME: MODEL lines, such as {MEMBERS[0]}: MODEL")
    try:
        found = Family.model_validate({"name": name, **content})
    except ValidationError as error:
        keys = [field.alias for field in Family.model_fields.values() if field.alias]
        raise ConfigError(f"{where}: {problems_of(error, keys)}") from error
    if not found.members:
        raise ConfigError(f"{where} names no model; expected lines such as {MEMBERS[0]}: MODEL")
    return found
