"""Stop strings, tested on the last few tokens of a response."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class StopStrings:
    """Tells whether a response ends with a stop string; see `eft_eval.decoding.StopTest`.

    A string of n bytes lies within the last n tokens, since a token is at least one byte; a few
    more are decoded because the first ones may be parts of a character.
    """

    def __init__(self, tokenizer: Any, strings: Sequence[str]) -> None:
        self._tokenizer = tokenizer
        self._strings = [string for string in strings if string]
        self._window = 3 + max((len(s.encode()) for s in self._strings), default=0)

    def __call__(self, tokens: Sequence[int], new: int = 1) -> bool:
        """Return whether a stop string ends within the last ``new`` tokens."""
        if not self._strings:
            return False
        tail = list(tokens[-(self._window + new) :])
        text = self._tokenizer.decode(tail, skip_special_tokens=False)
        return any(string in text for string in self._strings)
