"""How a tokenizer reads texts: what it puts around them, and the same text always alike."""

from __future__ import annotations

from typing import Any, NamedTuple

from eft_eval.streams import logger

__all__ = ["Frame", "frame_of", "without_chance"]

log = logger("eft_eval")

_SAMPLES = ("a", "0", "A", ".")
"""Texts of which most tokenizers know one."""


class Frame(NamedTuple):
    """Special tokens around a text.

    Attributes:
        before: Ids put before it: mostly the beginning of sequence, GLM's ``[gMASK]<sop>``.
        after: Ids put after it, as trainers' tokenizers do.
    """

    before: tuple[int, ...]
    after: tuple[int, ...]


def frame_of(tokenizer: Any) -> Frame:
    """Return what a tokenizer puts around texts."""
    for text in _SAMPLES:
        plain: list[int] = tokenizer(text, add_special_tokens=False).input_ids
        whole: list[int] = tokenizer(text, add_special_tokens=True).input_ids
        for start in range(len(whole) - len(plain) + 1 if plain else 0):
            if whole[start : (end := start + len(plain))] == plain:
                return Frame(tuple(whole[:start]), tuple(whole[end:]))
    around: list[int] = tokenizer("", add_special_tokens=True).input_ids
    end = tokenizer.eos_token_id
    ends = around[-1:] == [end] and (len(around) > 1 or end != tokenizer.bos_token_id)
    return Frame(tuple(around[:-1]), (end,)) if ends else Frame(tuple(around), ())


def without_chance(tokenizer: Any, label: str) -> Any:
    """Return a tokenizer that reads a text always alike; merges left out by chance are training's.

    Args:
        tokenizer: Of transformers.
        label: What the warning calls its member.
    """
    model: Any = getattr(getattr(tokenizer, "backend_tokenizer", None), "model", None)
    if getattr(model, "dropout", None):
        log.warning(
            "%s: its tokenizer.json leaves out merges by chance (dropout %g), as in training: all "
            "merges are made here", label, model.dropout,
        )  # fmt: skip
        model.dropout = None
    return tokenizer
