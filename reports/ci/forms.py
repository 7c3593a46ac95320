"""The forms a comparison can take: all are projections of one record and compute nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from eft_eval.characters import in_json
from eft_eval.comparing.comparison import Comparison
from eft_eval.reports.ci.github import comparison_github
from eft_eval.reports.ci.junit import comparison_junit
from eft_eval.reports.renderers.markdown import LARGEST, page_markdown
from eft_eval.reports.renderers.terminal import document_text
from eft_eval.reports.views.comparison import candidate_pages, comparison
from eft_eval.statistics.rounding import rounded

__all__ = ["FORMS"]


def _text(found: Comparison) -> str:
    return document_text(comparison(found))


def _json(found: Comparison) -> str:
    content = _as_held(found.to_dict())
    return f"{in_json(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False))}\n"


def _as_held(value: Any) -> Any:
    """Return what JSON holds, its numbers as files hold them."""
    if isinstance(value, dict):
        return {name: _as_held(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_as_held(one) for one in value]
    return rounded(value) if isinstance(value, float) else value


def _markdown(found: Comparison) -> str:
    pages = candidate_pages(found)
    return "\n".join(page_markdown(page, LARGEST // len(pages)) for page in pages)


FORMS: dict[str, Callable[[Comparison], str]] = {
    "text": _text,
    "json": _json,
    "markdown": _markdown,
    "junit": comparison_junit,
    "github": comparison_github,
}
"""From the name of a form to the function that gives it as text."""
