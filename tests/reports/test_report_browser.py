"""The page in a real browser, headless: nothing loaded, keyboard, axe-core, dark, narrow, print."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chromium import MARKS, launched, overflows, serious
from reported_runs import HOSTILE, composite, study, trace_record, write_arm
from typer.testing import CliRunner

from eft_eval.cli.app import app

pytestmark = MARKS
FORMS = {"": [], "-interactive": ["--interactive"], "-gate": ["--gate"]}
WORDS = ["Hello", " the", "re", "\n", "friend", "."]
DISTANCES = [0.6, 0.3, 0.1, 0.0, 0.9, 0.2]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launched() as started:
        yield started


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A study with traces, the same interactive, one of hostile texts, and a frontier."""
    folder = tmp_path_factory.mktemp("pages")
    found = {}
    for name, texts, tokens in (
        ("plain", ("A fine answer.",), WORDS),
        ("hostile", HOSTILE, HOSTILE),
    ):
        traced = folder / f"{name}.json"
        distances = (DISTANCES * 2)[: len(tokens)]
        traced.write_text(json.dumps(trace_record(tokens, distances)))
        paths = study(folder / name, 40, texts)
        for form, options in FORMS.items():
            out = folder / f"{name}{form}.html"
            words = ["report", *paths, "--out", str(out), "--trace", str(traced), *options]
            done = CliRunner().invoke(app, words)
            assert done.exit_code == 0, done.exception
            found[f"{name}{form}"] = out
    runs = []
    for base in ("large-base", "large-other"):
        for number, alpha in enumerate((0.0, 0.5, 1.0)):
            config = composite(
                base, ("small-a", "small-base", alpha), ("small-b", "small-base", 1 - alpha)
            )
            errors = [float((i * (number + 1 + len(base))) % 3) for i in range(30)]
            runs.append(str(write_arm(folder / f"{base}-{alpha}", config, errors)))
    out = folder / "frontier.html"
    done = CliRunner().invoke(app, ["report", *runs, "--out", str(out)])
    assert done.exit_code == 0, done.exception
    return {**found, "frontier": out}


class Visit:
    """An open page, with everything it said and asked for."""

    def __init__(self, browser: Any, file: Path, **options: Any) -> None:
        self.context = browser.new_context(reduced_motion="reduce", **options)
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", lambda dialog: self.said.append(dialog.message))
        self.context.route("**/*", self._route)
        self.page.goto(file.as_uri())

    def _route(self, route: Any) -> None:
        self.asked.append(route.request.url)
        if route.request.url.startswith("file:"):
            route.continue_()
        else:
            route.abort()

    def __enter__(self) -> Visit:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()


NAMES = ("plain", "hostile", "plain-gate", "plain-interactive", "hostile-interactive", "frontier")


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_said_and_nothing_is_asked_for(
    browser: Any, pages: dict[str, Path], name: str
) -> None:
    with Visit(browser, pages[name]) as visit:
        if name.endswith("interactive"):
            drawn = "[...document.querySelectorAll('.panel')].every(p => p.querySelector('.marks'))"
            visit.page.wait_for_function(drawn)
        visit.page.wait_for_timeout(300)
        assert visit.said == []
        assert visit.asked == [pages[name].as_uri()]
        assert visit.page.locator("h1").count() == 1
        assert visit.page.locator(".panel svg").count() >= 4


def test_the_policy_stops_a_script_that_got_in_all_the_same(
    browser: Any, pages: dict[str, Path], tmp_path: Path
) -> None:
    text = pages["plain"].read_text("utf-8")
    broken = tmp_path / "broken.html"
    added = "<script>alert(1)</script><img src='https://example.org/x.png' onerror='alert(2)'>"
    broken.write_text(text.replace("</body>", f"{added}</body>"), "utf-8")
    with Visit(browser, broken) as visit:
        visit.page.wait_for_timeout(300)
        assert "1" not in visit.said
        assert "2" not in visit.said
        assert any("Content Security Policy" in one for one in visit.said)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", NAMES)
def test_axe_finds_nothing_serious(
    browser: Any, pages: dict[str, Path], name: str, scheme: str
) -> None:
    with Visit(browser, pages[name], color_scheme=scheme) as visit:
        visit.page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        visit.page.locator(".token").first.focus() if name.startswith(("plain", "host")) else None
        if name.endswith("interactive"):
            visit.page.wait_for_timeout(1500)
        assert serious(visit.page) == []


def test_the_figures_are_readable_in_both_schemes(browser: Any, pages: dict[str, Path]) -> None:
    """Colours in SVG are not axe's business: their contrast is computed here (WCAG 1.4.11)."""
    program = """() => {
      const light = (c) => {
        const [r, g, b] = c.match(/[\\d.]+/g).map(Number).map(v => v / 255)
          .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
      };
      const paper = light(getComputedStyle(document.body).backgroundColor);
      const ratio = (c) => {
        const own = light(c);
        return (Math.max(own, paper) + 0.05) / (Math.min(own, paper) + 0.05);
      };
      const texts = [...document.querySelectorAll('svg text')].map(e => getComputedStyle(e).fill);
      const marks = [...document.querySelectorAll('svg .mark-symbol path')]
        .map(e => getComputedStyle(e).stroke);
      return [Math.min(...texts.map(ratio)), Math.min(...marks.map(ratio)), texts.length];
    }"""
    for scheme in ("light", "dark"):
        with Visit(browser, pages["plain"], color_scheme=scheme) as visit:
            texts, marks, count = visit.page.evaluate(program)
            assert count > 20
            assert texts >= 4.5, scheme
            assert marks >= 3, scheme


