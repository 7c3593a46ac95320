"""A real browser, headless, as it lies on the path; without one such tests are left out."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = next((found for name in BROWSERS if (found := shutil.which(name))), None)
MARKS = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason=f"no browser on the path: {', '.join(BROWSERS)}"),
]


@contextlib.contextmanager
def launched() -> Iterator[Any]:
    """Start the browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield started
        started.close()


def serious(page: Any) -> list[tuple[str, str]]:
    """Return what axe-core finds serious or critical on a page, with the first place of each."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response
    assert len(found["passes"]) > 10
    return [
        (one["id"], one["nodes"][0]["html"][:200])
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
    ]


def overflows(page: Any) -> bool:
    """Whether a page is wider than the window."""
    root = "document.documentElement"
    return bool(page.evaluate(f"{root}.scrollWidth > {root}.clientWidth"))
