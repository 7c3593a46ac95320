"""A document in the terminal: as wide as that is, and nothing in it is obeyed.

A table that is too wide wraps its words, then its figures between, never within, numbers; and one
that is wider still becomes a paragraph for each row. No figure is ever cut.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterable, Iterator

from rich.cells import cell_len, chop_cells
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from eft_eval.characters import one_line, printable, visible
from eft_eval.reports.document import Cell, Document, Facts, Table, Texts, TokenView, Trace

__all__ = ["document_text", "print_document"]

_TONES = {
    "regression": "bold red",
    "not comparable": "bold red",
    "pass": "green",
    "inconclusive": "yellow",
    "plain": "",
}
_STEPS = ("", "underline", "black on yellow", "bold white on red")  # by a token's distance
_PIPE = 160  # columns where there is no terminal to have any
_NARROWEST = 18  # to which a column of words is wrapped
_FIGURES = "[±<>≈="  # what they begin with
# what is not broken: signs with their numbers, ranges, intervals, percentages, words
_PIECE = re.compile(r"[±<>≈=] \S+|[-+]?\d\S* to \S+|\[[^\]]*\]\S*|\S+(?: %\S*)?")
_PART = re.compile(r".+?(?:[/_,](?=\w)|(?<=[a-z]{2})(?=-)|$)")  # where a long name may be broken


def print_document(document: Document, console: Console | None = None) -> None:
    """Print blocks.

    Args:
        document: What a view returned.
        console: Where to; by default standard output, where a pipe is 160 columns wide or COLUMNS.
    """
    out = console or _console()
    for number, block in enumerate(document):
        if isinstance(block, Table):
            _print_table(out, block, first=number == 0)
        elif isinstance(block, Texts):
            style = "yellow" if block.warn else _TONES[block.tone or "plain"]
            for line in block.lines:
                _print_lines(out, f"! {line}" if block.warn else line, style)
        elif isinstance(block, Facts):
            _print_lines(out, block.title, "bold")
            for name, value in block.pairs:
                _print_lines(out, f"{name}: {value}")
        else:
            _print_trace(out, block)


def document_text(document: Document, width: int = _PIPE) -> str:
    """Return blocks as `print_document` prints them, without colours."""
    out = io.StringIO()
    print_document(document, Console(file=out, width=width))
    return out.getvalue()


def _console() -> Console:
    console = Console()
    if console.is_terminal or os.environ.get("COLUMNS"):
        return console
    return Console(width=_PIPE)


def _print_lines(out: Console, text: str, style: str = "") -> None:
    """Print a paragraph, wrapped, each figure in one line; brackets in it are no markup."""
    lines = _wrapped(one_line(text), out.width, number=True) or [""]
    _print_all(out, [Text(printable(line), style) for line in lines])


def _print_all(out: Console, lines: Iterable[Text]) -> None:
    """Print lines that are no wider than the terminal."""
    out.print(Text("\n").join(lines), no_wrap=True, overflow="ignore")


def _print_table(out: Console, table: Table, *, first: bool) -> None:
    if table.caption:
        if not first:
            out.print()
        _print_lines(out, table.caption, "bold")
    rows = [[_cell_text(cell) for cell in row] for row in table.rows]
    heads = [printable(one_line(column.head)) for column in table.columns]
    widths = _widths(table, heads, rows, out.width)
    if widths is None:
        _print_all(out, _stacked(heads, rows, max(8, out.width)))
    else:
        out.print(_grid(table, heads, rows, widths))
    if table.note:
        _print_lines(out, table.note)


def _cell_text(cell: Cell) -> str:
    return printable(one_line(f"{cell.text} {cell.small}" if cell.small else cell.text))


def _widths(table: Table, heads: list[str], rows: list[list[str]], width: int) -> list[int] | None:
    """Return the columns' widths, wrapped where they must be; None where they cannot fit."""
    room = width - 3 * len(heads) - 1
    wanted, least = [], []
    for place, column in enumerate(table.columns):
        texts = [heads[place], *(row[place] for row in rows)]
        wanted.append(max(map(cell_len, texts)))
        whole = [piece for text in texts for piece in _PIECE.findall(text)]
        if not column.number:  # a long name may be folded, a figure among words may not
            whole = [piece for piece in whole if piece[0] in _FIGURES]
        narrowest = 0 if column.number else _NARROWEST
        least.append(min(wanted[-1], max([narrowest, *map(cell_len, whole)])))
    if sum(least) > room:
        return None
    found = least
    for _ in range(min(room, sum(wanted)) - sum(least)):
        place = max(range(len(found)), key=lambda one: wanted[one] - found[one])
        found[place] += 1
    return found