def test_a_keyboard_reaches_every_token(browser: Any, pages: dict[str, Path]) -> None:
    with Visit(browser, pages["plain"]) as visit:
        page = visit.page
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.classList.contains('token')"):
                break
        details = page.locator(".token-details")
        assert details.is_visible()
        assert "“Hello”" in details.inner_text()
        assert "0.600" in details.inner_text()
        seen = []
        for _ in WORDS:
            seen.append(details.locator("strong").inner_text())
            page.keyboard.press("ArrowRight")
        assert seen == ["“Hello”", "“ the”", "“re”", "“⏎”", "“friend”", "“.”"]
        page.keyboard.press("Home")
        assert details.locator("strong").inner_text() == "“Hello”"
        page.keyboard.press("End")
        assert details.locator("strong").inner_text() == "“.”"
        page.keyboard.press("Tab")  # one stop for the whole trace
        assert not page.evaluate("document.activeElement.classList.contains('token')")
        page.locator(".token").nth(1).hover()
        assert details.locator("strong").inner_text() == "“ the”"


def test_tokens_are_not_told_by_colour_alone(browser: Any, pages: dict[str, Path]) -> None:
    with Visit(browser, pages["plain"]) as visit:
        tokens = visit.page.locator(".token")
        assert tokens.nth(0).inner_text() == "Hello▲"
        assert tokens.nth(1).inner_text() == " the△"
        lines = tokens.evaluate_all(
            "all => all.map(e => getComputedStyle(e).textDecorationStyle + "
            "getComputedStyle(e).textDecorationLine)"
        )
        assert lines[:3] == ["doubleunderline", "solidunderline", "dottedunderline"]
        assert visit.page.locator(".token").nth(0).get_attribute("aria-label") == (
            "“Hello”, distance 0.60"
        )


@pytest.mark.parametrize("width", [360, 390, 1280])
def test_no_width_scrolls_the_page(browser: Any, pages: dict[str, Path], width: int) -> None:
    for name in ("plain", "hostile", "frontier"):
        with Visit(browser, pages[name], viewport={"width": width, "height": 700}) as visit:
            visit.page.evaluate(
                "document.querySelectorAll('details').forEach(one => one.open = true)"
            )
            assert not overflows(visit.page), name


def test_a_phone_shows_every_figure_of_a_comparison(browser: Any, pages: dict[str, Path]) -> None:
    with Visit(browser, pages["plain-gate"], viewport={"width": 390, "height": 800}) as visit:
        table = visit.page.locator("#differences table").first
        assert table.get_by_role("columnheader", name="difference").count() == 1
        for cell in table.get_by_role("cell").filter(has_text="0.").all():
            box = cell.bounding_box()
            assert box is not None
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= 390
        heads = "e => getComputedStyle(e, '::before').content"
        cells = table.locator("tbody tr").first.get_by_role("cell")
        said = [one.evaluate(heads).strip('"') for one in cells.all()]
        assert said[1:] == ["n", "baseline", "candidate", "difference", "p", "p worse", "outcome"]


def test_print_shows_folded_texts_and_no_navigation(browser: Any, pages: dict[str, Path]) -> None:
    with Visit(browser, pages["plain"], color_scheme="dark") as visit:
        visit.page.emulate_media(media="print", color_scheme="dark")
        assert not visit.page.locator("nav").is_visible()
        assert visit.page.evaluate("getComputedStyle(document.body).backgroundColor") == (
            "rgb(255, 255, 255)"
        )
        assert len(visit.page.pdf(format="A4")) > 20_000


def test_figures_tell_their_numbers_under_the_pointer(browser: Any, pages: dict[str, Path]) -> None:
    with Visit(browser, pages["plain-interactive"]) as visit:
        point = visit.page.locator("#figure-scores-1 .mark-symbol path").nth(1)
        point.scroll_into_view_if_needed()
        visit.page.wait_for_timeout(1000)
        point.hover()
        visit.page.wait_for_timeout(300)
        tip = visit.page.locator("#vg-tooltip-element")
        assert "up-scaled" in tip.inner_text()
        assert visit.said == []


def test_without_scripts_everything_is_there(browser: Any, pages: dict[str, Path]) -> None:
    with Visit(browser, pages["plain"], java_script_enabled=False) as visit:
        assert visit.page.locator(".token").count() == len(WORDS)
        assert visit.page.get_by_role("table", name="Most changed tokens").is_visible()
        assert visit.page.locator(".panel svg").first.is_visible()
