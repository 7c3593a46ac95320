"""What a composite needs of one loaded model: the protocol that every engine implements.

Knows tokens and logits, neither text nor composites. A new engine is a file with a class of this
form and a line in `eft_eval.engine.loading.ENGINES`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

__all__ = ["Engine", "FixedShapes", "FixedState", "PlainWay", "Rows", "State", "ends_of"]

Rows = Literal["any", "equal", "one"]


@dataclass(frozen=True)
class PlainWay:
    """How a model that takes nothing back generates.

    Attributes:
        rows: Which may share a batch: any, those with prompts of one length, or none.
        shrinks: Whether rows that ended can leave the cache.
        cache: Whether it reads on; otherwise from the beginning at every token.
        reason: What is lost against batches of any rows, and why; None: nothing.
    """

    rows: Rows
    shrinks: bool
    cache: bool
    reason: str | None


def ends_of(
    logits: Tensor, first: int, inputs: Sequence[Sequence[int]], lengths: Sequence[int]
) -> Iterator[tuple[int, Tensor]]:
    """Yield what `Engine.last_logits` does, from what `Engine.logits` returned."""
    for row, (tokens, length) in enumerate(zip(inputs, lengths, strict=True)):
        end = len(tokens) - first
        yield row, logits[row, end - length : end]


class State(Protocol):
    """What a model has read of the rows being generated, and how it reads on."""

    passes: int
    """Passes of the model since somebody set it to 0."""

    @property
    def reading(self) -> bool:
        """Whether the next pass reads prompts too."""

    def join(self, prompts: Sequence[Sequence[int]]) -> None:
        """Add rows that have read their prompt but for the last token."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Read tokens on, [rows, width], and return the logits after each, [rows, width, V']."""

    def rewind(self, lengths: Sequence[int]) -> None:
        """Take tokens back: per row the number of tokens that stay read."""

    def keep(self, rows: Sequence[int]) -> None:
        """Keep these rows, in this order, and drop the rest; row i comes from rows[i] >= i."""

    def settle(self) -> None:
        """Run the passes that taking tokens back has made due, between rounds; often none."""


class Engine(Protocol):
    """One loaded model. ``V'`` is the number of its logits, padding included."""

    @property
    def dtype(self) -> torch.dtype:
        """What it computes in."""

    @property
    def num_parameters(self) -> int:
        """What tells which of two models is cheaper to run."""

    def logits(self, inputs: Sequence[Sequence[int]], lengths: Sequence[int]) -> tuple[Tensor, int]:
        """Return the logits after the last ``lengths[i]`` tokens of every row.

        Returns:
            Logits [rows, positions, V'] from the first position that some row needs, and that
            position's number; token j of a row lies at position j.
        """

    def last_logits(
        self, inputs: Sequence[Sequence[int]], lengths: Sequence[int]
    ) -> Iterator[tuple[int, Tensor]]:
        """Yield every row's number, in any order, and its last logits, [lengths[i], V'].

        Rows that begin alike may be read together.
        """

    def check_positions(self, length: int) -> None:
        """Raise ConfigError where a row of ``length`` tokens would change its neighbours."""

    def cannot_roll_back(self, length: int) -> str | None:
        """Return why it cannot take tokens back within ``length`` tokens; None where it can."""

    def row_state(self, rows: int, length: int) -> State:
        """Return a state whose rows join, leave and take tokens back one by one.

        Only where `cannot_roll_back` is None.

        Args:
            rows: Most rows at a time.
            length: Most tokens of a row, drafts that nobody keeps apart.
        """

    def plain_way(self, length: int) -> PlainWay:
        """Return how it generates rows of at most ``length`` tokens without taking any back.

        Raises:
            ConfigError: In no way.
        """

    def plain_state(self, way: PlainWay) -> State:
        """Return a state of whole batches, which reads one token at a time and takes none back."""


class FixedState(Protocol):
    """A state whose passes have few shapes, so that they can be recorded; see `State`.

    What it reads on, and from where, are numbers on the device, and its memory stays in place.
    """

    passes: int
    """Passes of the model since somebody set it to 0; `forward_at` leaves the counting to others.
    """

    @property
    def reading(self) -> bool:
        """Whether the next pass reads prompts too."""

    def join(self, prompts: Sequence[Sequence[int]]) -> None:
        """Add rows that have read their prompt but for the last token."""

    def forward_at(self, tokens: Tensor, starts: Tensor, reach: int) -> Tensor:
        """Read tokens of the first rows on; return the logits after each, [rows, width, V'].

        The host waits for nothing.

        Args:
            tokens: [rows, width].
            starts: Per row, the tokens that it keeps so far, int64, [rows].
            reach: Of `eft_eval.engine.fixed.reach_of`, for the most of ``starts`` and the width.
        """

    def rewind(self, lengths: Sequence[int]) -> None:
        """Say how many tokens of every row stay read."""

    def keep(self, rows: Sequence[int]) -> None:
        """Keep these rows, in this order, and drop the rest; row i comes from rows[i] >= i."""


@runtime_checkable
class FixedShapes(Protocol):
    """An `Engine` that has fixed states, too."""

    def fixed_state(self, rows: int, length: int, most: int) -> FixedState | None:
        """Return a state of fixed shapes, None where the model has none.

        Only where `Engine.cannot_roll_back` is None.

        Args:
            rows: Most rows at a time.
            length: Most tokens of a row, drafts that nobody keeps apart.
            most: Most tokens of a pass that reads on.
        """
