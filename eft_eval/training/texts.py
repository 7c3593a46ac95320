"""Preferences as the texts that a model reads, in its chat template or as the tasks' dialogues."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from eft_eval.composite.encoding import TextEncoding
from eft_eval.errors import ConfigError
from eft_eval.training.preferences import Preference

__all__ = ["Fitting", "PairText", "Texts", "check_same_tokens", "fitting"]


class PairText(NamedTuple):
    """A prompt and two answers as text; both answers end with the end-of-sequence token.

    Attributes:
        prompt: Up to where the assistant begins.
        chosen: What people chose.
        rejected: The other.
        tokens: Of the prompt with either answer.
    """

    prompt: str
    chosen: str
    rejected: str
    tokens: tuple[int, int]


class Texts:
    """How preferences are written for one model.

    Args:
        tokenizer: The model's.
        chat_template: Whether dialogues go through its chat template.

    Raises:
        ConfigError: It has no end-of-sequence token, or no chat template where one is asked for.
    """

    def __init__(self, tokenizer: Any, chat_template: bool) -> None:
        self._tokenizer = tokenizer
        self._chat = chat_template
        self.encoding = TextEncoding(tokenizer)
        if tokenizer.eos_token is None:
            raise ConfigError(
                "reference: its tokenizer has no end-of-sequence token, which ends an answer"
            )
        if chat_template and not tokenizer.chat_template:
            raise ConfigError(
                "chat-template: the reference's tokenizer has none; leave it out, or give a model "
                "that has one"
            )
        begin = tokenizer.bos_token
        self._begin = begin if begin and self.encoding.tokens("a") != self._plain("a") else ""

    def of(self, one: Preference) -> PairText:
        """Return a preference's texts.

        Raises:
            ConfigError: The chat template writes a prompt otherwise where an answer follows.
        """
        if self._chat:
            prompt = self._rendered(one.messages, ask=True)
            answers = [
                self._answer(one.messages, prompt, text) for text in (one.chosen, one.rejected)
            ]
            prompt = prompt.removeprefix(self._begin)  # which the tokenizer adds itself
        else:
            prompt, answers = one.dialogue, [f" {text}" for text in (one.chosen, one.rejected)]
        end = self._tokenizer.eos_token
        chosen, rejected = (text if text.endswith(end) else text + end for text in answers)
        lengths = [len(self.encoding.tokens(prompt + text)) for text in (chosen, rejected)]
        return PairText(prompt, chosen, rejected, (lengths[0], lengths[1]))

    def _answer(self, messages: list[dict[str, str]], prompt: str, text: str) -> str:
        whole = self._rendered([*messages, {"role": "assistant", "content": text}], ask=False)
        if not whole.startswith(prompt):
            raise ConfigError(
                "chat-template: the model's own writes a prompt otherwise where an answer follows, "
                "so that the answer cannot be told apart; leave chat-template out"
            )
        return whole[len(prompt) :].rstrip()

    def _rendered(self, messages: list[dict[str, str]], ask: bool) -> str:
        try:
            text = self._tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=ask
            )
        except Exception as error:  # whatever somebody's template raises
            why = " ".join(str(error).split())[:200]
            raise ConfigError(f"chat-template: the model's own fails: {why}") from error
        return str(text)

    def _plain(self, text: str) -> list[int]:
        found: list[int] = self._tokenizer(text, add_special_tokens=False).input_ids
        return found


@dataclass(frozen=True)
class Fitting:
    """Texts that are short enough.

    Attributes:
        pairs: Their texts.
        too_long: How many were longer, of those that were looked at.
    """

    pairs: tuple[PairText, ...]
    too_long: int

    @property
    def tokens(self) -> int:
        """Tokens of all prompts with both answers."""
        return sum(sum(one.tokens) for one in self.pairs)


def fitting(
    texts: Texts, found: Iterable[Preference], longest: int, most: int | None = None
) -> Fitting:
    """Return the first texts with both answers within ``longest`` tokens, ``most`` of them."""
    pairs: list[PairText] = []
    too_long = 0
    for one in found:
        if most is not None and len(pairs) >= most:
            break
        pair = texts.of(one)
        if max(pair.tokens) > longest:
            too_long += 1
        else:
            pairs.append(pair)
    return Fitting(tuple(pairs), too_long)


def check_same_tokens(texts: Texts, pairs: Sequence[PairText], rows: Iterable[Any]) -> None:
    """Check that a trainer reads a pair's texts as they are read when the model is evaluated.

    Args:
        texts: How they were written.
        pairs: The texts.
        rows: The trainer's, with ``prompt_ids``, ``chosen_ids`` and ``rejected_ids``.

    Raises:
        ConfigError: It reads other tokens.
    """
    count = 0
    for pair, row in zip(pairs, rows, strict=True):
        for name in ("chosen", "rejected"):
            ours = texts.encoding.tokens(pair.prompt + getattr(pair, name))
            theirs = [*row["prompt_ids"], *row[f"{name}_ids"]]
            count += ours != theirs
    if count:
        raise ConfigError(
            f"reference: TRL reads {count} of {2 * len(pairs)} texts with other tokens than an "
            "evaluation does (does its tokenizer append an end of sequence?); give another model"
        )
