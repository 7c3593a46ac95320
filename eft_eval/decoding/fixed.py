"""Rounds of the generation loop that a device runs by itself: one wait of the host, at the end.

Everything a round is made of lies in tensors that stay where they are. The host writes one table,
launches a draft step per token, a pass of each other member and one choice, and reads one table.
Each of these is recorded once per shape (`eft_eval.engine.graphs`). The draft member always reads
its last draft, since whether that is needed is not known before the end. Tokens are those of
`eft_eval.decoding.batch`'s other rounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from eft_eval.composite.candidates import real_choices
from eft_eval.composite.model import CompositeModel
from eft_eval.decoding.choice import Chooser, Noise
from eft_eval.decoding.requests import Request
from eft_eval.engine.cache import to_device
from eft_eval.engine.engine import FixedShapes, FixedState
from eft_eval.engine.fixed import reach_of
from eft_eval.engine.graphs import Graphs, tell_of

__all__ = ["FixedRounds", "Made", "allowed_block", "fixed_states"]

_BLOCKS = (0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24)  # each length is recorded for itself
_SEED, _TIMESTEP, _VIEWS = (
    0,
    1,
    2,
)  # columns of the table: the views' last tokens and lengths follow
_RUN, _FINITE, _STANDS, _TOKENS = 0, 1, 2, 3  # columns of the results


class _Row(Protocol):
    request: Request
    tokens: list[int]

    def pending(self, view: int) -> int: ...


class Made(NamedTuple):
    """What a round made.

    Attributes:
        tokens: Per row, the composite's choices, one more than were drafted.
        runs: Per row, how many drafts stand.
        finite: Per row, how many choices in a row have a real score.
        stands: Per row, whether a draft after the last one would have stood, 0 or 1.
    """

    tokens: list[list[int]]
    runs: list[int]
    finite: list[int]
    stands: list[int]


def allowed_block(wanted: int, fixed: bool) -> int:
    """Return the block to draft where ``wanted`` is best: of few lengths, unless it is ``fixed``.

    Args:
        wanted: Tokens.
        fixed: Whether the user gave the number.
    """
    return wanted if fixed else max(one for one in _BLOCKS if one <= wanted)


def fixed_states(
    composite: CompositeModel, rows: int, length: int, most: int
) -> list[FixedState] | None:
    """Return a state of fixed shapes per view; None where a member has none, or another device.

    Args:
        composite: The model, whose members can all take tokens back.
        rows: Most rows at a time.
        length: Most tokens of a row.
        most: Most tokens of a pass that reads on.
    """
    states = []
    for view in composite.views:
        engine = view.member.engine
        state = None
        if view.member.device == composite.device and isinstance(engine, FixedShapes):
            state = engine.fixed_state(rows, length, most)
        if state is None:
            where = composite.device
            reason = f"{view.member.label} is not on {where} alone, or has recurrent layers"
            tell_of("anything", reason)
            return None
        states.append(state)
    return states


class FixedRounds:
    """The tensors of a batch's rounds, and what is recorded over them.

    Args:
        composite: The model.
        chooser: How tokens are chosen; it looks at nothing.
        states: Of every view.
        draft: The place of the view that drafts.
        shape: Most rows, and most tokens that are drafted in a round.
        graphs: What launches.
        sampled: Whether draft and composite share their noise; it is kept then.
    """

    def __init__(
        self,
        composite: CompositeModel,
        chooser: Chooser,
        states: Sequence[FixedState],
        draft: int,
        shape: tuple[int, int],
        graphs: Graphs,
        *,
        sampled: bool,
    ) -> None:
        self.states = states
        self._composite, self._chooser, self._graphs = composite, chooser, graphs
        self._draft, self._most_rows = draft, shape[0]
        self._others = [place for place in range(len(states)) if place != draft]
        rows, wide, device = shape[0], shape[1] + 1, composite.device
        integers = partial(torch.zeros, dtype=torch.long, device=device)
        self._table = integers(rows, _VIEWS + 2 * len(states))
        self._drafts = integers(rows, wide + 1)  # the pending token, then what is drafted
        self._step = integers(1)
        self._results = integers(rows, _TOKENS + wide)
        self._scores = composite.empty_scores(rows, wide)
        self._draft_logits = composite.empty_scores(rows, wide)
        noise = (rows, wide, composite.vocabulary) if sampled else (0, 0, 0)
        self._noise = torch.zeros(noise, dtype=torch.float32, device=device)
        self._rows = self._block = 0
        self._reach: list[int] = []

    @property
    def recorded(self) -> int:
        """How much was recorded so far."""
        return self._graphs.recorded

    def start(self, rows: Sequence[_Row], block: int) -> None:
        """Write what a round over these rows begins with."""
        self._rows = min(1 << (len(rows) - 1).bit_length(), self._most_rows)
        self._block = block
        views = range(len(self.states))
        # rows that are not there repeat nothing: they read token 0 at position 0
        table = [[0] * self._table.shape[1] for _ in range(self._rows)]
        for line, row in zip(table, rows, strict=False):
            pending = [row.pending(view) for view in views]
            read = [len(row.request.prompts[view]) + len(row.tokens) - 1 for view in views]
            line[:] = [row.request.seed, len(row.tokens), *pending, *read]
        self._reach = [
            reach_of(max(line[_VIEWS + len(views) + view] for line in table) + block + 1)
            for view in views
        ]
        flat = to_device([number for line in table for number in line], self._table.device)
        self._table[: self._rows].copy_(flat.view(self._rows, -1))
        self._drafts[: self._rows, 0].copy_(self._table[: self._rows, _VIEWS + self._draft])

    def draft(self, step: int, *, chooses: bool) -> None:
        """Let the draft member read its token of a step, and choose the next one or not."""
        self._step.fill_(step)
        self.states[self._draft].passes += 1
        rows = self._rows
        self._graphs.run(
            "drafts", (rows, self._reach[self._draft]),
            self._draft_pass, (self._draft_logits[:rows, step],),
        )  # fmt: skip
        if chooses:
            noise = (self._noise[:rows, step],) if self._noise.numel() else ()
            changed = (self._drafts[:rows], *noise)
            self._graphs.run("choices of drafts", rows, self._draft_choice, changed)

    def verify(self) -> list[tuple[int, partial[None]]]:
        """Return the passes over the block to make, with the views that make them."""
        return [(view, partial(self._launch_pass, view)) for view in self._others]

    def choose(self, *, drafted: bool) -> None:
        """Choose at all positions.

        Args:
            drafted: Whether a draft was chosen after the block, too.
        """
        rows, width = self._rows, self._block + 1
        self._graphs.run(
            "choices", (rows, width, drafted), partial(self._choice, drafted),
            (self._scores[:rows, :width], self._results[:rows]),
        )  # fmt: skip

    def read(self, rows: int) -> Made:
        """Return the results of the first rows; the host waits for the device here alone."""
        found = self._results[:rows, : _TOKENS + self._block + 1].tolist()
        columns = [[line[column] for line in found] for column in (_RUN, _FINITE, _STANDS)]
        return Made([line[_TOKENS:] for line in found], *columns)

    # ------------------------------------------------------------------ what is recorded

    def _starts(self, view: int) -> Tensor:
        return self._table[: self._rows, _VIEWS + len(self.states) + view]

    def _draft_pass(self) -> None:
        view, rows = self._draft, self._rows
        token = self._drafts[:rows].index_select(1, self._step)
        starts, reach = self._starts(view) + self._step, self._reach[view]
        logits = self.states[view].forward_at(token, starts, reach)
        logits = logits[:, :, : self._composite.vocabulary].to(self._draft_logits.dtype)
        self._draft_logits[:rows].index_copy_(1, self._step, logits)

    def _draft_choice(self) -> None:
        rows = self._rows
        logits = self._draft_logits[:rows].index_select(1, self._step)[:, 0]
        seeds, first = self._table[:rows, _SEED], self._table[:rows, _TIMESTEP] + self._step
        noise = Noise(seeds, first, self._composite.vocabulary)
        choice, _ = self._chooser.draft(logits, noise, 0)
        self._drafts[:rows].index_copy_(1, self._step + 1, choice[:, None])
        if self._noise.numel():
            self._noise[:rows].index_copy_(1, self._step, noise.gumbel(0)[:, None])

    def _launch_pass(self, view: int) -> None:
        self.states[view].passes += 1
        rows, width = self._rows, self._block + 1
        kind = f"passes of {self._composite.views[view].role}"
        self._graphs.run(
            kind, (view, rows, width, self._reach[view]), partial(self._pass, view),
            (self._scores[:rows, :width],),
        )  # fmt: skip

    def _pass(self, view: int) -> None:
        rows, width = self._rows, self._block + 1
        last = self._table[:rows, _VIEWS + view, None]
        tokens = torch.cat([last, self._drafts[:rows, 1:width]], dim=1)
        logits = self.states[view].forward_at(tokens, self._starts(view), self._reach[view])
        scores = self._scores[:rows, :width]
        if view == self._others[0]:
            scores.zero_()
        self._composite.accumulate(scores, self._composite.views[view], logits, looks=False)

    def _choice(self, drafted: bool) -> None:
        rows, block, size = self._rows, self._block, self._composite.vocabulary
        scores = self._scores[:rows, : block + 1]
        if not self._others:
            scores.zero_()
        known = range(block + drafted) if self._noise.numel() else ()
        made = {(position, 0): self._noise[:rows, position] for position in known}
        noise = Noise(self._table[:rows, _SEED], self._table[:rows, _TIMESTEP], size, made)
        view = self._composite.views[self._draft]
        chosen = []
        for position in range(block + 1):
            logits, here = self._draft_logits[:rows, position], scores[:, position]
            self._composite.accumulate(here, view, logits, looks=False)
            if position < block:
                token = self._drafts[:rows, position + 1]
                chosen.append(self._chooser.verify(here, logits, token, noise, position))
            else:
                chosen.append(self._chooser.choose(here, noise, position))
        choice = torch.stack(chosen, dim=1)
        same = choice[:, :block] == self._drafts[:rows, 1 : block + 1]
        finite = real_choices(scores, choice)
        results = self._results[:rows]
        results[:, _RUN] = same.cumprod(dim=1).sum(dim=1)
        results[:, _FINITE] = finite.cumprod(dim=1).sum(dim=1)
        if drafted:
            would = self._drafts[:rows, block + 1]
            after = self._chooser.verify(scores[:, block], logits, would, noise, block)
            results[:, _STANDS] = after == would
        results[:, _TOKENS : _TOKENS + block + 1] = choice
