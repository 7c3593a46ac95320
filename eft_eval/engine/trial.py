"""What a loaded model can do, tried out on a few tokens against passes without a cache.

Each trial is a short generation with given tokens, whose logits must be those of every row read
alone and from its beginning. What fails is told with its reason, never in silence. Where weights or
activations are rounded, a model's first layers are tried out in float32, too: what is off by less
than rounding shows there.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar

import torch
from torch import Tensor

from eft_eval.engine.batches import BatchState
from eft_eval.engine.engine import PlainWay, Rows, State
from eft_eval.engine.excerpt import excerpt
from eft_eval.engine.kept_prefix import KeptPrefix
from eft_eval.engine.numerics import (
    NUDGE,
    batch_spread,
    difference,
    nudge_spread,
    only_numerics,
    root_mean_square,
)
from eft_eval.engine.passes import Passes
from eft_eval.engine.prefixes import forests
from eft_eval.engine.recurrent import RecurrentState
from eft_eval.engine.states import RowState
from eft_eval.engine.windows import layer_windows, narrowed, recurrent_windows
from eft_eval.streams import logger

__all__ = ["Trial"]

log = logger("eft_eval")

_Given = ParamSpec("_Given")
_Answer = TypeVar("_Answer")

READ_ON = 4  # tokens that a row reads one by one
_WINDOW = 5  # tokens of a window in the trial of windows
_HORIZON = 3  # tokens that can be taken back in it
_ROUNDS = 50  # times a nudge: activations are rounded, not only weights
_ROUNDED = 0.5  # standard deviations that rounding alone may make
_AHEAD = 0.1  # standard deviations by which later tokens may move what is not rounded
_MIXED, _EQUAL = (19, 12, 5), (13, 13, 13)
_AGAIN = 10  # tokens that a row with recurrent layers reads
_STEPS = ((3, (1, 3, 2)), (3, (2, 1, 2)), (2, (1, 2, 1)), (1, (1,)), (3, (1, 2, 1)), (2, (2, 1)))
_LEAVES, _JOINS, _SETTLES = 2, 4, 1
_WAYS: tuple[tuple[Rows, tuple[int, ...]], ...] = (
    ("any", _MIXED),
    ("equal", _EQUAL),
    ("one", _MIXED[:1]),
)


def _with_excerpt(
    question: Callable[Concatenate[Trial, _Given], _Answer],
) -> Callable[Concatenate[Trial, _Given], _Answer]:
    """Hold a model's excerpt for the time of one question, where its numbers are rounded."""

    @functools.wraps(question)
    def asked(self: Trial, /, *given: _Given.args, **options: _Given.kwargs) -> _Answer:
        if not self._model.exact:
            try:
                made = excerpt(self._model)
                self._wide = None if made is None else Trial(made, self._scale)
            except Exception as error:  # noqa: BLE001  # of any model's code
                log.debug("%s: no layers in float32: %s", self._model.label, _words(error))
        try:
            return question(self, *given, **options)
        finally:
            self._wide = None

    return asked


