"""The page of `eft-eval view` in a real browser: every view, narrow and dark, keyboard, hostile."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from chromium import MARKS, launched, overflows, serious
from reported_runs import HOSTILE, study, trace_record

from eft_eval.browser.answers import Answers
from eft_eval.browser.folder import Folder
from eft_eval.browser.server import BrowserServer

pytestmark = MARKS
WORDS = ["Hello", " the", "re", "\n", "friend", "."]
VIEWS = {
    "runs": "",
    "run": "run={small}",
    "documents": "run={small}&task=facts",
    "flips": "run={small}&task=facts&other={large}&change=higher&metric=fact_errors",
    "document": "run={small}&task=facts&at=3",
    "sides": "run={small}&task=facts&at=3&other={large}",
    "hostile": "run={hostile}&task=facts&other={other}",
    "hostile sides": "run={hostile}&task=facts&at=0&other={other}",
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launched() as started:
        yield started


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The address of each view, over a study, one of hostile texts, a trace and a cut file."""
    folder = tmp_path_factory.mktemp("runs")
    study(folder / "plain", 120)
    study(folder / "hostile", 40, HOSTILE)
    trace = trace_record(WORDS, [0.6, 0.3, 0.1, 0.0, 0.9, 0.2])
    trace |= {"prompt": "Question 3: A response.", "response": "small says: A response."}
    (folder / "trace.json").write_text(json.dumps(trace))
    (folder / "results_cut.json").write_text("{")
    answers = Answers(Folder(folder))
    with BrowserServer(answers, 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        by_place = {one["place"]: one["id"] for one in answers.runs()["runs"]}
        names = {"small": "plain/small", "large": "plain/large"}
        names |= {"hostile": "hostile/small", "other": "hostile/large"}
        ids = {
            name: next(found for place, found in by_place.items() if place.startswith(start))
            for name, start in names.items()
        }
        yield {name: f"{server.address}#/?{view.format(**ids)}" for name, view in VIEWS.items()}
        server.shutdown()


class Visit:
    """An open page, with what it said and where it went."""

    def __init__(self, browser: Any, address: str, **options: Any) -> None:
        self.context = browser.new_context(reduced_motion="reduce", **options)
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", lambda dialog: self.said.append(dialog.message))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(address)
        self.page.wait_for_selector("h1")

    def __enter__(self) -> Visit:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("name", VIEWS)
def test_every_view_fits_and_axe_finds_nothing_serious(
    browser: Any, addresses: dict[str, str], name: str, width: int
) -> None:
    for scheme in ("light", "dark"):
        size = {"width": width, "height": 900}
        with Visit(browser, addresses[name], viewport=size, color_scheme=scheme) as visit:
            assert visit.page.locator(".error").count() == 0
            visit.page.evaluate(
                "document.querySelectorAll('details').forEach(one => one.open = true)"
            )
            assert not overflows(visit.page)
            assert serious(visit.page) == []
            visit.page.wait_for_timeout(100)
            assert visit.said == []
            home = addresses["runs"].partition("#")[0]
            assert {one for one in visit.asked if not one.startswith((home, "data:"))} == set()


def test_from_the_list_to_a_flip_and_back(browser: Any, addresses: dict[str, str]) -> None:
    with Visit(browser, addresses["runs"]) as visit:
        page = visit.page
        assert "results_cut.json" in page.locator("ul.warnings").inner_text()
        assert page.locator("tbody tr").count() == 8
        row = page.locator("tbody tr").filter(has_text="plain/small")
        row.get_by_role("link", name="facts").click()
        page.wait_for_selector(".pager")
        assert "1 to 50 of 120 documents" in page.locator(".pager").first.inner_text()
        page.get_by_role("button", name="Next").first.click()
        page.get_by_text("51 to 100 of 120 documents").first.wait_for()
        chosen = page.locator("option").filter(has_text="plain/large").get_attribute("value")
        page.get_by_label("compare with").select_option(chosen)
        page.get_by_label("this run has").select_option(label="higher (worse)")
        page.get_by_text("of 77 documents").first.wait_for()
        page.get_by_role("link", name="document 0", exact=True).click()
        page.wait_for_selector(".sides")
        assert page.locator(".side").count() == 2
        assert "small says: A response." in page.locator(".side").first.inner_text()
        assert "large A response." in page.locator(".side").last.inner_text()
        page.get_by_role("link", name="Next of the list").click()
        page.get_by_role("heading", name="facts, document 1", exact=True).wait_for()
        page.go_back()
        page.go_back()
        page.get_by_text("of 77 documents").first.wait_for()
        assert page.get_by_label("this run has").input_value() == "higher"
        assert visit.said == []


def test_filters_by_number_keep_the_keyboard_in_place(
    browser: Any, addresses: dict[str, str]
) -> None:
    with Visit(browser, addresses["documents"]) as visit:
        page = visit.page
        page.get_by_label("at least").fill("3")
        page.keyboard.press("Enter")
        page.locator(".pager").filter(has_not_text="120").first.wait_for()
        values = page.locator("td[data-head=fact_errors]").all_inner_texts()
        assert values
        assert {float(value) >= 3 for value in values} == {True}
        page.get_by_label("verdict").select_option("scored")
        page.wait_for_url("**/*status=scored*")
        assert page.locator("td[data-head=fact_errors]").count() == len(values)


def test_a_trace_is_one_stop_of_the_keyboard(browser: Any, addresses: dict[str, str]) -> None:
    with Visit(browser, addresses["document"]) as visit:
        page = visit.page
        tokens = page.locator(".token")
        assert tokens.count() == len(WORDS)
        tokens.first.focus()
        seen = []
        for _ in WORDS:
            seen.append(page.locator(".token-details strong").inner_text())
            page.keyboard.press("ArrowRight")
        assert seen == ["“Hello”", "“ the”", "“re”", "“⏎”", "“friend”", "“.”"]
        page.keyboard.press("Tab")
        assert not page.evaluate("document.activeElement.classList.contains('token')")


def test_the_policy_stops_what_got_in_all_the_same(browser: Any, addresses: dict[str, str]) -> None:
    with Visit(browser, addresses["hostile sides"]) as visit:
        assert visit.page.locator("main script, main img, main style, main svg").count() == 0
        assert "</script><img src=x" in visit.page.locator(".side").first.inner_text()
        stopped = visit.page.evaluate(
            "(() => { try { document.body.innerHTML = '<b>x</b>'; return false; }"
            " catch (error) { return error instanceof TypeError; } })()"
        )
        assert stopped
