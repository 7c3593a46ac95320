"""What a pair of trainings is: a closed description, and what ships of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, FiniteFloat, ValidationError, model_validator

from eft_eval.errors import ConfigError
from eft_eval.recipe.model import MemberSpec
from eft_eval.study.words import Closed, listed, problems_of
from eft_eval.yaml_text import NamedYaml

__all__ = ["SIDES", "PairData", "Training", "find_training", "training_names"]

SIDES = ("helpful", "harmless")
"""The two models: what each is tuned for."""
_SHIPPED = NamedYaml(
    "training", "eft_eval.training", "settings", "known: NAMES, or the path of a YAML file"
)
_Count = Annotated[int, Field(ge=1, lt=2**31)]


def _files_of(value: Any) -> Any:
    """Return files alone as those to train on."""
    return {"train": value} if isinstance(value, (str, list, tuple)) else value


class PairData(Closed):
    """Preferences of one side, from files of the user's.

    Attributes:
        train: Files and folders.
        held_out: Others, to measure on; empty: dialogues of ``train`` that are not trained on.
    """

    train: Annotated[tuple[str, ...], BeforeValidator(listed)] = Field(min_length=1)
    held_out: Annotated[tuple[str, ...], BeforeValidator(listed)] = ()


_Data = Annotated[PairData | None, BeforeValidator(_files_of)]


class Training(Closed):
    """Two models tuned from one by DPO.

    Attributes:
        reference: What both are tuned from.
        large_base: A larger model of the same tokenizer, for the family that is written.
        helpful: Preferences of the one; none: helpful-base of HH on the hub.
        harmless: Preferences of the other; none: harmless-base of HH on the hub.
        hh_revision: Branch, tag or commit of HH on the hub; none: the one that the task has.
        pairs: Pairs of a model at most; none: all.
        held_out: Pairs that are measured on, at most.
        single_turn: Whether only dialogues with one question are used.
        chat_template: Whether dialogues go through the chat template of the model.
        max_length: Tokens of a dialogue; pairs with a longer one are left out.
        beta: DPO's β, what holds the model at its reference.
        learning_rate: Of AdamW, at its highest.
        schedule: How it falls after the warm-up.
        warmup: Share of the steps in which it rises.
        epochs: Passes over the pairs.
        steps: Steps in all, in place of the epochs' number.
        batch_size: Pairs of a step.
        micro_batch_size: Pairs in memory at a time; divides the batch size.
        rank: Of the adapters.
        adapter_alpha: Their scale is this over the rank; none: twice the rank.
        layers: Names of the layers that get one, or all-linear.
        gradient_checkpointing: Whether activations are computed again to save memory.
        save_every: Steps between two checkpoints.
        seed: Of the order of the pairs and of the adapters' first weights.
    """

    reference: MemberSpec
    large_base: MemberSpec | None = None
    helpful: _Data = None
    harmless: _Data = None
    hh_revision: Annotated[str, Field(min_length=1)] | None = None
    pairs: _Count | None = None
    held_out: Annotated[int, Field(ge=2, lt=2**31)] = 512
    single_turn: bool = False
    chat_template: bool = False
    max_length: Annotated[int, Field(ge=8, lt=2**31)] = 512
    beta: Annotated[FiniteFloat, Field(gt=0)] = 0.1
    learning_rate: Annotated[FiniteFloat, Field(gt=0)] = 2e-5
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.1
    epochs: _Count = 1
    steps: _Count | None = None
    batch_size: _Count = 32
    micro_batch_size: _Count = 4
    rank: _Count = 16
    adapter_alpha: Annotated[FiniteFloat, Field(gt=0)] | None = None
    layers: Annotated[tuple[str, ...], BeforeValidator(listed)] = Field(
        default=("all-linear",), min_length=1
    )
    gradient_checkpointing: bool = True
    save_every: _Count = 50
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0

    @model_validator(mode="after")
    def _fits(self) -> Training:
        if self.batch_size % self.micro_batch_size:
            raise ValueError(
                f"batch-size {self.batch_size} is no multiple of micro-batch-size "
                f"{self.micro_batch_size}"
            )
        given = self.reference
        if given.adapter or given.quantization or given.placement or given.prompt:
            raise ValueError(
                "reference: a whole model without adapter, quantization, placement and prompt is "
                "trained from"
            )
        return self

    def data(self, side: str) -> PairData | None:
        """Return the files of a side; None for the hub's."""
        found: PairData | None = getattr(self, side)
        return found

    @property
    def identity(self) -> dict[str, Any]:
        """What makes the two models what they are, as plain JSON data; data files apart."""
        return self.model_dump(
            mode="json", by_alias=True, exclude={"large_base", "save_every", *SIDES}
        )


def training_names() -> tuple[str, ...]:
    """Return the names of the trainings that ship, sorted."""
    return _SHIPPED.names()


def find_training(name: str | None, changes: Mapping[str, Any]) -> Training:
    """Return the training of that name, or of that YAML file, with some settings changed.

    Args:
        name: One that ships, or a path; None: of ``changes`` alone.
        changes: Keys of a training, as its YAML has them; None is no change.

    Raises:
        ConfigError: There is none, a key is unknown or a value is wrong.
    """
    content, where = _content(name)
    given = {key: value for key, value in changes.items() if value is not None}
    try:
        return Training.model_validate({**content, **given})
    except ValidationError as error:
        keys = [field.alias for field in Training.model_fields.values() if field.alias]
        raise ConfigError(f"{where}: {problems_of(error, keys)}") from error


def _content(name: str | None) -> tuple[dict[str, Any], str]:
    if name is None:
        return {}, "the options"
    content, where, _ = _SHIPPED.read(name)
    if not isinstance(content, dict):
        raise ConfigError(f"{where}: expected a mapping, such as reference: MODEL")
    return content, where
