"""Figures as files of their own, SVG and PNG."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from eft_eval.errors import ConfigError
from eft_eval.reports.document import Figure, Page
from eft_eval.reports.renderers.html.figures import draw, png

__all__ = ["FigureFile", "figure_files"]


class FigureFile(NamedTuple):
    """A panel as two files.

    Attributes:
        name: Without a suffix.
        caption: What it shows, in words.
        svg: The drawing.
        png: The same as pixels, on white.
    """

    name: str
    caption: str
    svg: str
    png: bytes


def figure_files(page: Page) -> Iterator[FigureFile]:
    """Yield every panel of a page's figures; nothing where what draws them is not installed.

    The same page gives the same bytes.
    """
    for section in page.sections:
        for block in section.blocks:
            if not isinstance(block, Figure):
                continue
            try:
                drawn = draw(block)
            except ConfigError:  # the page says what to install
                return
            for one in drawn:
                name = one.name.removeprefix("figure-")
                yield FigureFile(name, one.text, one.svg + "\n", png(one))
