"""The one way from text to tokens and back: lm-eval's rules for causal models, kept everywhere.

Knows a tokenizer, no models.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from eft_eval.characters import HALF_CHARACTER
from eft_eval.engine.reading import frame_of
from eft_eval.engine.vocabulary import ids_end
from eft_eval.errors import ConfigError

__all__ = ["Pair", "TextEncoding", "listed_texts"]

_ANCHOR = 4  # tokens before a token that its text depends on: spaces, and parts of a character


class Pair(NamedTuple):
    """A context and a continuation as tokens.

    Attributes:
        context: At least one token.
        continuation: The tokens to score, at least one.
        moved: White space that ended the context and now begins the continuation.
    """

    context: list[int]
    continuation: list[int]
    moved: str


class TextEncoding:
    """How texts become tokens: beginning-of-sequence once, no appended end, borders as lm-eval's.

    Args:
        tokenizer: The tuned member's.
        add_bos_token: Whether special tokens are added to texts; None: the tokenizer's own way.
        prefix_token: What an empty context is; None: beginning of sequence, else its end.
    """

    def __init__(
        self, tokenizer: Any, add_bos_token: bool | None = None, prefix_token: int | None = None
    ) -> None:
        self._tokenizer = tokenizer
        self._add_special = add_bos_token
        if prefix_token is not None and not 0 <= prefix_token < (end := ids_end(tokenizer)):
            raise ConfigError(
                f"prefix_token_id: got {prefix_token}, but the tuned member's tokens are 0 to "
                f"{end - 1}"
            )
        self._prefix_token = prefix_token

    @property
    def prefix_token(self) -> int:
        """The token that stands for an empty context."""
        tokenizer = self._tokenizer
        for token in (self._prefix_token, tokenizer.bos_token_id, tokenizer.eos_token_id):
            if token is not None:
                return int(token)
        raise ConfigError(
            "the tokenizer has neither a beginning- nor an end-of-sequence token, so nothing "
            "stands for an empty context: give one with prefix_token_id=N"
        )

    def tokens(self, text: str, add_special_tokens: bool | None = None) -> list[int]:
        """Return a text's tokens; what the tokenizer puts first is there once.

        A text that begins with it, or with the BOS token's text, gets no second one.

        An end-of-sequence token that the tokenizer appends is left out: what follows a prompt is
        not a new text.

        Args:
            text: The text.
            add_special_tokens: None: as the tokenizer does, or ``add_bos_token`` says.

        Raises:
            ConfigError: It holds a lone surrogate.
        """
        if not text.isascii() and (half := HALF_CHARACTER.search(text)):
            raise ConfigError(
                f"{half[0]!r} at character {half.start() + 1} of {len(text):,} is half of one, "
                "a lone surrogate, which no tokenizer reads: the text was cut or decoded wrongly"
            )
        special = self._add_special if add_special_tokens is None else add_special_tokens
        if add_special_tokens is None and self._begins(text):
            special = False
        options = {} if special is None else {"add_special_tokens": special}
        found: list[int] = self._tokenizer(text, **options).input_ids
        appended = 0 if special is False else self._appended
        return found[: len(found) - appended]

    def alone(self, text: str) -> list[int]:
        """Return the tokens of a text that nothing but the prefix token comes before."""
        found = self.tokens(text, add_special_tokens=False)
        return found[1:] if found[:1] == [self.prefix_token] else found

    def pair(self, context: str, continuation: str) -> Pair:
        """Return a context's and a continuation's tokens, split as lm-eval splits them.

        White space at the context's end moves to the continuation; both are encoded together, and
        the continuation is what lies beyond the context's own tokens. An empty context is the
        prefix token.

        Raises:
            ConfigError: The continuation has no token of its own.
        """
        stripped = context.rstrip()
        moved = context[len(stripped) :]
        after = moved + continuation
        if stripped:
            before = self.tokens(stripped)
            found = self.tokens(stripped + after)[len(before) :]
        else:
            before, found = [self.prefix_token], self.alone(after)
        if not after:
            raise ConfigError(
                f"the continuation after …{context[-40:]!r} is empty; give at least one token"
            )
        if not found:
            raise ConfigError(
                f"the continuation {continuation!r} has no token of its own after "
                f"…{context[-40:]!r}: the tokenizer merges it with the context's end, so that it "
                "has no log-likelihood; end the context, or begin the continuation, otherwise"
            )
        return Pair(before, found, moved)

    def text(self, tokens: Sequence[int], skip_special_tokens: bool = True) -> str:
        """Return the text of tokens."""
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=skip_special_tokens))

    def pieces(self, tokens: Sequence[int], before: Sequence[int] = ()) -> list[str]:
        """Return each token's part of the text; put together they are the text after ``before``.

        A character that several tokens make up belongs to the last of them.
        """
        start = self.text(before, skip_special_tokens=False) if before else ""
        whole = self.text([*before, *tokens], skip_special_tokens=False)
        at = _shared(start, whole)
        found = []
        for end in range(1, len(tokens) + 1):
            read = self.text([*before, *tokens[:end]], skip_special_tokens=False)
            upto = len(whole) if end == len(tokens) else max(at, _shared(read, whole))
            found.append(whole[at:upto])
            at = upto
        return found

    def piece(self, token: int, before: Sequence[int] = ()) -> str:
        """Return what one token adds to the text of those before it."""
        anchor = list(before[-_ANCHOR:])
        start = self.text(anchor, skip_special_tokens=False) if anchor else ""
        both = self.text([*anchor, token], skip_special_tokens=False)
        if both.startswith(start):
            return both[len(start) :]
        return self.text([token], skip_special_tokens=False)

    def _begins(self, text: str) -> bool:
        """Whether a text has a beginning of its own, as chat templates write it."""
        return text.startswith(self._beginnings)

    @cached_property
    def _beginnings(self) -> tuple[str, ...]:
        """What texts begin with that the tokenizer is not to put before them again."""
        put = self._tokenizer.convert_ids_to_tokens([*frame_of(self._tokenizer).before])
        return tuple({text for text in (self._tokenizer.bos_token, "".join(put)) if text})

    @cached_property
    def _appended(self) -> int:
        """Number of special tokens that the tokenizer puts after a text."""
        return len(frame_of(self._tokenizer).after)


def _shared(first: str, second: str) -> int:
    """Return the length of what two texts begin with alike."""
    end = min(len(first), len(second))
    return next((at for at in range(end) if first[at] != second[at]), end)


def listed_texts(name: str, given: Iterable[str]) -> list[str]:
    """Return several texts as a list.

    Args:
        name: Of the argument, for the error.
        given: The texts.

    Raises:
        ConfigError: It is one text, whose characters would be taken for texts, or no texts.
    """
    if isinstance(given, (str, bytes)):
        raise ConfigError(f"{name}: got one text, expected a list of texts")
    try:
        found = list(given)
    except TypeError:
        raise ConfigError(f"{name}: got {given!r}, expected a list of texts") from None
    for one in found:
        if not isinstance(one, str):
            raise ConfigError(f"{name}: got {repr(one)[:80]} among them, expected texts")
    return found
