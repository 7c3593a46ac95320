"""The whole page from the record of a report."""

from __future__ import annotations

from eft_eval.reporting.report import Report
from eft_eval.reports.document import Page
from eft_eval.reports.views import scores as overview
from eft_eval.reports.views.agreement import agreement_section
from eft_eval.reports.views.comparison import run_label
from eft_eval.reports.views.flips import ROOM, flips
from eft_eval.reports.views.frontiers import frontiers
from eft_eval.reports.views.provenance import provenance, speed
from eft_eval.reports.views.traces import traces

__all__ = ["page_of"]


def page_of(report: Report, room: int = ROOM) -> Page:
    """Return the page: of a gate the verdict comes first, of a study its arms and frontiers.

    Args:
        report: The record.
        room: Characters that the texts of flips may take in all.
    """
    tone, verdict, sentences = overview.verdict_of(report)
    compared = (overview.differences(report), overview.scores(report))
    study = (overview.improvements(report), frontiers(report))
    sections = (
        *((*compared, *study) if report.gate else (*study, *reversed(compared))),
        traces(report),
        flips(report, room),
        agreement_section(report),
        speed(report),
        provenance(report),
    )
    notes = list(report.notes)
    if len(report.runs) > 1:
        notes.insert(0, f"Baseline: {run_label(report.runs[0].name)}")
    else:
        model = report.runs[0].name.model
        notes.insert(0, f"One run of {model}: its figures, compared with nothing.")
    return Page(
        title=report.title,
        tone=tone,
        verdict=verdict,
        sentences=sentences,
        notes=tuple(notes),
        sections=tuple(one for one in sections if one is not None),
        footer=f"Made by eft-eval {report.version}, from files alone.",
    )
