"""Writes docs/reference and docs/figures anew: ``python -m docs.generate``, in a checkout.

Needs the extra ``test``. A test fails where a written file differs from what this writes.
"""

from __future__ import annotations

from pathlib import Path

from docs.generate.api import api_reference
from docs.generate.cli import cli_reference
from docs.generate.figure import normalised_improvement
from docs.generate.plans import plan_table

DOCS = Path(__file__).parents[1]


def generated() -> dict[Path, str]:
    """Return what each generated file holds."""
    return {
        DOCS / "reference" / "cli.md": cli_reference(),
        DOCS / "reference" / "api.md": api_reference(DOCS.parent),
        DOCS / "reference" / "plans.md": plan_table(),
        DOCS / "figures" / "scaling.svg": normalised_improvement(
            DOCS / "study" / "scaling" / "results.json"
        ),
    }


if __name__ == "__main__":
    for path, text in generated().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(DOCS.parent))
