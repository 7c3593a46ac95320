"""Labels in and out: items of a run to annotate with Potato, Label Studio or CSV, and back."""

from __future__ import annotations

from eft_eval.labels.frames import Columns, labels_of_frame
from eft_eval.labels.label_studio import export_label_studio
from eft_eval.labels.meanings import Meanings, read_meanings
from eft_eval.labels.potato import export_potato
from eft_eval.labels.project import Exported
from eft_eval.labels.reading import FileReading, read_labels
from eft_eval.labels.records import Dropped, Item, Label, LabelMatrix, LabelSet, Origin
from eft_eval.labels.responses import Sample, measures_in, read_items, sample_items
from eft_eval.labels.saving import save_labels
from eft_eval.labels.scheme import FIELDS, Field
from eft_eval.labels.tables import export_csv
from eft_eval.labels.texts import clean_text, text_hash

__all__ = [
    "FIELDS",
    "Columns",
    "Dropped",
    "Exported",
    "Field",
    "FileReading",
    "Item",
    "Label",
    "LabelMatrix",
    "LabelSet",
    "Meanings",
    "Origin",
    "Sample",
    "clean_text",
    "export_csv",
    "export_label_studio",
    "export_potato",
    "labels_of_frame",
    "measures_in",
    "read_items",
    "read_labels",
    "read_meanings",
    "sample_items",
    "save_labels",
    "text_hash",
]
