"""One batch of the generation loop: rows join, a round adds tokens to each, ended rows leave."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from eft_eval.composite.candidates import margin_of, real_choices
from eft_eval.composite.model import CompositeModel
from eft_eval.decoding.block import LONGEST_BLOCK, BlockChooser, Round
from eft_eval.decoding.choice import Chooser, Noise, chooser_for
from eft_eval.decoding.drafting import draft_view, plain_reason, plain_ways
from eft_eval.decoding.fixed import FixedRounds, allowed_block, fixed_states
from eft_eval.decoding.requests import Finish, Generation, Request, SamplingRule, StopTest
from eft_eval.decoding.statistics import DecodingStatistics
from eft_eval.engine.cache import to_device
from eft_eval.engine.clock import Clock
from eft_eval.engine.engine import FixedState, State
from eft_eval.engine.graphs import Graphs, Record
from eft_eval.errors import EftEvalError

__all__ = ["Batch", "BatchPlan"]

T = TypeVar("T")


@dataclass
class _Row:
    """One response in the making."""

    index: int
    request: Request
    tokens: list[int] = field(default_factory=list)

    def pending(self, view: int) -> int:
        """The last token, which no member has read yet."""
        return self.tokens[-1] if self.tokens else self.request.prompts[view][-1]


class BatchPlan(NamedTuple):
    """How a batch is generated.

    Attributes:
        rule: How tokens are chosen.
        max_new_tokens: Longest response.
        stopped: Whether tokens end with a stop string.
        size: Most rows at a time.
        length: Most tokens of prompt and response together.
    """

    rule: SamplingRule
    max_new_tokens: int
    stopped: StopTest
    size: int
    length: int


class Batch:
    """The rows that are being generated, and every view's state over them.

    Args:
        composite: The model.
        plan: How it is generated.
        blocks: Chooses the block of every round, and learns from it.
        statistics: Counts on.
        record: What records a device's work, so that rounds have fixed shapes; None: they have not.

    Attributes:
        rows: Those at work.
        joins: Whether rows can join while others are at work.
    """

    def __init__(
        self,
        composite: CompositeModel,
        plan: BatchPlan,
        blocks: BlockChooser,
        statistics: DecodingStatistics,
        record: Record | None = None,
    ) -> None:
        self.rows: list[_Row] = []
        self._blocks, self._stopped = blocks, plan.stopped
        self._composite = composite
        self._limit = plan.max_new_tokens
        self._statistics = statistics
        self._clock = Clock(composite.device)
        self._timed: list[tuple[int, Any, Any]] = []
        reason = plain_reason(composite, plan.length)
        self.joins = reason is None
        self._statistics.plain_reason = reason or self._statistics.plain_reason
        engines = [view.member.engine for view in composite.views]
        self._ways = () if self.joins else plain_ways(composite, plan.length)
        costs = [way.reason for way in self._ways if way.reason is not None]
        if reason is not None and costs:
            self._statistics.plain_reason = "; ".join([reason, *dict.fromkeys(costs)])
        # the draft's part is always summed last, so that rounding does not depend on the block
        self._draft = draft_view(composite)
        self._others = [place for place in range(len(engines)) if place != self._draft]
        self._can_draft = self.joins and len(engines) > 1
        self._fixed = self._fixed_rounds(plan, record) if self.joins and record else None
        blocks.reads_last = self._fixed is not None
        # a view's place in `composite.views` is that of its state, and in a request's prompts
        self._states: list[State] = []
        if self._fixed is None:
            self._states = [
                engine.row_state(plan.size, plan.length)
                if self.joins
                else engine.plain_state(self._ways[place])
                for place, engine in enumerate(engines)
            ]
        self._held: Sequence[State | FixedState] = (
            self._states if self._fixed is None else self._fixed.states
        )
        # looking at values makes the host wait for a GPU, but not for itself
        self._looks = composite.device.type == "cpu" and blocks.watches and self._fixed is None
        self._chooser: Chooser = chooser_for(composite.recipe.decoding.sampling, plan.rule)

    def _fixed_rounds(self, plan: BatchPlan, record: Record) -> FixedRounds | None:
        longest = min(self._blocks.longest, plan.max_new_tokens - 1) if self._can_draft else 0
        states = fixed_states(self._composite, plan.size, plan.length, longest + 1)
        if states is None:
            return None
        sampling = self._composite.recipe.decoding.sampling
        return FixedRounds(
            self._composite,
            chooser_for(sampling, plan.rule, looks=False),
            states,
            self._draft,
            (plan.size, longest),
            Graphs(record),
            sampled=sampling == "coupled" and plan.rule.temperature > 0,
        )

    def next_ones(self, waiting: Sequence[tuple[int, Request]], room: int) -> list[int]:
        """Return the places of those who may join together now, at most ``room``."""
        if any(way.rows == "one" for way in self._ways):
            return [0]
        equal = [place for place, way in enumerate(self._ways) if way.rows == "equal"]
        if not equal:
            return list(range(min(room, len(waiting))))

        def lengths(request: Request) -> list[int]:
            return [len(request.prompts[place]) for place in equal]

        first = lengths(waiting[0][1])
        alike = (n for n, (_, request) in enumerate(waiting) if lengths(request) == first)
        return list(itertools.islice(alike, room))

    def join(self, arriving: Sequence[tuple[int, Request]]) -> None:
        """Read the prompts of new rows."""
        start = self._clock.mark()
        with torch.inference_mode():
            for view, state in enumerate(self._held):
                prompts = [request.prompts[view] for _, request in arriving]
                self._time(view, functools.partial(state.join, prompts))
        self.rows += [_Row(index, request) for index, request in arriving]
        self._account(start, self._clock.mark())

    def round(self) -> list[tuple[int, Generation]]:
        """Add at least one token to every row; return what ended."""
        if self._fixed is not None:
            return self._fixed_round(self._fixed)
        marks = [self._clock.mark()]
        reading = any(state.reading for state in self._states)
        with torch.inference_mode():
            noise = self._noise()
            drafts, draft_logits, margins = self._drafts(self._block(), noise)
            block = drafts.shape[1]
            marks.append(self._clock.mark())
            scores = self._verification(drafts)  # [rows, block + 1, V], the draft's part missing
            choice, accepted = self._choices(scores, drafts, draft_logits, noise)
            marks.append(self._clock.mark())
            runs = accepted.tolist()  # the first time that anybody waits for the device
            watched = runs
            if max(runs) == block:
                last, watched = self._bonus(scores, drafts, noise, runs)
                choice = torch.cat([choice, last[:, None]], dim=1)
                marks.append(self._clock.mark())
            made = self._checked(choice, scores, runs)
            marks.append(self._clock.mark())
            seen = Round(len(self.rows), block, tuple(watched), reading=reading, margins=margins)
            ended = self._take(made)
            before = self._clock.mark()
            if self.rows:
                for view, state in enumerate(self._states):
                    self._time(view, state.settle)
            settled = self._clock.mark()
        draft, verify, *rest = (self._clock.seconds(*pair) for pair in itertools.pairwise(marks))
        bonus = rest[0] if len(rest) > 1 else None
        seen = seen._replace(
            draft_seconds=draft,
            verify_seconds=verify,
            bonus_seconds=bonus,
            settle_seconds=self._clock.seconds(before, settled),
        )
        self._observe(seen, marks[0])
        return ended

    def _fixed_round(self, fixed: FixedRounds) -> list[tuple[int, Generation]]:
        """Do the same without a wait before the end."""
        recorded = fixed.recorded
        wanted = self._block()
        block = allowed_block(wanted, not self._blocks.watches)
        watches = self._can_draft and self._blocks.watches and not block
        marks = [self._clock.mark()]
        with torch.inference_mode():
            fixed.start(self.rows, block)
            for step in range(block):
                self._time(self._draft, functools.partial(fixed.draft, step, chooses=True))
            marks.append(self._clock.mark())
            self._time(self._draft, functools.partial(fixed.draft, block, chooses=watches))
            marks.append(self._clock.mark())
            for view, work in fixed.verify():
                self._time(view, work)
            fixed.choose(drafted=watches)
            marks.append(self._clock.mark())
            found = fixed.read(len(self.rows))
            made = _standing(found.tokens, found.runs, found.finite)
            watched = found.runs if block else found.stands if watches else []
            seen = Round(len(self.rows), block, tuple(watched), reading=fixed.recorded > recorded)
            ended = self._take(made)
        draft, bonus, verify = (self._clock.seconds(*pair) for pair in itertools.pairwise(marks))
        seen = seen._replace(draft_seconds=draft, verify_seconds=verify, bonus_seconds=bonus)
        self._observe(seen, marks[0])
        return ended

    # ------------------------------------------------------------------ the parts of a round

    def _block(self) -> int:
        if not self._can_draft:
            return 0
        left = max(self._limit - len(row.tokens) for row in self.rows)
        blocks, rows = self._blocks, len(self.rows)
        block = blocks.choose(rows, left - 1)
        ends_early = self._looks and blocks.settled(rows)
        return min(LONGEST_BLOCK, left - 1) if block and ends_early else block

    def _noise(self) -> Noise:
        device = self._composite.device
        seeds = to_device([row.request.seed for row in self.rows], device)
        first = to_device([len(row.tokens) for row in self.rows], device)
        return Noise(seeds, first, self._composite.vocabulary)

    def _pending(self, view: int) -> Tensor:
        device = self._composite.views[view].member.device
        return to_device([row.pending(view) for row in self.rows], device)[:, None]

    def _drafts(
        self, block: int, noise: Noise
    ) -> tuple[Tensor, list[Tensor], tuple[list[float], ...]]:
        """Let the draft member choose up to ``block`` tokens per row.

        Returns:
            The tokens, [rows, drafted], the logits of each position, and how sure it was of each,
            where that can be seen without waiting.
        """
        chosen: list[Tensor] = []
        kept: list[Tensor] = []
        margins: list[list[float]] = []
        token = self._pending(self._draft)
        reached = [1.0] * len(self.rows)
        while len(kept) < block:
            logits = self._forward(self._draft, token)[:, 0, : self._composite.vocabulary]
            choice, values = self._chooser.draft(logits, noise, len(kept))
            token = choice[:, None]
            chosen.append(token)
            kept.append(logits)
            if self._looks:  # it learns from every margin
                margins.append(margin_of(values).tolist())
                sure = self._blocks.sureness(margins[-1])
                reached = [before * now for before, now in zip(reached, sure, strict=True)]
                if not self._blocks.goes_on(len(self.rows), reached):
                    break
        drafts = torch.cat(chosen, dim=1) if kept else torch.empty(len(self.rows), 0)
        return drafts, kept, tuple(margins)

    def _verification(self, drafts: Tensor) -> Tensor:
        """Sum the other members' parts at every position of the block."""
        block = drafts.shape[1]
        scores = self._composite.empty_scores(len(self.rows), block + 1)
        for view in self._others:
            tokens = self._pending(view)
            if block:
                tokens = torch.cat([tokens, drafts.to(tokens.device)], dim=1)
            logits = self._forward(view, tokens)
            self._accumulate(scores, view, logits)
            del logits  # before the next member makes its own
        return scores

    def _choices(
        self, scores: Tensor, drafts: Tensor, draft_logits: list[Tensor], noise: Noise
    ) -> tuple[Tensor, Tensor]:
        """Choose at every drafted position, [rows, block]; count the drafts that stand, [rows]."""
        rows, block = drafts.shape
        if not block:
            empty = torch.empty(rows, 0, dtype=torch.long, device=scores.device)
            return empty, torch.zeros(rows, dtype=torch.long, device=scores.device)
        chosen = []
        for position in range(block):
            logits, here = draft_logits[position], scores[:, position]
            self._accumulate(here, self._draft, logits)
            token = drafts[:, position].to(scores.device)
            chosen.append(self._chooser.verify(here, logits, token, noise, position))
        choice = torch.stack(chosen, dim=1)
        return choice, (choice == drafts.to(choice.device)).cumprod(dim=1).sum(dim=1)

    def _bonus(
        self, scores: Tensor, drafts: Tensor, noise: Noise, runs: list[int]
    ) -> tuple[Tensor, list[int]]:
        """Choose the token after a block whose drafts all stand, [rows].

        Returns:
            The tokens, and what `BlockChooser` wants to know of a plain round.
        """
        block = drafts.shape[1]
        token = drafts[:, -1:] if block else self._pending(self._draft)
        logits = self._forward(self._draft, token)[:, 0]
        here = scores[:, block]
        self._accumulate(here, self._draft, logits)
        chosen = self._chooser.choose(here, noise, block)
        if block or not (self._can_draft and self._blocks.watches):
            return chosen, runs if block else []
        logits = logits[:, : scores.shape[-1]]
        would = self._chooser.draft(logits, noise, block)[0].to(chosen.device)
        stands = chosen
        if not self._chooser.coupled:
            stands = self._chooser.verify(here, logits, would, noise, block)
        return chosen, (stands == would).long().tolist()

    def _checked(self, choice: Tensor, scores: Tensor, runs: list[int]) -> list[list[int]]:
        """Return the tokens that stand, per row; refuse those without a real score."""
        real = real_choices(scores[:, : choice.shape[1]], choice)
        finite = real.cumprod(dim=1).sum(dim=1).tolist()
        return _standing(choice.tolist(), runs, finite)

    def _take(self, made: list[list[int]]) -> list[tuple[int, Generation]]:
        """Append what was made; let go of rows that ended."""
        ended = []
        staying = []
        for number, (row, new) in enumerate(zip(self.rows, made, strict=True)):
            finish = self._append(row, new)
            if finish is None:
                staying.append(number)
            else:
                ended.append((row.index, Generation(row.tokens, finish)))
                self._statistics.requests += 1
                self._statistics.tokens += len(row.tokens)
        for index, state in enumerate(self._held):
            # all of a row is read but its last token
            state.rewind(
                [len(row.request.prompts[index]) + len(row.tokens) - 1 for row in self.rows]
            )
        if ended:
            order = _closed_up(staying)
            self.rows = [self.rows[number] for number in order]
            for state in self._held:
                state.keep(order)
        return ended

    def _append(self, row: _Row, new: list[int]) -> Finish | None:
        room = self._limit - len(row.tokens)
        row.tokens += new[:room]
        count = len(new[:room])
        stops = self._composite.stop_tokens
        ends = any(token in stops for token in row.tokens[-count:])
        if ends or self._stopped(row.tokens, count):
            full = row.tokens
            for length in range(len(full) - count + 1, len(full) + 1):
                row.tokens = full[:length]
                if row.tokens[-1] in stops or self._stopped(row.tokens):
                    return "stop"
        return "length" if len(row.tokens) == self._limit else None

    # ------------------------------------------------------------------ time

    def _forward(self, view: int, tokens: Tensor) -> Tensor:
        return self._time(view, lambda: self._states[view].forward(tokens))

    def _accumulate(self, scores: Tensor, view: int, logits: Tensor) -> None:
        self._composite.accumulate(scores, self._composite.views[view], logits)

    def _time(self, view: int, work: Callable[[], T]) -> T:
        start = self._clock.mark()
        result = work()
        self._timed.append((view, start, self._clock.mark()))
        return result

    def _observe(self, seen: Round, start: Any) -> None:
        counts = self._statistics
        counts.rounds += 1
        counts.row_rounds += seen.rows
        counts.blocks[seen.block] += 1
        if seen.block:
            counts.drafted += seen.block * len(seen.runs)
            counts.accepted += sum(seen.runs)
            counts.tested += sum(min(run + 1, seen.block) for run in seen.runs)
        self._blocks.observe(seen)
        self._account(start, self._clock.mark())

    def _account(self, start: Any, end: Any) -> None:
        seen, views = self._statistics, self._composite.views
        for view, begun, over in self._timed:
            seen.seconds[views[view].role] += self._clock.seconds(begun, over)
        self._timed.clear()
        for of, state in zip(views, self._held, strict=True):
            seen.passes[of.role] += state.passes
            state.passes = 0
        seen.total_seconds += self._clock.seconds(start, end)


def _standing(
    tokens: list[list[int]], runs: Sequence[int], finite: Sequence[int]
) -> list[list[int]]:
    """Return the tokens that stand, per row; refuse those without a real score.

    Args:
        tokens: The composite's choices.
        runs: Per row, how many drafts stand.
        finite: Per row, how many choices in a row have a real score.
    """
    if any(run >= real for run, real in zip(runs, finite, strict=True)):
        raise EftEvalError(
            "the composite has no next token: a member gives NaN, or the members exclude every "
            "token between them; try dtype=float32"
        )
    return [row[: run + 1] for row, run in zip(tokens, runs, strict=True)]


def _closed_up(staying: list[int]) -> list[int]:
    """Return the staying rows with the last ones moved into the gaps: few rows are copied."""
    count = len(staying)
    fixed = {number for number in staying if number < count}
    movers = [number for number in staying if number >= count]
    return [place if place in fixed else movers.pop() for place in range(count)]
