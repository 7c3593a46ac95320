"""Characters of other people's texts that would not be seen, or would be obeyed, drawn instead."""

from __future__ import annotations

import re
import unicodedata

__all__ = ["HALF_CHARACTER", "in_json", "one_line", "printable", "shortened", "visible"]

HALF_CHARACTER = re.compile("[\ud800-\udfff]")
"""A lone surrogate, which no file in UTF-8 can hold."""

_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028\u2029\u202a-\u202e\u2060\u2066-\u2069\ufeff"
    "\ufff9-\ufffb\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]"
)
# what CI systems obey: "::name" at the start of a line; "##[name]", "##vso[" and the like anywhere
_COMMAND = re.compile(r"^(\s*):(?=:)|#(?=#\w*\[)", re.MULTILINE)


def visible(text: str) -> str:
    """Return text with control characters, bidirectional overrides and lone surrogates spelt out.

    Tabs and line ends stay. A page that shows such characters as they are could be made to read
    otherwise than it is.
    """
    return _UNSEEN.sub(_name, text.replace("\r\n", "\n"))


def one_line(text: str) -> str:
    """Return text in which nothing is hidden and which cannot pass for several lines."""
    return visible(text).replace("\n", "⏎").replace("\t", "⇥")


def shortened(text: str, most: int = 4000) -> str:
    """Return a text, the middle of one that is too long to be read left out."""
    return text if len(text) <= most else f"{text[: most * 3 // 4]} […] {text[-most // 4 :]}"


def printable(text: str) -> str:
    """Return lines that no CI system takes for a command; the colons or hashes stand apart."""
    return _COMMAND.sub(lambda match: f"{match[0]} ", text)


def in_json(text: str) -> str:
    """Return JSON in which what `visible` draws is escaped: the same values, nothing obeyed."""
    spelt = _UNSEEN.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
    return spelt.replace("##", "\\u0023#")


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
