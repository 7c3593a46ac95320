"""What a loaded model can do, tried out on a few tokens against passes without a cache.

Each trial is a short generation with given tokens (`eft_eval.engine.probes`), whose logits must be
those of every row read alone and from its beginning. What fails is told with its reason, never in
silence. Where weights or activations are rounded, a model's first layers are tried out in float32,
too: what is off by less than rounding shows there.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar

import torch

from eft_eval.engine.engine import PlainWay, Rows
from eft_eval.engine.excerpt import excerpt
from eft_eval.engine.passes import Passes
from eft_eval.engine.positions import same_scale_until
from eft_eval.engine.probes import EQUAL, MIXED, Probes
from eft_eval.engine.windows import layer_windows, longest_window, narrowed, recurrent_windows
from eft_eval.streams import logger

__all__ = ["Trial"]

log = logger("eft_eval")

_Given = ParamSpec("_Given")
_Answer = TypeVar("_Answer")

_WINDOW = 5  # tokens of a window in the trial of windows
_WAYS: tuple[tuple[Rows, tuple[int, ...]], ...] = (
    ("any", MIXED),
    ("equal", EQUAL),
    ("one", MIXED[:1]),
)
_LOST = {
    "any": "rows that end stay in their batch",
    "equal": "only prompts of one length share a batch",
    "one": "one response at a time",
    "reread": "every token reads its row from the beginning (slow)",
}


def _with_excerpt(
    question: Callable[Concatenate[Trial, _Given], _Answer],
) -> Callable[Concatenate[Trial, _Given], _Answer]:
    """Hold a model's excerpt for the time of one question, where its numbers are rounded."""

    @functools.wraps(question)
    def asked(self: Trial, /, *given: _Given.args, **options: _Given.kwargs) -> _Answer:
        if not self._model.exact:
            try:
                made = excerpt(self._model)
                self._wide = None if made is None else Probes(made, self._scale)
            except Exception as error:  # noqa: BLE001  # of any model's code
                log.debug("%s: no layers in float32: %s", self._model.label, _words(error))
        try:
            return question(self, *given, **options)
        finally:
            self._wide = None
            self._whole.forget()

    return asked