class Trial:
    """Tries one model out; results are kept by whoever asks.

    Args:
        model: What runs the passes.
        scale: Multiplies the lengths of the trial's prompts, to reach over windows and blocks.

    Attributes:
        depends_on_batch: Whether a trial found its logits to depend on the rest of a batch.
    """

    def __init__(self, model: Passes, scale: int = 1) -> None:
        self._model, self._scale = model, scale
        self.depends_on_batch = False
        self._wide: Trial | None = None
        self._sound = False  # whether the excerpt has passed the trial that runs

    @_with_excerpt
    def causal(self) -> str | None:
        """Return why the model is no causal language model; None where it is one.

        Of a quantised one it is also measured whether its logits depend on the rest of a batch.
        """
        try:
            if why := self._looks_ahead():
                return why
        except Exception as error:  # noqa: BLE001  # of any model's code
            return f"it cannot be run: {_words(error)}"
        _, why = self._in_excerpt(Trial._looks_ahead)
        if why is not None:
            return why
        if self._model.quantized:
            with contextlib.suppress(Exception):  # of any model's code: what fails is told later
                self._measure()
        return None

    @torch.inference_mode()
    def _looks_ahead(self) -> str | None:
        row = self._rows((24,))[0]
        whole, _ = self._model.logits([row], [len(row)])
        alone = self._model.logits([row[:-READ_ON]], [1])[0][0, -1]
        padded = self._model.logits([row[:-READ_ON], row], [1, 1])[0][0, 0]
        within = whole[0, len(row) - READ_ON - 1]
        apart = max(difference(within, alone), difference(padded, alone))
        most = _AHEAD if self._model.exact else _ROUNDED
        if not apart > most or self._rounded(within, padded, alone):  # NaN is told where it is met
            return None
        return f"what it says of a token depends on later ones (by {apart:.2g} standard deviations)"

    def _rounded(self, within: Tensor, padded: Tensor, alone: Tensor) -> bool:
        """Whether logits differ no more than they do in batches of rows of one length."""
        apart = max(root_mean_square(within, alone), root_mean_square(padded, alone))
        return only_numerics(apart, self._batch_spread, 1e-3)

    @_with_excerpt
    def rows(self, reach: int | None = None) -> str | None:
        """Return why the model does not work with a cache length per row; None where it does.

        Args:
            reach: Tokens that every layer sees back; None: all.
        """
        longest = 18 * self._scale if reach is None else min(18 * self._scale, reach - 1)
        return self._told(Trial._rolls_back, (longest, max(longest - 7, 3)))

    @_with_excerpt
    def windows(self) -> str | None:
        """Return why rows do not work beyond the layers' windows; None where they do.

        Windows of real models are longer than a trial: they are made shorter for its time, and
        once more tried out as they are.
        """
        if layer_windows(self._model.text) is None:
            return "windows that take no mask"
        with self._narrowed(_WINDOW):
            for number, lengths in enumerate(((18, 11), (13, 13), (18, 3))):
                if why := self._told(Trial._rolls_back, lengths, True, wide_only=number > 0):
                    return why
        lengths = (18 * self._scale, 11 * self._scale)
        return self._told(Trial._rolls_back, lengths, True)

    @_with_excerpt
    def recurrent(self) -> str | None:
        """Return why rows of a model with recurrent layers cannot take tokens back, or None."""
        if (windows := recurrent_windows(self._model.text)) is None:
            return "layers of an unknown kind"
        if why := self._told(Trial._reads_from_a_state, wide_only=True):
            return why
        for size in (None, _WINDOW) if any(one.size for one in windows) else (None,):
            with self._narrowed(size):
                for lengths in (_MIXED, _MIXED[:1]):
                    brief = size is not None or lengths != _MIXED
                    if why := self._told(Trial._reads_again, lengths, wide_only=brief):
                        return why
        return None

    @_with_excerpt
    def trees(self) -> str | None:
        """Return why rows that begin alike cannot be read as a tree; None where they can."""
        with self._narrowed(_WINDOW):
            if why := self._told(Trial._reads_trees, wide_only=True):
                return why
        return self._told(Trial._reads_trees)

    @_with_excerpt
    def batch(self) -> str | None:
        """Return why a batch of unlike rows, without a cache, differs from each alone."""
        return self._told(Trial._scores_alike)

    @_with_excerpt
    def plain(self, mixed: bool = True) -> PlainWay:
        """Return the most that works.

        Args:
            mixed: Whether rows of unequal length may share a batch at all.
        """
        lost: str | None = "its layers count by place, padding included" if not mixed else None
        why: str | None = None
        for rows, lengths in _WAYS:
            if rows == "any" and not mixed:
                continue
            for shrinks in (True, False):
                if (why := self._told(Trial._reads_on, lengths, shrinks)) is None:
                    return PlainWay(rows, shrinks, True, lost and f"{_LOST[rows]}: {lost}")
                lost = lost or why
        return PlainWay("any", True, False, f"{_LOST['reread']}: {why}")

    # ------------------------------------------------------------------ the trials

    def _rolls_back(self, lengths: Sequence[int], windows: bool = False) -> str | None:
        """Read a block, take it back, and read on: two tokens at once, or one by one."""
        rows = self._rows(lengths, scale=1)
        sees = layer_windows(self._model.text) if windows else None
        state = RowState(self._model, len(rows), max(lengths) + 1, sees, horizon=_HORIZON)
        state.join([row[:-2] for row in rows])
        state.forward(torch.tensor([[row[-3], 0, 0] for row in rows]))
        back = [len(row) - 2 for row in rows]
        state.rewind(back)
        last = torch.tensor([row[-2:] for row in rows])
        expected = self._alone(rows, 2)
        if why := self._apart(state.forward(last), expected):
            return why
        state.rewind(back)
        steps = [state.forward(last[:, step : step + 1]) for step in range(2)]
        return self._apart(torch.cat(steps, dim=1), expected)

    def _reads_from_a_state(self) -> str | None:
        """Read several tokens at once and one by one, after states that cannot be overlooked.

        Those that a trial's few tokens leave may be too small to tell that a model forgets them.
        """
        rows = self._rows(_EQUAL, scale=1)
        length = len(rows[0])
        state = RecurrentState(self._model, len(rows), length + READ_ON)
        state.join(rows)
        state.settle(most=0)
        draw = torch.Generator().manual_seed(5)
        for place, one in enumerate(state.kept):
            drawn = torch.randn(one.shape, generator=draw, dtype=torch.float32)
            state.kept[place] = drawn.to(one.device, one.dtype)
        block = torch.tensor([row[-READ_ON:] for row in rows])
        together = state.forward(block)
        state.rewind([length - 1] * len(rows))
        singly = _one_by_one(state, block)
        if self._apart(together, singly) is None:
            return None
        apart = difference(together, singly)
        return f"its tokens, read at once or one by one, differ by {apart:.2g} standard deviations"

    def _reads_again(self, lengths: Sequence[int]) -> str | None:
        """Take back unequal numbers of tokens of rows with recurrent layers; one leaves, one joins.

        A step is: how many of a block's tokens are a row's own, by row; the rest is taken back.
        """
        rows = self._rows([length + _AGAIN for length in lengths])
        expected = [self._alone([row], _AGAIN)[0] for row in rows]
        state = RecurrentState(self._model, len(rows), max(map(len, rows)) + 3)
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
                if why := self._apart(logits[place, :stays], expected[row][there]):
                    return f"at step {number + 1}, {why}"
                done[row] += stays
            state.rewind([len(rows[row]) - _AGAIN + done[row] for row in alive])
            if number == _SETTLES:
                state.settle(most=0)
        return None

    def _reads_on(self, lengths: Sequence[int], shrinks: bool) -> str | None:
        """Read on with the model's cache; the second row ends early."""
        rows = self._rows(lengths)
        expected = self._alone(rows, READ_ON)
        state: State = BatchState(self._model, shrinks=shrinks)
        state.join([row[: -READ_ON + 1] for row in rows])
        alive = list(range(len(rows)))
        for step in range(READ_ON):
            places = [len(rows[row]) - READ_ON + step for row in alive]
            tokens = [[rows[row][place]] for row, place in zip(alive, places, strict=True)]
            found = state.forward(torch.tensor(tokens))
            if why := self._apart(found, expected[alive, step : step + 1]):
                return f"at token {step + 1}, {why}"
            if step == 1 and len(alive) > 1:
                state.keep([0, *range(2, len(alive))])
                del alive[1]
        return None

    @torch.inference_mode()
    def _measure(self) -> None:
        """Note a dependence of a quantised model's logits that its type's tolerance would hide."""
        exact = self._model.dtype in (torch.float32, torch.float64)
        rounds = exact and self._nudge_spread > _ROUNDS * NUDGE
        if rounds or only_numerics(0.0, self._batch_spread, self._tolerance):
            self._note_dependence()

    def _reads_trees(self) -> str | None:
        windows = layer_windows(self._model.text)
        if windows is None:
            return "some of its layers are no attention over all tokens"
        stem, second, one, other = self._rows((9, 8, 5, 4), scale=1)
        rows = [stem + one, stem[:7] + other, second + other, second + one]
        for forest in (found := list(forests(rows, [2] * len(rows)))):
            logits = self._model.tree_pass(forest, windows)
            for row, tree, places in forest.places:
                if why := self._apart(logits[tree, places], self._alone([rows[row]], 2)[0]):
                    return why
        assert len(found) == 1
        kept, alike = KeptPrefix(self._model, windows), [stem + one, stem[:7] + other]
        for shared in (7, 3, 7):  # beyond a window; then some of them kept
            for number, logits in kept.logits(alike, [2, 2], shared):
                if why := self._apart(logits, self._alone([alike[number]], 2)[0]):
                    return why
        return None

    def _scores_alike(self) -> str | None:
        rows = self._rows(_MIXED)
        found, first = self._model.logits(rows, [READ_ON] * len(rows))
        ends = [len(row) - first for row in rows]
        taken = [found[number, end - READ_ON : end] for number, end in enumerate(ends)]
        return self._apart(torch.stack(taken), self._alone(rows, READ_ON))

    # ------------------------------------------------------------------

    def _apart(self, found: Tensor, expected: Tensor) -> str | None:
        """Say how far logits are from the expected ones; None where numerics are all there is."""
        most = self._tolerance
        apart = difference(found, expected)
        if apart <= most or self._only_rounded(apart) or self._only_numerics(found, expected, most):
            return None
        return f"its logits differ from a pass without a cache by {apart:.2g} standard deviations"

    def _only_rounded(self, apart: float) -> bool:
        """Whether float32 has shown no fault, and rounding may make this difference."""
        if not (self._sound and apart <= _ROUNDED):  # NaN is no rounding
            return False
        if self._model.quantized:
            self._note_dependence()
        return True

    def _only_numerics(self, found: Tensor, expected: Tensor, most: float) -> bool:
        if not only_numerics(root_mean_square(found, expected), self.spread, most):
            return False
        self._note_dependence()
        return True

    def _note_dependence(self) -> None:
        if not self.depends_on_batch:
            self.depends_on_batch = True
            log.warning(
                "%s: its logits depend on the rest of a batch (by %.2g standard deviations, without"
                " any cache, too): responses change a little with batch_size and block",
                self._model.label, self.spread,
            )  # fmt: skip

    @property
    def _tolerance(self) -> float:
        return 1e-3 if self._model.dtype in (torch.float32, torch.float64) else 0.1

    @functools.cached_property
    def _batch_spread(self) -> float:
        return batch_spread(self._model.logits, self._rows(_MIXED), READ_ON)

    @functools.cached_property
    def spread(self) -> float:
        """How much logits without a cache depend on the other rows of a batch, or on last bits."""
        if self._model.exact:
            return self._batch_spread
        nudges = self._nudge_spread if self._model.quantized else self._nudge_spread / 3
        return max(self._batch_spread, nudges)

    @functools.cached_property
    def _nudge_spread(self) -> float:
        return nudge_spread(self._model.model, self._model.logits, self._rows(_MIXED), READ_ON)

    def _rows(self, lengths: Sequence[int], scale: int | None = None) -> list[list[int]]:
        limit = int(self._model.text.vocab_size)
        scale = self._scale if scale is None else scale
        return [
            [(7 * place + 5 * number + place * place + 3) % limit for place in range(length)]
            for number, length in enumerate(one * scale for one in lengths)
        ]

    def _alone(self, rows: Sequence[Sequence[int]], last: int) -> Tensor:
        return torch.stack([self._model.logits([row], [last])[0][0, -last:] for row in rows])

    @torch.inference_mode()
    def _told(
        self, trial: Callable[..., str | None], *given: Any, wide_only: bool = False
    ) -> str | None:
        """Return what a trial finds, of the excerpt and of the whole model.

        Args:
            trial: A method.
            *given: Its arguments.
            wide_only: Whether an excerpt's word is enough, where there is one.
        """
        tried, why = self._in_excerpt(trial, *given)
        if why is not None or (tried and wide_only):
            return why
        self._sound = tried
        try:
            return trial(self, *given)
        except Exception as error:  # noqa: BLE001  # of any model's code: it goes into the line
            return _words(error)
        finally:
            self._sound = False

    @torch.inference_mode()
    def _in_excerpt(self, trial: Callable[..., str | None], *given: Any) -> tuple[bool, str | None]:
        """Return whether a trial of the excerpt came to an end, and what it found."""
        if self._wide is None:
            return False, None
        try:
            why = trial(self._wide, *given)
        except Exception as error:  # noqa: BLE001  # the whole model decides
            log.debug("%s: first layers in float32: %s", self._model.label, _words(error))
            return False, None
        return True, why and f"in float32, {why}"

    @contextlib.contextmanager
    def _narrowed(self, size: int | None) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for one in (self, self._wide):
                if one is not None and size is not None:
                    stack.enter_context(narrowed(one._model.text, size))
            yield


_LOST = {
    "any": "rows that end stay in their batch",
    "equal": "only prompts of one length share a batch",
    "one": "one response at a time",
    "reread": "every token reads its row from the beginning (slow)",
}


def _one_by_one(state: State, block: Tensor) -> Tensor:
    columns = range(block.shape[1])
    return torch.cat([state.forward(block[:, n : n + 1]) for n in columns], dim=1)


def _words(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:160]}" if text else type(error).__name__
