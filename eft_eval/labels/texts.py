"""Texts as people see them: one canonical form, its hash, and safe cells for spreadsheets."""

from __future__ import annotations

import hashlib
import html
import json
import re

__all__ = ["clean_text", "flat_text", "from_cell", "text_hash", "to_cell"]

_INVISIBLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
# what a spreadsheet takes for the start of a formula, full-width forms and white space included
_FORMULA = r"(\t|\r|\s*[=+\-@＝＋－＠])"
_NEEDS_QUOTE = re.compile(f"'*{_FORMULA}")
_HAS_QUOTE = re.compile(f"'+{_FORMULA}")


def clean_text(text: str) -> str:
    """Return a text as it is shown, stored in files and hashed.

    Line ends are LF, white space around the text goes, control characters become visible and half
    surrogate pairs become U+FFFD. Cleaning twice changes nothing.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _INVISIBLE.sub(_visible, text).strip()


def _visible(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x20:
        return chr(0x2400 + code)  # ␀, ␁, …: the control pictures
    return "␡" if code == 0x7F else "�"


def text_hash(question: str, response: str) -> str:
    """Return the hash (SHA-256, hex) of a question with its response, both cleaned."""
    pair = json.dumps([clean_text(question), clean_text(response)], ensure_ascii=True)
    return hashlib.sha256(pair.encode("ascii")).hexdigest()


def to_cell(text: str) -> str:
    """Return a text for a spreadsheet's cell: never a formula. `from_cell` undoes it exactly."""
    return f"'{text}" if _NEEDS_QUOTE.match(text) else text


def from_cell(cell: str) -> str:
    """Return the text that `to_cell` made safe."""
    return cell[1:] if _HAS_QUOTE.match(cell) else cell


def flat_text(page: str) -> str:
    """Return the bare words of a page or text: no tags, entities or white space but one blank."""
    untagged = re.sub(r"<[^<>]*>", " ", page)
    return " ".join(html.unescape(untagged).split())
