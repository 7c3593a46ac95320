"""The page as GitHub Markdown, for a pull request: its tables and texts, without the figures."""

from __future__ import annotations

import re
from collections.abc import Iterator

from eft_eval.reporting.report import Report
from eft_eval.reports.document import Block, Card, Cell, Facts, Quote, Section, Table, Texts, Trace
from eft_eval.reports.views.comparison_markdown import LARGEST
from eft_eval.reports.views.report import page_of

__all__ = ["report_markdown"]

_MARKS = {"regression": "❌", "pass": "✅", "inconclusive": "⚠️", "plain": ""}
_ROOM = 100_000  # characters of flips' texts
_LONGEST = 4_000


def report_markdown(report: Report) -> str:
    """Return Markdown of less than 512 KiB; sections that do not fit are named.

    Headings start at ``###``, as it stands inside a page of others.
    """
    page = page_of(report, _ROOM)
    head = [f"### {_MARKS[page.tone]} {plain(f'{page.verdict}: {page.title}')}".replace("  ", " ")]
    head += ["", *(f"{_short(plain(text))}\n" for text in page.sentences)]
    head += [f"- {_short(plain(note))}" for note in page.notes]
    left = LARGEST - 4_096 - _size(head)
    parts, dropped = ["\n".join(head)], []
    for section in page.sections:
        text = "\n".join(_section(section))
        if _size([text]) > left:
            dropped.append(section.title)
            continue
        left -= _size([text])
        parts.append(text)
    if dropped:
        parts.append(f"Left out for want of room: {', '.join(dropped)}; the HTML page has them.\n")
    parts.append(f"<sub>{plain(page.footer)}</sub>\n")
    return "\n".join(parts)


def plain(text: str) -> str:
    """Return text that Markdown and HTML read as text, in one line."""
    text = re.sub(r"\s+", " ", text)
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # a name in a response must notify nobody, and no address becomes a link
    text = (
        re.sub(r"@(?=\w)", "@\u2060", text)
        .replace("://", ":\u2060//")
        .replace("www.", "www\u2060.")
    )
    return re.sub(r"([\\`*\[\]|~#]|(?<!\w)_|_(?!\w))", r"\\\1", text)


def _size(lines: list[str]) -> int:
    return sum(len(line.encode("utf-8", "backslashreplace")) + 1 for line in lines)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …"


def _section(section: Section) -> Iterator[str]:
    yield f"\n#### {plain(section.title)}\n\n{plain(section.lead)}\n"
    folded = section.name in ("provenance", "flips", "speed", "traces")
    if folded:
        yield "<details><summary>show</summary>\n"
    for block in section.blocks:
        yield from _block(block)
    if folded:
        yield "</details>\n"


def _block(block: Block) -> Iterator[str]:
    if isinstance(block, Table):
        yield from _table(block)
    elif isinstance(block, Texts):
        mark = "- " if block.listed else ""
        end = "" if block.listed else "\n"
        yield from (f"{mark}{_short(plain(line))}{end}" for line in block.lines)
        yield ""
    elif isinstance(block, Facts):
        yield f"\n**{plain(block.title)}**\n"
        yield from (f"- {plain(name)}: {_short(plain(value))}" for name, value in block.pairs)
        yield ""
    elif isinstance(block, Card):
        yield from _card(block)
    elif isinstance(block, Trace):
        yield f"**{plain(block.title)}**\n"
        text = "".join(f"{one.text}{one.mark}" for one in block.tokens)
        yield _quote(Quote(text, block.cut, False))
        yield from _table(block.table)


def _table(table: Table) -> Iterator[str]:
    yield f"\n**{plain(table.caption)}**\n"
    yield f"| {' | '.join(plain(one.head) or ' ' for one in table.columns)} |"
    yield f"|{'|'.join('---:' if one.number else '---' for one in table.columns)}|"
    for row in table.rows:
        yield f"| {' | '.join(_cell(cell) for cell in row)} |"
    if table.note:
        yield f"\n<sub>{plain(table.note)}</sub>\n"


def _cell(cell: Cell) -> str:
    mark = f"{_MARKS[cell.tone]} " if cell.tone else ""
    small = f" {plain(cell.small)}" if cell.small else ""
    return f"{mark}{_short(plain(cell.text))}{small}"


def _card(card: Card) -> Iterator[str]:
    mark = {"worse": "▼", "better": "▲", "mixed": "▼▲"}[card.tone]
    yield f"\n**{mark} {plain(card.title)}**\n"
    yield _quote(card.prompt)
    for side in card.sides:
        yield f"{plain(side.title)}:\n"
        for one in side.answers:
            yield _quote(one.response)
            if one.verdict:
                reason = f": {plain(one.reason.text)}" if one.reason else ""
                yield f"{plain(one.verdict)}{reason}\n"
        if side.missing or side.more:
            yield f"{plain(side.missing or side.more)}\n"


def _quote(text: Quote) -> str:
    cut = f" *({plain(text.cut)})*" if text.cut else ""
    return f"> {plain(text.text) or ' '}{cut}\n"
