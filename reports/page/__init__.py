"""The report page: one record in, one HTML file or one Markdown text out. Computes nothing."""

from __future__ import annotations

from eft_eval.reports.page.markdown import report_markdown

__all__ = ["report_markdown"]
