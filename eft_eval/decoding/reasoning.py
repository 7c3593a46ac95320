"""Members that think before they answer: where the reasoning ends, and what is left as answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from eft_eval.decoding.requests import Generation
from eft_eval.decoding.stopping import StopStrings
from eft_eval.engine.vocabulary import ids_end
from eft_eval.errors import ConfigError

__all__ = ["REASONING_ENDS", "AnswerStops", "Reasoning", "opened", "reasoning_of"]

REASONING_ENDS = (
    "</think>", "</seed:think>", "◁/think▷", "[/THINK]", "<|END_THINKING|>",
    "<|end_of_thought|>", "<|channel|>final<|message|>",
)  # fmt: skip
"""What ends the reasoning of models that people use."""

_OPENINGS = (
    ("</", "<"), ("[/", "["), ("◁/", "◁"), ("<|/", "<|"),
    ("end", "begin"), ("end", "start"), ("END", "START"), ("END", "BEGIN"),
)  # fmt: skip
"""How the mark before the reasoning differs from the one after it."""


def _starts_of(end: str) -> tuple[str, ...]:
    return tuple({end.replace(*pair) for pair in _OPENINGS} - {end})


_BEGINNINGS = tuple(start for end in REASONING_ENDS for start in _starts_of(end))


class Reasoning:
    """What ends a response's reasoning: a text, however it is made of tokens, or a token.

    Args:
        tokenizer: The tuned member's.
        end: The text, or the token's id.
    """

    def __init__(self, tokenizer: Any, end: str | int) -> None:
        self._tokenizer = tokenizer
        self._token = end if isinstance(end, int) else None
        self._end = end if isinstance(end, str) else self._text([end])
        end_mark = self._end.strip()
        self._starts = _starts_of(end_mark)

    def closed(self, prompt: str) -> bool:
        """Whether a prompt ends with reasoning that is over, as templates without thinking do."""
        return prompt.rstrip().endswith(self._end.strip())

    def answer(self, tokens: Sequence[int], skip_special_tokens: bool = True) -> str | None:
        """Return the text after the (last) reasoning; None where that has not ended.

        Reasoning that begins anew right after another has not.
        """
        after = self._after(tokens)
        if after is None:
            return None
        rest, place = after
        if self._begins(rest + self._text(tokens[place:])):
            return None
        return (rest + self._text(tokens[place:], skip_special_tokens)).lstrip()

    def unfinished(self, prompt: str, made: Generation) -> bool:
        """Whether a response without an end of reasoning is reasoning; else it is an answer.

        What was cut off may be either, and counts as reasoning. What ended by itself is an answer
        where neither it nor its prompt begins to reason.
        """
        if made.finish == "length" or not self._starts or self._after(made.tokens) is not None:
            return True
        opened = prompt.rstrip().endswith(self._starts)
        return opened or self._begins(self._text(made.tokens))

    def _begins(self, text: str) -> bool:
        """Whether a text begins to reason."""
        return bool(self._starts) and text.lstrip().startswith(self._starts)

    def _after(self, tokens: Sequence[int]) -> tuple[str, int] | None:
        """Return where the last reasoning's end is complete, and what its last token adds to it."""
        if self._token is not None:
            places = [place for place, token in enumerate(tokens) if token == self._token]
            return ("", places[-1] + 1) if places else None
        times = self._text(tokens).count(self._end)
        if not times:
            return None
        low, high = 1, len(tokens)  # the fewest tokens that have it as often
        while low < high:
            middle = (low + high) // 2
            if self._text(tokens[:middle]).count(self._end) >= times:
                high = middle
            else:
                low = middle + 1
        return self._text(tokens[:low]).rsplit(self._end, 1)[-1], low

    def _text(self, tokens: Sequence[int], skip_special_tokens: bool = False) -> str:
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=skip_special_tokens))


def reasoning_of(
    tokenizer: Any, end: str | int | None, gives: Callable[[int], bool] | None = None
) -> Reasoning | None:
    """Return what ends a member's reasoning; None where it is not to be told from answers.

    Args:
        tokenizer: The tuned member's.
        end: The text, or the token's id.
        gives: Whether a response may hold a token; None: any.

    Raises:
        ConfigError: There is no such token, or no response may hold it.
    """
    if end is None:
        return None
    if isinstance(end, bool) or (not isinstance(end, int) and not str(end).strip()):
        given = end if isinstance(end, bool) else "an empty text"
        raise ConfigError(f"think_end_token: got {given}, expected a text or a token's id")
    size = ids_end(tokenizer)
    if isinstance(end, int) and not 0 <= end < size:
        raise ConfigError(
            f"think_end_token: got {end}, but the tuned member's tokens are 0 to "
            f"{size - 1}; give one, or the text that ends the reasoning"
        )
    if gives is not None:
        _check_given(tokenizer, end, gives)
    return Reasoning(tokenizer, end if isinstance(end, int) else str(end))


def _check_given(tokenizer: Any, end: str | int, gives: Callable[[int], bool]) -> None:
    written = [end] if isinstance(end, int) else tokenizer(end, add_special_tokens=False).input_ids
    lacking = next((token for token in written if not gives(token)), None)
    if lacking is not None:
        raise ConfigError(
            f"think_end_token: {end!r} is written with token {lacking} "
            f"({tokenizer.convert_ids_to_tokens(lacking)!r}), which not every member has, so that "
            "no response could end its reasoning: take a tuned member that thinks with tokens of "
            "its base"
        )


def opened(prompt: str) -> str | None:
    """Return the mark with which a prompt ends in the midst of reasoning; None where it does not.

    Chat templates of models that always think end so.
    """
    end = prompt.rstrip()
    return next((mark for mark in _BEGINNINGS if end.endswith(mark)), None)


class AnswerStops(StopStrings):
    """Stop strings of the answer: in the reasoning, and in white space after it, they are text."""

    def __init__(self, tokenizer: Any, strings: Sequence[str], reasoning: Reasoning) -> None:
        super().__init__(tokenizer, strings)
        self._reasoning = reasoning

    def __call__(self, tokens: Sequence[int], new: int = 1) -> bool:
        """Return whether a stop string of the answer ends within the last ``new`` tokens."""
        if not super().__call__(tokens, new):
            return False
        answer = self._reasoning.answer(tokens, skip_special_tokens=False)
        return answer is not None and any(string in answer for string in self._strings)
