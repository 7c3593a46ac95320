"""The forms a comparison can take: all are projections of one record and compute nothing."""

from __future__ import annotations

import io
import json
from collections.abc import Callable

from rich.console import Console

from eft_eval.comparing.comparison import Comparison
from eft_eval.reports.ci.github import comparison_github
from eft_eval.reports.ci.junit import comparison_junit
from eft_eval.reports.views.comparison_markdown import comparison_markdown
from eft_eval.reports.views.comparison_text import print_comparison

__all__ = ["FORMS"]


def _json(comparison: Comparison) -> str:
    return json.dumps(comparison.to_dict(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _text(comparison: Comparison) -> str:
    out = io.StringIO()
    print_comparison(comparison, Console(file=out, width=160))
    return out.getvalue()


FORMS: dict[str, Callable[[Comparison], str]] = {
    "text": _text,
    "json": _json,
    "markdown": comparison_markdown,
    "junit": comparison_junit,
    "github": comparison_github,
}
"""From the name of a form to the function that gives it as text."""