def _grid(table: Table, heads: list[str], rows: list[list[str]], widths: list[int]) -> Grid:
    wrapped = [
        [
            "\n".join(_wrapped(text, width, column.number))
            for text, width, column in zip(row, widths, table.columns, strict=True)
        ]
        for row in rows
    ]
    grid = Grid(show_lines=any("\n" in text for row in wrapped for text in row))
    for head, width, column in zip(heads, widths, table.columns, strict=True):
        shown = Text("\n".join(_wrapped(head, width, column.number)))
        grid.add_column(
            shown, width=width, no_wrap=True, justify="right" if column.number else "left"
        )
    for row, texts in zip(table.rows, wrapped, strict=True):
        styles = [_TONES[cell.tone or "plain"] for cell in row]
        grid.add_row(*(Text(text, style) for text, style in zip(texts, styles, strict=True)))
    return grid


def _stacked(heads: list[str], rows: list[list[str]], width: int) -> Iterator[Text]:
    """Yield each row as its head, and below it its cells under their columns' names."""
    for head, *cells in rows:
        named = [(name, cell) for name, cell in zip(heads[1:], cells, strict=True) if cell]
        title = " ".join([head, *(cell for name, cell in named if not name)])
        for line in _wrapped(title, width, number=False):
            yield Text(printable(line), "bold")
        pairs = [
            _wrapped(f"{name}: {cell}", width - 2, number=True) for name, cell in named if name
        ]
        parts = [(" " if place else " · ", one) for pair in pairs for place, one in enumerate(pair)]
        for line in _filled(parts, width - 2) if parts else ():
            yield Text(printable(f"  {line}"))


def _wrapped(text: str, width: int, number: bool) -> list[str]:
    """Return lines of a width: broken between pieces, within one only if it is a long word."""
    if cell_len(text) <= width:
        return [text]
    pieces = _PIECE.findall(text)
    parts = [
        (piece,) if number or cell_len(piece) <= width else _PART.findall(piece) for piece in pieces
    ]
    return _filled(
        ((" " if place == 0 else "", part) for each in parts for place, part in enumerate(each)),
        width,
    )


def _filled(parts: Iterable[tuple[str, str]], width: int) -> list[str]:
    """Return lines filled with parts, each after what stands between it and the one before."""
    lines = [""]
    for gap, part in parts:
        joined = f"{lines[-1]}{gap}{part}" if lines[-1] else part
        if cell_len(joined) <= width:
            lines[-1] = joined
        else:
            lines += chop_cells(part, width) if cell_len(part) > width else [part]
    return lines if lines[0] else lines[1:]


def _print_trace(out: Console, block: Trace) -> None:
    _print_lines(out, block.title, "bold")
    for line in visible(block.prompt.text).split("\n"):
        _print_quoted(out, Text(line.replace("\t", "⇥"), style="dim"))
    _print_quoted(out, _tokens(block.tokens))
    for cut in (block.prompt.cut, block.cut):
        if cut:
            _print_lines(out, cut)
    _print_table(out, block.table, first=False)


def _tokens(tokens: Iterable[TokenView]) -> Text:
    text = Text()
    for one in tokens:
        text.append(one_line(one.text) + one.mark, style=_STEPS[one.step])
        if one.breaks:
            text.append("\n")
    return text


def _print_quoted(out: Console, text: Text) -> None:
    """Print somebody's text with a bar before each line, so that it can pass for nothing else."""
    lines = []
    for line in text.wrap(out, out.width - 2) or [Text()]:
        plain = printable(line.plain)
        shown = line if plain == line.plain else Text(plain, line.style)
        lines.append(Text.assemble("│ ", shown))
    _print_all(out, lines)
