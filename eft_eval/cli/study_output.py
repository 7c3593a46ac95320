"""What a study writes when its runs are made: JSON, figures, Markdown and the page."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eft_eval.streams import say

if TYPE_CHECKING:
    from eft_eval.reports.document import Page

__all__ = ["write_outputs"]


def write_outputs(folder: Path, page: Page, record: Mapping[str, Any]) -> None:
    """Write results into a folder, and say what was found.

    Args:
        folder: Where.
        page: What is shown.
        record: The same as JSON data.
    """
    from eft_eval.files import make_folder, write_json, write_lines, write_whole
    from eft_eval.reports.renderers.html.figure_files import figure_files
    from eft_eval.reports.renderers.html.html import page_html
    from eft_eval.reports.renderers.markdown import page_markdown

    write_json(folder / "results.json", dict(record))
    lines = [page_markdown(page)]
    drawn = list(figure_files(page))
    for one in drawn:
        make_folder(folder / "figures")
        path = folder / "figures" / one.name
        write_lines(path.with_suffix(".svg"), [one.svg])
        write_whole(path.with_suffix(".png"), partial(Path.write_bytes, data=one.png))
        lines.append(f"\n![{one.name}](figures/{one.name}.svg)\n")
    write_lines(folder / "summary.md", lines)
    if drawn:
        write_lines(folder / "report.html", [page_html(page)])
    for sentence in page.sentences:
        say(sentence)
    what = "summary.md, results.json" + (", figures and report.html" if drawn else "")
    say(f"written: {what} in {folder}", sys.stderr)
    if not drawn and page.sections:
        say('figures and report.html need: pip install "eft-eval[report]"', sys.stderr)
