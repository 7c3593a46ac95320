"""Stop strings, tested on the last few tokens of a response."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class StopStrings:
    """Tells whether a response ends with a stop string; see `eft_eval.decoding.generate`.

    A string of n bytes lies within the last n tokens, since a token is at least one byte; a few
    more are decoded because the first ones may be parts of a character.
    """

    def __init__(self, tokenizer: Any, strings: Sequence[str]) -> None:
        self._tokenizer = tokenizer
        self._strings = [string for string in strings if string]
        self._window = 4 + max((len(s.encode()) for s in self._strings), default=0)

    def __call__(self, tokens: list[int]) -> bool:
        if not self._strings:
            return False
        tail = self._tokenizer.decode(tokens[-self._window :], skip_special_tokens=False)
        return any(string in tail for string in self._strings)
