"""The tokens that end a model's answers, as its files say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from eft_eval.errors import ConfigError

__all__ = ["configured_ends", "end_tokens"]

_KEY = "eos_token_id"


def configured_ends(written: Mapping[str, Any], config: Any, text_config: Any) -> list[Any]:
    """Return what a ``config.json`` says of ends, for the whole model and its language model.

    What it does not say is none: a configuration class has a number of its own (Llama's is 2)
    that is some other token of most vocabularies.

    Args:
        written: The file's content.
        config: What was made of it.
        text_config: The language model's part of ``config``.
    """
    parts = [
        part
        for name, part in written.items()
        if isinstance(part, Mapping) and getattr(config, name, None) is text_config
    ]
    return [part.get(_KEY) for part in (written, *parts)]


def end_tokens(stated: Iterable[Any], size: int, label: str) -> frozenset[int]:
    """Return the ids that end an answer.

    Args:
        stated: Ids, or lists of ids; None for none.
        size: Number of logits of the model; ids that it cannot give end nothing.
        label: What errors call the member.

    Raises:
        ConfigError: One is no id, or the model can give none of them.
    """
    found: set[int] = set()
    for one in stated:
        try:
            ids = one if isinstance(one, (list, tuple)) else [one]
            found.update(int(token) for token in ids if token is not None)
        except (TypeError, ValueError):
            raise ConfigError(
                f"{label}: its configuration has {_KEY}: {repr(one)[:80]}; expected a token's id "
                "or a list of them"
            ) from None
    ends = frozenset(token for token in found if 0 <= token < size)
    if not ends and (beyond := {token for token in found if token >= size}):
        raise ConfigError(
            f"{label} ends its answers with token {min(beyond)}, but has only {size} logits, so "
            "that they could not end: save it with another eos_token_id"
        )
    return ends
