"""The exceptions of eft-eval."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from eft_eval.secrets import without_credentials

__all__ = [
    "ClaimError",
    "ComparabilityError",
    "ConfigError",
    "EftEvalError",
    "nearest",
]


class EftEvalError(Exception):
    """Base class of every error that eft-eval raises on purpose; its words hold no credentials."""

    def __init__(self, *words: object) -> None:
        super().__init__(*map(without_credentials, words))


class ConfigError(EftEvalError):
    """The user can fix this: a setting, a file, a model or an endpoint is wrong."""


class ComparabilityError(EftEvalError):
    """Two runs, or two scores, must not be compared with each other."""


class ClaimError(EftEvalError):
    """A figure of a run must not be claimed, or not in the form that was asked for."""


def nearest(given: str, known: Iterable[str]) -> str:
    """Return ``" (did you mean 'x'?)"`` for the known word closest to ``given``, else ``""``."""
    close = difflib.get_close_matches(given, list(known), n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""
