"""Other people's texts as far as they are shown."""

from __future__ import annotations

from eft_eval.reports.document import Quote

__all__ = ["prompt_quote", "quote"]

FOLDED = 700
"""Characters from which on a text is folded away at first."""


def quote(text: str, characters: int, longest: int) -> Quote:
    """Return a text as far as it is shown.

    Args:
        text: Its beginning.
        characters: Its whole length.
        longest: Characters that are shown at most.
    """
    shown = text[:longest]
    cut = ""
    if characters > min(longest, len(text)):
        cut = f"cut: the first {min(longest, len(text)):,} of {characters:,} characters"
    return Quote(shown, cut, len(shown) > FOLDED or shown.count("\n") > 14)


def prompt_quote(text: str, characters: int, longest: int) -> Quote:
    """Return a prompt as `quote` does, without the empty lines around it."""
    inner = text.strip("\n")
    return quote(inner, characters - (len(text) - len(inner)), longest)
