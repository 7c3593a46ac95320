"""What `python -m docs.generate` writes is what is committed, and every page can be found."""

from __future__ import annotations

import importlib
import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [
    ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md")),
    *sorted(DOCS.glob("reference/*.md")),
]  # fmt: skip


def test_the_references_and_figures_are_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, str(ROOT)])  # last: the installed package counts
    made = importlib.import_module("docs.generate.__main__").generated()
    assert len(made) == 4
    stale = [path.name for path, text in made.items() if path.read_text("utf-8") != text]
    assert not stale, f"{stale} differ: run `python -m docs.generate` and commit what it writes"


def test_the_figure_shows_what_the_scaling_study_found() -> None:
    svg = (DOCS / "figures" / "scaling.svg").read_text("utf-8")
    found = json.loads((DOCS / "study" / "scaling" / "results.json").read_text("utf-8"))
    improvements = {one["metric"]: one["improvements"] for one in found["carried_over"]}
    for metric, title in (
        ("demo_fact/fact_errors,exact", "fewer factual errors"),
        ("demo_help/helpfulness,exact", "more helpfulness"),
    ):
        for arm in ("up-scaled", "down-scaled"):
            one = improvements[metric][arm]
            shown = f"{one['estimate']:.2f} [{one['lower']:.2f}, {one['upper']:.2f}]"
            assert f"{title}, {arm}: {shown}" in svg
            assert f">{shown.replace('-', '−')}</text>" in svg
            assert shown.replace("[", "\\[").replace("]", "\\]") in (
                DOCS / "study" / "scaling" / "summary.md"
            ).read_text("utf-8")


def test_the_reference_names_every_command_and_public_name() -> None:
    import eft_eval

    commands = (DOCS / "reference" / "cli.md").read_text("utf-8")
    for name in ("judge", "labels export", "agree plan", "gold import", "compare", "demo train"):
        assert f"## `eft-eval {name}`\n" in commands
    assert not re.search(r"^\* `[a-z]+`: .*\.\.\.$", commands, re.M), "short helps are whole"
    names = (DOCS / "reference" / "api.md").read_text("utf-8")
    for name in set(eft_eval.__all__) - {"__version__"}:
        assert f"### eft_eval.{name}\n" in names
    assert "\nComposite.load(\n" in names, "inherited methods are there"


def test_the_index_lists_every_page_once() -> None:
    text = (DOCS / "index.md").read_text("utf-8")
    listed = re.findall(r"^\| \[[^]]+\]\(([^)#]+)\) \|", text, re.M)
    pages = {str(path.relative_to(DOCS)) for path in PAGES if DOCS in path.parents}
    assert sorted(listed) == sorted(pages - {"index.md"})


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text("utf-8"), flags=re.S)
    links = re.findall(
        r"\]\((?!https?:|mailto:)([^)\s]+)\)|(?:src|href)=\"(?!http)([^\"]+)\"", text
    )
    for link in (one or other for one, other in links):
        file, _, anchor = link.partition("#")
        target = page if not file else (page.parent / file).resolve()
        assert target.exists(), f"{page.name}: {link}"
        if anchor:
            heads = re.findall(r"^#+ (.*)$", target.read_text("utf-8"), re.M)
            slugs = {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in heads}
            assert anchor in slugs, f"{page.name}: {link}"
