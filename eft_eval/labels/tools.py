"""The labelling tools, by their names on the command line: a new one is a file and a line here."""

from __future__ import annotations

from eft_eval.labels import argilla, label_studio, potato, prodigy, tables
from eft_eval.labels.project import Tool

__all__ = ["TOOLS"]

TOOLS: dict[str, Tool] = {
    "potato": potato.TOOL,
    "label-studio": label_studio.TOOL,
    "argilla": argilla.TOOL,
    "prodigy": prodigy.TOOL,
    "csv": tables.TOOL,  # last: takes every table with item ids
}
