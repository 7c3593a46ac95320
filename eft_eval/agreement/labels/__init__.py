"""Labels in and out: items of a run to annotate with Potato, Label Studio or CSV, and back."""

from __future__ import annotations

from eft_eval.agreement.labels.export_csv import export_csv
from eft_eval.agreement.labels.export_label_studio import export_label_studio
from eft_eval.agreement.labels.export_potato import export_potato
from eft_eval.agreement.labels.folder import Exported
from eft_eval.agreement.labels.frames import labels_of_frame
from eft_eval.agreement.labels.reading import read_labels
from eft_eval.agreement.labels.records import (
    Dropped,
    Item,
    Label,
    LabelMatrix,
    LabelSet,
    Origin,
)
from eft_eval.agreement.labels.samples import Sample, measures_in, read_items, sample_items
from eft_eval.agreement.labels.saving import save_labels
from eft_eval.agreement.labels.scheme import FIELDS, Field
from eft_eval.agreement.labels.texts import clean_text, text_hash

__all__ = [
    "FIELDS",
    "Dropped",
    "Exported",
    "Field",
    "Item",
    "Label",
    "LabelMatrix",
    "LabelSet",
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
    "sample_items",
    "save_labels",
    "text_hash",
]
