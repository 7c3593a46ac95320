"""A judge's reasoning, which is left out of its reply in whatever marks it stands."""

from __future__ import annotations

import re

__all__ = ["has_mark", "without_marks", "without_reasoning"]

_WORD = r"(?:think(?:ing)?|thoughts?|reasoning|reflection|scratchpad|working_out)"
_NAME = rf"(?:\w+:|longcat_)?{_WORD}"
_OPENING = (
    rf"<\|?(?:(?:begin|start)_(?:of_)?)?{_NAME}(?:_(?:start|begin))?\|?>"
    r"|\[THINK\]|◁think▷|<\|inner_prefix\|>|<unused94>|<\|channel>thought"
)
_CLOSING = (
    rf"<\|?/{_NAME}\|?>|<\|?end_(?:of_)?{_NAME}\|?>|<\|?{_NAME}_end\|?>"
    r"|\[/THINK\]|◁/think▷|<\|inner_suffix\|>|<unused95>|<channel\|>"
)
_MARK = re.compile(rf"(?P<opening>{_OPENING})|(?P<closing>{_CLOSING})", re.IGNORECASE)
_CHANNEL = re.compile(
    r"<\|channel\|>\s*(?P<name>\w+)[^<]{0,200}(?:<\|constrain\|>\w*)?<\|message\|>"
)
_CHANNEL_END = re.compile(r"<\|(?:end|return|call|start)\|>")
_BARE_CHANNELS = re.compile(r"\s*analysis(?=[^a-z])|\s*analysis(?=[A-Z])")
_BARE_FINAL = "assistantfinal"
_PROCESS = re.compile(r"\s*here(?:'s| is) my thought process\s*:", re.IGNORECASE)
_RESPONSE = re.compile(r"^\s*here(?:'s| is) my response\s*:", re.IGNORECASE | re.MULTILINE)


def without_reasoning(text: str) -> str | None:
    """Return a reply without its reasoning; None for reasoning that never ends.

    A mark that opens reasoning counts where it begins a line or is closed later; inside of a
    sentence it is a word about it. What stands before a closing mark alone is reasoning.
    """
    if _CHANNEL.search(text):
        return _final_channel(text)
    if _BARE_CHANNELS.match(text) and _BARE_FINAL in text:
        return text.rpartition(_BARE_FINAL)[2]
    if _PROCESS.match(text):
        found = _RESPONSE.search(text)
        return text[found.end() :] if found else None
    kept: list[str] = []
    open_at: list[int] = []
    start = 0
    for mark in _MARK.finditer(text):
        if mark["opening"]:
            if not open_at:
                kept.append(text[start : mark.start()])
                start = mark.start()
            open_at.append(mark.start())
        elif open_at:
            open_at.clear()  # thoughts do not nest: one that names the opening mark is one still
            start = mark.end()
        else:
            kept.clear()
            start = mark.end()
    if open_at and any(_begins_a_line(text, place) for place in open_at):
        return None
    return "".join([*kept, text[start:]])


def has_mark(text: str) -> bool:
    """Whether a text names any mark of thoughts."""
    bare = _BARE_FINAL in text or _RESPONSE.search(text)
    return bool(_MARK.search(text) or _CHANNEL.search(text) or bare)


def without_marks(text: str) -> str:
    """Return a text with the marks alone left out, each in a line of its own before."""
    text = _CHANNEL.sub("\n", _MARK.sub("\n", text)).replace(_BARE_FINAL, "\n")
    return _RESPONSE.sub("\n", text)


def _final_channel(text: str) -> str | None:
    """Return what the channel ``final`` holds, of a reply in OpenAI's harmony format."""
    channels = [*_CHANNEL.finditer(text)]
    if channels[-1]["name"] != "final":
        return None
    answer = text[channels[-1].end() :]
    ended = _CHANNEL_END.search(answer)
    return answer[: ended.start()] if ended else answer


def _begins_a_line(text: str, place: int) -> bool:
    return not text[text.rfind("\n", 0, place) + 1 : place].strip()
