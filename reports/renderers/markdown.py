"""A document as GitHub Markdown, for a pull request: its tables and texts, without the figures."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from eft_eval.characters import visible
from eft_eval.reports.document import (
    Block,
    Card,
    Cell,
    Facts,
    Page,
    Quote,
    Section,
    Table,
    Texts,
    Trace,
)

__all__ = ["LARGEST", "document_markdown", "page_markdown", "plain", "table_lines"]

LARGEST = 512 * 1024
"""GitHub cuts a step summary off at a mebibyte; half of it leaves room for other steps."""
ROOM = 100_000
"""Characters that the texts of flips may take on such a page."""
_MARKS = {
    "regression": "❌",
    "not comparable": "❌",
    "pass": "✅",
    "inconclusive": "⚠️",
    "plain": "",
}
_LONGEST = 4_000
_FOLDED = ("provenance", "flips", "speed", "traces")


class _Line(NamedTuple):
    """A line; those of a kind, such as metrics, are counted where there is no room for all."""

    text: str
    kind: str = ""


def page_markdown(page: Page, largest: int = LARGEST) -> str:
    """Return less than so many bytes; rows and sections that do not fit are counted and named.

    Headings start at ``###``, as it stands inside a page of others.
    """
    title = f"{page.verdict}: {page.title}" if page.verdict else page.title
    head = [f"### {_MARKS[page.tone]} {plain(title)}".replace("  ", " ")]
    head += ["", *(f"{_short(plain(text))}\n" for text in page.sentences)]
    head += [f"- {_short(plain(note))}" for note in page.notes]
    left = largest - 4_096 - _size(head)
    parts, dropped = ["\n".join(head)], []
    for section in page.sections:
        whole = not section.title  # the only one: what does not fit of it is counted
        text = "\n".join(_fitting(list(_section(section)), left - 1_024 if whole else LARGEST))
        if _size([text]) > left:
            dropped.append(section.title)
            continue
        left -= _size([text])
        parts.append(text)
    if dropped:
        parts.append(f"Left out for want of room: {', '.join(dropped)}; the HTML page has them.\n")
    if page.footer:
        parts.append(f"<sub>{plain(page.footer)}</sub>\n")
    return "\n".join(parts)


def document_markdown(document: Iterable[Block]) -> str:
    """Return blocks as Markdown."""
    lines = [line.text for block in document for line in _block(block)]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n")


def table_lines(table: Table) -> Iterator[str]:
    """Yield the head and the rows of a table."""
    yield f"| {' | '.join(plain(one.head) or ' ' for one in table.columns)} |".replace("   ", " ")
    yield f"|{'|'.join('---:' if one.number else '---' for one in table.columns)}|"
    for row in table.rows:
        yield f"| {' | '.join(_cell(cell) for cell in row)} |"


def plain(text: str) -> str:
    """Return text that Markdown and HTML read as text, in one line, with nothing hidden."""
    text = re.sub(r"\s+", " ", visible(text))
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # a name in a response must notify nobody, and no address becomes a link
    text = (
        re.sub(r"@(?=\w)", "@\u2060", text)
        .replace("://", ":\u2060//")
        .replace("www.", "www\u2060.")
    )
    return re.sub(r"([\\`*\[\]|~#]|(?<!\w)_|_(?!\w))", r"\\\1", text)


def _fitting(lines: list[_Line], room: int) -> Iterator[str]:
    """Yield lines; of a kind that does not fit the rest is counted."""
    room -= sum(_size([line.text]) for line in lines if not line.kind)
    left_out = 0
    for line, after in zip(lines, [*lines[1:], _Line("")], strict=True):
        if line.kind and (left_out or _size([line.text]) > room):
            left_out += 1
        else:
            room -= _size([line.text]) if line.kind else 0
            yield line.text
        if left_out and after.kind != line.kind:
            yield f"\n… and {left_out} more {line.kind}."
            left_out = room = 0


def _size(lines: list[str]) -> int:
    return sum(len(line.encode("utf-8", "backslashreplace")) + 1 for line in lines)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …"


def _section(section: Section) -> Iterator[_Line]:
    if section.title:
        yield _Line(f"\n#### {plain(section.title)}\n\n{plain(section.lead)}\n")
    folded = section.name in _FOLDED
    if folded:
        yield _Line("<details><summary>show</summary>\n")
    for block in section.blocks:
        yield from _block(block)
    if folded:
        yield _Line("</details>\n")


def _block(block: Block) -> Iterator[_Line]:
    if isinstance(block, Table):
        yield from _table(block)
    elif isinstance(block, Texts):
        yield from _texts(block)
    elif isinstance(block, Facts):
        yield _Line(f"\n**{plain(block.title)}**\n")
        for name, value in block.pairs:
            yield _Line(f"- {plain(name)}: {_short(plain(value))}")
        yield _Line("")
    elif isinstance(block, Card):
        yield from map(_Line, _card(block))
    elif isinstance(block, Trace):
        yield _Line(f"**{plain(block.title)}**\n")
        text = "".join(f"{one.text}{one.mark}" for one in block.tokens)
        yield _Line(_quote(Quote(text, block.cut, False)))
        yield from _table(block.table)


def _texts(block: Texts) -> Iterator[_Line]:
    mark = f"{_MARKS[block.tone]} " if block.tone else ""
    texts = [f"{mark}{_short(plain(line))}" for line in block.lines]
    if block.listed:
        yield from (_Line(f"- {text}", "notes") for text in texts)
        yield _Line("")
    else:
        text = "  \n".join(texts)
        yield _Line(f"<sub>{text}</sub>\n" if block.small else f"{text}\n")


def _table(table: Table) -> Iterator[_Line]:
    if table.caption:
        yield _Line(f"\n**{plain(table.caption)}**\n")
    head, rule, *rows = table_lines(table)
    yield from (_Line(head), _Line(rule))
    kind = f"{table.columns[0].head or 'row'}s"
    yield from (_Line(row, kind) for row in rows)
    yield _Line(f"\n<sub>{plain(table.note)}</sub>\n" if table.note else "")


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
