"""What an import of labels found, and what it could not use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from eft_eval.labels.records import LabelSet
from eft_eval.reports.document import Document, Table, Texts, cells, columns

__all__ = ["dropped_lines", "labels"]

_MOST_ROWS = 20


def labels(found: LabelSet, files: Sequence[Path]) -> Document:
    """Return the labels by field and annotator, and every row that could not be used.

    Args:
        found: The labels.
        files: The files that they were written to, the rows not used in the last one.
    """
    number = Counter((one.field, one.annotator) for one in found.labels)
    rows = tuple(
        cells(
            f"{name} (judge)" if name == found.judge else name,
            *(str(number[field, name]) for field in found.fields),
        )
        for name in found.annotators
    )
    caption = f"{len(found.labels)} labels of {len(found.item_ids)} items"
    lines = dropped_lines(found.drop_counts(), found.remarks)
    for one in found.dropped[:_MOST_ROWS]:
        lines.append(f"  {one.where}: {one.reason}{f' ({one.detail})' if one.detail else ''}")
    if len(found.dropped) > _MOST_ROWS:
        rest = len(found.dropped) - _MOST_ROWS
        lines.append(f"  … and {rest} more{f', all in {files[-1]}' if files else ''}")
    if files:
        lines.append(f"written: {', '.join(map(str, files))}")
    heads = columns("annotator", numbers=tuple(found.fields))
    return Table(caption, heads, rows), Texts(tuple(lines))


def dropped_lines(dropped: Mapping[str, int], remarks: Iterable[str]) -> list[str]:
    """Return the lines that say which rows of label files gave no label."""
    lines = [f"rows not used: {count} × {reason}" for reason, count in dropped.items()]
    return lines + [f"note: {text}" for text in dict.fromkeys(remarks)]
