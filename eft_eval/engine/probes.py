"""Short generations with given tokens, each compared with passes without a cache.

They say what one model does; which of them a member has to pass, `eft_eval.engine.trial` knows.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from eft_eval.engine.batches import BatchState
from eft_eval.engine.engine import State
from eft_eval.engine.kept_prefix import KeptPrefix
from eft_eval.engine.numerics import difference
from eft_eval.engine.passes import Passes
from eft_eval.engine.prefixes import forests
from eft_eval.engine.recurrent import RecurrentState
from eft_eval.engine.states import RowState
from eft_eval.engine.tolerance import Tolerance
from eft_eval.engine.windows import layer_windows

__all__ = ["EQUAL", "MIXED", "Probes"]

EQUAL, MIXED = (13, 13, 13), (19, 12, 5)
"""Lengths of prompts, times the scale."""

_READ_ON = 4  # tokens that a row reads one by one
_HORIZON = 3  # tokens that can be taken back in a trial of windows
_AGAIN = 10  # tokens that a row with recurrent layers reads
_STEPS = ((3, (1, 3, 2)), (3, (2, 1, 2)), (2, (1, 2, 1)), (1, (1,)), (3, (1, 2, 1)), (2, (2, 1)))
_LEAVES, _JOINS, _SETTLES = 2, 4, 1


class Probes:
    """What is done with one model; every method says what is wrong, or returns None.

    Args:
        model: What runs the passes.
        scale: Multiplies the lengths of prompts, to reach over windows and blocks.

    Attributes:
        model: What runs the passes.
        tolerance: What tells numerics from faults.
    """

    def __init__(self, model: Passes, scale: int) -> None:
        self.model, self._scale = model, scale
        self.tolerance = Tolerance(model, self._rows(MIXED), _READ_ON)
        self._read: dict[tuple[tuple[int, ...], int], Tensor] = {}

    def forget(self) -> None:
        """Let go of the passes that several probes are compared with."""
        self._read.clear()

    def looks_ahead(self) -> str | None:
        """Compare what is said of a token with and without later ones."""
        row = self._rows((24,))[0]
        whole, _ = self.model.logits([row], [len(row)])
        alone = self.model.logits([row[:-_READ_ON]], [1])[0][0, -1]
        padded = self.model.logits([row[:-_READ_ON], row], [1, 1])[0][0, 0]
        within = whole[0, len(row) - _READ_ON - 1]
        return self.tolerance.depends_on_later(within, padded, alone)

    def rolls_back(self, lengths: Sequence[int], windows: bool = False) -> str | None:
        """Read a block, take it back, and read on: two tokens at once, or one by one."""
        rows = self._rows(lengths, scale=1)
        sees = layer_windows(self.model.text) if windows else None
        state = RowState(self.model, len(rows), max(lengths) + 1, sees, horizon=_HORIZON)
        state.join([row[:-2] for row in rows])
        state.forward(torch.tensor([[row[-3], 0, 0] for row in rows]))
        back = [len(row) - 2 for row in rows]
        state.rewind(back)
        last = torch.tensor([row[-2:] for row in rows])
        expected = self._alone(rows, 2)
        if why := self.tolerance.apart(state.forward(last), expected):
            return why
        state.rewind(back)
        steps = [state.forward(last[:, step : step + 1]) for step in range(2)]
        return self.tolerance.apart(torch.cat(steps, dim=1), expected)

    def reads_from_a_state(self) -> str | None:
        """Read several tokens at once and one by one, after states that cannot be overlooked.

        Those that a trial's few tokens leave may be too small to tell that a model forgets them.
        """
        rows = self._rows(EQUAL, scale=1)
        length = len(rows[0])
        state = RecurrentState(self.model, len(rows), length + _READ_ON)
        state.join(rows)
        state.settle(most=0)
        draw = torch.Generator().manual_seed(5)
        for place, one in enumerate(state.kept):
            drawn = torch.randn(one.shape, generator=draw, dtype=torch.float32)
            state.kept[place] = drawn.to(one.device, one.dtype)
        block = torch.tensor([row[-_READ_ON:] for row in rows])
        together = state.forward(block)
        state.rewind([length - 1] * len(rows))
        singly = _one_by_one(state, block)
        if self.tolerance.apart(together, singly) is None:
            return None
        apart = difference(together, singly)
        return f"its tokens, read at once or one by one, differ by {apart:.2g} standard deviations"

    def reads_again(self, lengths: Sequence[int]) -> str | None:
        """Take back unequal numbers of tokens of rows with recurrent layers; one leaves, one joins.

        A step is: how many of a block's tokens are a row's own, by row; the rest is taken back.
        """
        rows = self._rows([length + _AGAIN for length in lengths])
        expected = [self._alone([row], _AGAIN)[0] for row in rows]
        state = RecurrentState(self.model, len(rows), max(map(len, rows)) + 3)
        state.join([row[: -_AGAIN + 1] for row in rows])
        done, alive = [0] * len(rows), list(range(len(rows)))
        for number, (width, own) in enumerate(_STEPS):
            if number == _LEAVES and len(alive) > 1:
                state.keep([len(alive) - 1, *range(1, len(alive) - 1)])
                alive = [alive[-1], *alive[1:-1]]
            if number == _JOINS and len(alive) < len(rows):
                state.join([rows[0][: -_AGAIN + 1]])
                alive.append(0)
                done[0] = 0
            block = torch.zeros(len(alive), width, dtype=torch.long)
            for place, row in enumerate(alive):
                first = len(rows[row]) - _AGAIN + done[row]
                stays = own[place % len(own)]
                block[place, :stays] = torch.tensor(rows[row][first : first + stays])
            logits = state.forward(block) if number else _one_by_one(state, block)
            for place, row in enumerate(alive):
                stays = own[place % len(own)]
                there = slice(done[row], done[row] + stays)
                if why := self.tolerance.apart(logits[place, :stays], expected[row][there]):
                    return f"at step {number + 1}, {why}"
                done[row] += stays
            state.rewind([len(rows[row]) - _AGAIN + done[row] for row in alive])
            if number == _SETTLES:
                state.settle(most=0)
        return None

    def reads_on(self, lengths: Sequence[int], shrinks: bool) -> str | None:
        """Read on with the model's cache; the second row ends early."""
        rows = self._rows(lengths)
        expected = self._alone(rows, _READ_ON)
        state: State = BatchState(self.model, shrinks=shrinks)
        state.join([row[: -_READ_ON + 1] for row in rows])
        alive = list(range(len(rows)))
        for step in range(_READ_ON):
            places = [len(rows[row]) - _READ_ON + step for row in alive]
            tokens = [[rows[row][place]] for row, place in zip(alive, places, strict=True)]
            found = state.forward(torch.tensor(tokens))
            if why := self.tolerance.apart(found, expected[alive, step : step + 1]):
                return f"at token {step + 1}, {why}"
            if step == 1 and len(alive) > 1:
                state.keep([0, *range(2, len(alive))])
                del alive[1]
        return None

    def reads_trees(self) -> str | None:
        """Read rows that begin alike as a tree, and go on from what they begin with."""
        windows = layer_windows(self.model.text)
        if windows is None:
            return "some of its layers are no attention over all tokens"
        stem, second, one, other = self._rows((9, 8, 5, 4), scale=1)
        rows = [stem + one, stem[:7] + other, second + other, second + one]
        for forest in (found := list(forests(rows, [2] * len(rows)))):
            logits = self.model.tree_pass(forest, windows)
            for row, tree, places in forest.places:
                (expected,) = self._alone([rows[row]], 2)
                if why := self.tolerance.apart(logits[tree, places], expected):
                    return why
        assert len(found) == 1
        kept, alike = KeptPrefix(self.model, windows), [stem + one, stem[:7] + other]
        for shared in (7, 3, 7):  # beyond a window; then some of them kept
            for number, logits in kept.logits(alike, [2, 2], shared):
                if why := self.tolerance.apart(logits, self._alone([alike[number]], 2)[0]):
                    return why
        return None

    def scores_alike(self) -> str | None:
        """Read unlike rows in one batch without a cache."""
        rows = self._rows(MIXED)
        found, first = self.model.logits(rows, [_READ_ON] * len(rows))
        ends = [len(row) - first for row in rows]
        taken = [found[number, end - _READ_ON : end] for number, end in enumerate(ends)]
        return self.tolerance.apart(torch.stack(taken), self._alone(rows, _READ_ON))

    # ------------------------------------------------------------------

    def _rows(self, lengths: Sequence[int], scale: int | None = None) -> list[list[int]]:
        limit = int(self.model.text.vocab_size)
        scale = self._scale if scale is None else scale
        return [
            [(7 * place + 5 * number + place * place + 3) % limit for place in range(length)]
            for number, length in enumerate(one * scale for one in lengths)
        ]

    def _alone(self, rows: Sequence[Sequence[int]], last: int) -> Tensor:
        return torch.stack([self._end_of(tuple(row), last) for row in rows])

    def _end_of(self, row: tuple[int, ...], last: int) -> Tensor:
        """Return a row's last logits, of a pass of its own without a cache."""
        key = row, last
        if key not in self._read:
            self._read[key] = self.model.logits([row], [last])[0][0, -last:]
        return self._read[key]


def _one_by_one(state: State, block: Tensor) -> Tensor:
    columns = range(block.shape[1])
    return torch.cat([state.forward(block[:, n : n + 1]) for n in columns], dim=1)