class Trial:
    """Tries one model out; results are kept by whoever asks.

    Args:
        model: What runs the passes.
        scale: Multiplies the lengths of the trial's prompts, to reach over windows and blocks.
    """

    def __init__(self, model: Passes, scale: int = 1) -> None:
        self._model, self._scale = model, scale
        self._whole = Probes(model, scale)
        self._wide: Probes | None = None

    @property
    def depends_on_batch(self) -> bool:
        """Whether a trial found the model's logits to depend on the rest of a batch."""
        return self._whole.tolerance.depends_on_batch

    @_with_excerpt
    def causal(self) -> str | None:
        """Return why the model is no causal language model; None where it is one.

        Of a quantised one it is also measured whether its logits depend on the rest of a batch.
        """
        try:
            with torch.inference_mode():
                if why := self._whole.looks_ahead():
                    return why
        except Exception as error:  # noqa: BLE001  # of any model's code
            return f"it cannot be run: {_words(error)}"
        _, why = self._in_excerpt(Probes.looks_ahead)
        if why is not None:
            return why
        if self._model.quantized:
            with contextlib.suppress(Exception):  # of any model's code: what fails is told later
                self._whole.tolerance.measure()
        return None

    @_with_excerpt
    def rows(self, reach: int | None = None) -> str | None:
        """Return why the model does not work with a cache length per row; None where it does.

        Args:
            reach: Tokens that every layer sees back; None: all.
        """
        longest = 18 * self._scale if reach is None else min(18 * self._scale, reach - 1)
        return self._told(Probes.rolls_back, self._one_scale(longest, max(longest - 7, 3)))

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
                within = self._one_scale(*lengths)
                if why := self._told(Probes.rolls_back, within, True, wide_only=number > 0):
                    return why
        within = self._one_scale(18 * self._scale, 11 * self._scale)
        return self._told(Probes.rolls_back, within, True)

    @_with_excerpt
    def recurrent(self) -> str | None:
        """Return why rows of a model with recurrent layers cannot take tokens back, or None."""
        if (windows := recurrent_windows(self._model.text)) is None:
            return "layers of an unknown kind"
        if why := self._told(Probes.reads_from_a_state, wide_only=True):
            return why
        for size in (None, _WINDOW) if any(one.size for one in windows) else (None,):
            with self._narrowed(size):
                for lengths in (MIXED, MIXED[:1]):
                    brief = size is not None or lengths != MIXED
                    if why := self._told(Probes.reads_again, lengths, wide_only=brief):
                        return why
        return None

    @_with_excerpt
    def trees(self) -> str | None:
        """Return why rows that begin alike cannot be read as a tree; None where they can."""
        if longest_window(self._model.text) is not None:
            with self._narrowed(_WINDOW):
                if why := self._told(Probes.reads_trees, wide_only=True):
                    return why
        return self._told(Probes.reads_trees)

    @_with_excerpt
    def batch(self) -> str | None:
        """Return why a batch of unlike rows, without a cache, differs from each alone."""
        return self._told(Probes.scores_alike)

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
                if (why := self._reads_on(lengths, shrinks)) is None:
                    return PlainWay(rows, shrinks, True, lost and f"{_LOST[rows]}: {lost}")
                lost = lost or why
        return PlainWay("any", True, False, f"{_LOST['reread']}: {why}")

    def _reads_on(self, lengths: Sequence[int], shrinks: bool) -> str | None:
        """Return why rows cannot be read on, within windows and beyond them, or None.

        A model that does not follow its windows where they are made shorter is tried out beyond
        them as they are.
        """
        why = self._told(Probes.reads_on, lengths, shrinks)
        if why is not None or (window := longest_window(self._model.text)) is None:
            return why
        with self._narrowed(_WINDOW):
            if self._told(Probes.reads_on, lengths, shrinks) is None:
                return None
        beyond = [length + window for length in lengths]
        why = self._told(Probes.reads_on, beyond, shrinks)
        return why and f"beyond {window} tokens, {why}"

    # ------------------------------------------------------------------

    def _one_scale(self, *lengths: int) -> tuple[int, ...]:
        """Keep rows where queries are not scaled by the cache's length, which has its own line."""
        limit = same_scale_until(self._model.text)
        return lengths if limit is None else tuple(max(3, min(one, limit)) for one in lengths)

    @torch.inference_mode()
    def _told(
        self, probe: Callable[..., str | None], *given: Any, wide_only: bool = False
    ) -> str | None:
        """Return what a probe finds, of the excerpt and of the whole model.

        Args:
            probe: A method of `Probes`.
            *given: Its arguments.
            wide_only: Whether an excerpt's word is enough, where there is one.
        """
        tried, why = self._in_excerpt(probe, *given)
        if why is not None or (tried and wide_only):
            return why
        self._whole.tolerance.sound = tried
        try:
            return probe(self._whole, *given)
        except Exception as error:  # noqa: BLE001  # of any model's code: it goes into the line
            return _words(error)
        finally:
            self._whole.tolerance.sound = False

    @torch.inference_mode()
    def _in_excerpt(self, probe: Callable[..., str | None], *given: Any) -> tuple[bool, str | None]:
        """Return whether a probe of the excerpt came to an end, and what it found."""
        if self._wide is None:
            return False, None
        try:
            why = probe(self._wide, *given)
        except Exception as error:  # noqa: BLE001  # the whole model decides
            log.debug("%s: first layers in float32: %s", self._model.label, _words(error))
            return False, None
        return True, why and f"in float32, {why}"

    @contextlib.contextmanager
    def _narrowed(self, size: int | None) -> Iterator[None]:
        """Give windows another size for a while; None: leave them."""
        if size is None:
            yield
            return
        tried = [one for one in (self._whole, self._wide) if one is not None]
        with contextlib.ExitStack() as stack:
            for one in tried:
                stack.enter_context(narrowed(one.model.text, size))
                stack.callback(one.forget)
                one.forget()
            yield


def _words(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:160]}" if text else type(error).__name__
