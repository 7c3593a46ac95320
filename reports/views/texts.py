"""Other people's texts made fit to be shown: nothing invisible, nothing that turns the page."""

from __future__ import annotations

import re
import unicodedata

from eft_eval.reports.document import Quote

__all__ = ["prompt_quote", "quote", "visible"]

FOLDED = 700
"""Characters from which on a text is folded away at first."""

_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028\u2029\u202a-\u202e\u2060\u2066-\u2069\ufeff"
    "\ufff9-\ufffb\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]"
)


def visible(text: str) -> str:
    """Return text with control characters, bidirectional overrides and lone surrogates spelt out.

    Tabs and line ends stay. A page that shows such characters as they are could be made to read
    otherwise than it is.
    """
    return _UNSEEN.sub(_name, text.replace("\r\n", "\n"))


def quote(text: str, characters: int, longest: int) -> Quote:
    """Return a text as far as it is shown.

    Args:
        text: Its beginning.
        characters: Its whole length.
        longest: Characters that are shown at most.
    """
    shown = visible(text[:longest])
    cut = ""
    if characters > min(longest, len(text)):
        cut = f"cut: the first {min(longest, len(text)):,} of {characters:,} characters"
    return Quote(shown, cut, len(shown) > FOLDED or shown.count("\n") > 14)


def prompt_quote(text: str, characters: int, longest: int) -> Quote:
    """Return a prompt as `quote` does, without the empty lines around it."""
    inner = text.strip("\n")
    return quote(inner, characters - (len(text) - len(inner)), longest)


def _name(match: re.Match[str]) -> str:
    character = match[0]
    number = ord(character)
    if number < 0x20:
        return chr(0x2400 + number)  # its picture
    if number == 0x7F:
        return "\u2421"
    if 0xD800 <= number <= 0xDFFF:
        return "\ufffd"
    short = "".join(word[0] for word in unicodedata.name(character, "").split())
    return f"⟨U+{number:04X}{f' {short}' if short else ''}⟩"
