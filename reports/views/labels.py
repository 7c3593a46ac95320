"""What an import of labels found, and what it could not use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from eft_eval.labels.records import LabelSet
from eft_eval.reports.views.numbers import counts, dropped_lines, say, show
from eft_eval.reports.views.recipes import make_console

__all__ = ["print_labels"]

_MOST_ROWS = 20


def print_labels(labels: LabelSet, files: Sequence[Path], console: Console | None = None) -> None:
    """Print the labels by field and annotator, and every row that could not be used.

    Args:
        labels: The labels.
        files: The files that they were written to, the rows not used in the last one.
        console: Where to; the terminal by default.
    """
    out = console or make_console()
    number = Counter((one.field, one.annotator) for one in labels.labels)
    table = counts(["annotator"], labels.fields)
    for name in labels.annotators:
        shown = f"{name} (judge)" if name == labels.judge else name
        table.add_row(Text(shown), *(str(number[field, name]) for field in labels.fields))
    show(out, f"{len(labels.labels)} labels of {len(labels.item_ids)} items", table)
    for line in dropped_lines(labels.drop_counts(), labels.remarks):
        say(out, line)
    for one in labels.dropped[:_MOST_ROWS]:
        say(out, f"  {one.where}: {one.reason}{f' ({one.detail})' if one.detail else ''}")
    if len(labels.dropped) > _MOST_ROWS:
        rest = len(labels.dropped) - _MOST_ROWS
        say(out, f"  … and {rest} more{f', all in {files[-1]}' if files else ''}")
    if files:
        say(out, f"written: {', '.join(map(str, files))}")
