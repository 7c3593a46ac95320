"""Export for spreadsheets: one CSV file to fill in."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eft_eval.agreement.labels.folder import Exported, new_export
from eft_eval.agreement.labels.records import Item
from eft_eval.agreement.labels.scheme import FIELDS
from eft_eval.agreement.labels.texts import to_cell

__all__ = ["EXPORTED_CSV", "export_csv"]

EXPORTED_CSV = "labels.csv"


def export_csv(
    items: Sequence[Item], out: Path | str, *, about: Mapping[str, Any] | None = None
) -> Exported:
    """Write a CSV file to fill in, in the order of the items, and its key.

    The file begins with a byte order mark, by which Excel recognises UTF-8. A text that a
    spreadsheet would take for a formula begins with an apostrophe, which the import takes away.

    Args:
        items: What to label. The judge's verdicts are not written.
        out: A new or empty folder.
        about: What to note in the key, such as run, sample size and seed.

    Raises:
        ConfigError: The items or the folder cannot be used.
    """
    out = Path(out)
    fields = [field.name for field in FIELDS]
    with (
        new_export(items, out, about) as folder,
        (folder / EXPORTED_CSV).open("w", encoding="utf-8-sig", newline="") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(["item_id", "annotator", "question", "response", *fields])
        for item in items:
            texts = [to_cell(item.question), to_cell(item.response)]
            writer.writerow([item.item_id, "", *texts, *[""] * len(fields)])
    options = "/".join(next(field.options for field in FIELDS if field.kind == "choice"))
    step = (
        f"give every annotator a copy of {out / EXPORTED_CSV} under a name of its own; they fill "
        f"in error_count (0, 1, 2, …), has_error ({options}) and notes, and save it as CSV UTF-8"
    )
    return Exported(out, step)
