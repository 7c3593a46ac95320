"""Whether the members of a composite speak of the same tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eft_eval.engine.loading import Member
from eft_eval.errors import ConfigError
from eft_eval.streams import logger

__all__ = ["common_vocabulary"]

log = logger("eft_eval")

_PROBES = (
    "1234567 and 3.14159, 1,000,000",
    " leading and  double   spaces ",
    "lines\n\n\nand\ttabs\r\n  indented",
    "naïve café Ünïcode e\u0301",
    "日本語 🙂👩‍🚀",
    "don't we'll I'd CamelCase ABCdef x**2 != y_1",
    "Human: Why?\n\nAssistant: Because.",
)
"""Texts that tokenizers of one vocabulary may still split otherwise."""


def common_vocabulary(members: Mapping[str, Member]) -> int:
    """Return the number of token ids that all members share, after comparing tokenizers.

    Models of one family differ by padding (Qwen: 151,936 and 152,064 logits for one tokenizer) and
    by tokens that were added at the end; ids may have holes. Whatever lies below the shortest end
    must mean the same, and texts must be split alike.

    Raises:
        ConfigError: Two members disagree about a token or a text; the first one is named.
    """
    tuned = members.get("tuned") or members["tuned1"]
    distinct = list(dict.fromkeys(members.values()))
    size = min(min(_end(one.tokenizer), one.vocabulary_size) for one in distinct)
    ours = _by_id(tuned.tokenizer)
    for member in distinct:
        theirs = _by_id(member.tokenizer)
        for index in range(size):
            if ours.get(index) != theirs.get(index):
                raise ConfigError(
                    f"the tokenizers differ: token {index} is {ours.get(index)!r} in "
                    f"{tuned.label} and {theirs.get(index)!r} in {member.label}; "
                    "all members of a composite must come from one family"
                )
        _check_splits(tuned, member, size)
    return size


def _check_splits(tuned: Member, member: Member, size: int) -> None:
    """Compare how texts are encoded; every member reads the tuned member's tokens."""
    for text in _PROBES:
        ours, theirs = _encoded(tuned, text), _encoded(member, text)
        if ours != theirs and max([*ours, *theirs]) < size:
            raise ConfigError(
                f"the tokenizers split texts otherwise: {text!r} is {_tokens(tuned, ours)} in "
                f"{tuned.label} and {_tokens(member, theirs)} in {member.label}, which would read "
                "what it was not trained on; if they are of one family, give all members the same "
                "tokenizer files"
            )
    if _begins(tuned.tokenizer) != _begins(member.tokenizer):
        does, does_not = (tuned, member) if _begins(tuned.tokenizer) else (member, tuned)
        log.warning(
            "%s begins texts with a beginning-of-sequence token, %s does not; all members read as "
            "the tuned one does (add_bos_token=True or False decides otherwise)",
            does.label,
            does_not.label,
        )


def _begins(tokenizer: Any) -> bool:
    """Whether texts get a beginning-of-sequence token."""
    return bool(tokenizer("a").input_ids[0] == tokenizer.bos_token_id)


def _encoded(member: Member, text: str) -> list[int]:
    found: list[int] = member.tokenizer(text, add_special_tokens=False).input_ids
    return found


def _tokens(member: Member, ids: list[int]) -> str:
    return " ".join(map(repr, member.tokenizer.convert_ids_to_tokens(ids)[:12]))


def _by_id(tokenizer: Any) -> dict[int, str]:
    return {index: token for token, index in tokenizer.get_vocab().items()}


def _end(tokenizer: Any) -> int:
    """Return one more than the largest id: the number of tokens is less where ids have holes."""
    return max(_by_id(tokenizer)) + 1
