"""Runs that differ in one value of the recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reported_runs import ARMS, composite, write_all

from eft_eval.reporting.frontier import AUTO, find_frontiers
from eft_eval.reporting.report import make_report
from eft_eval.reports.document import Figure, Table
from eft_eval.reports.renderers.html.figures import draw
from eft_eval.reports.views.report import page_of


def test_frontiers_are_runs_that_differ_in_one_weight(tmp_path: Path) -> None:
    def two(first: float, second: float) -> dict[str, Any]:
        return composite(
            "large-base", ("small-a", "small-base", first), ("small-b", "small-base", second)
        )

    runs = write_all(
        tmp_path, {"c": two(0.75, 0.25), "a": two(0.0, 1.0), "b": two(0.5, 0.5), "up": ARMS["up"]}
    )
    (found,) = find_frontiers(runs)
    (series,) = found.series
    assert [*series.points] == [(1, 0), (2, 0.5), (0, 0.75)]
    assert (found.axis, series.base) == ("α", "large-base")
    assert found.meaning == "weight of small-a; weight of small-b: 1 - α"
    assert find_frontiers(runs[:1]) == ()
    off = write_all(tmp_path / "off", {"d": two(0.9, 0.9)})
    assert find_frontiers([*runs, *off]) == ()  # not on one line
    half = composite("large-base", ("small-tuned", "small-base", 0.5))
    (single,) = find_frontiers(
        write_all(tmp_path / "one", {"half": half, "up": ARMS["up"], "down": ARMS["down"]})
    )
    assert single.values == (0.5, 1.0)
    assert single.meaning == "weight of small-tuned"
    twice = write_all(tmp_path / "twice", {"x": ARMS["up"], "y": ARMS["up"]})
    assert find_frontiers(twice) == ()


def test_any_value_of_the_recipe_is_an_axis_in_the_order_of_numbers(tmp_path: Path) -> None:
    def one(weight: float = 1.0, top_p: float | None = None, block: Any = "auto") -> dict[str, Any]:
        config = composite("large-base", ("small-tuned", "small-base", weight))
        config["eft_identity"]["weight_top_p"] = top_p
        config["eft_recipe"]["decoding"] = {"block": block, "sampling": "coupled"}
        return config

    for axis, configs, values in (
        ("α", [one(10.0), one(9.0), one(2.0, block=4)], (2.0, 9.0, 10.0)),
        ("weight_top_p", [one(), one(top_p=0.9), one(top_p=0.95)], (0.9, 0.95, 1.0)),
        ("block", [one(block=16), one(block=8), one(block=0), one()], (0.0, 8.0, 16.0, AUTO)),
        ("block", [one(), one(block=0)], (0.0, AUTO)),
        ("block", [one(), one(), one(block=0), one(block=10)], (0.0, 10.0)),
    ):
        named = {f"{axis}-{place}": config for place, config in enumerate(configs)}
        (found,) = find_frontiers(write_all(tmp_path, named))
        assert (found.axis, found.values) == (axis, values)


def test_a_grid_is_a_frontier_per_row_and_column(tmp_path: Path) -> None:
    configs = {}
    for weight in (0.5, 1.0):
        for block in (2, 8):
            config = composite("large-base", ("small-tuned", "small-base", weight))
            config["eft_recipe"]["decoding"] = {"block": block}
            configs[f"{weight}-{block}"] = config
    found = find_frontiers(write_all(tmp_path, configs))
    assert [(one.axis, one.values) for one in found] == [
        ("α", (0.5, 1.0)), ("α", (0.5, 1.0)), ("block", (2.0, 8.0)), ("block", (2.0, 8.0)),
    ]  # fmt: skip


def test_several_bases_are_lines_of_one_frontier(tmp_path: Path) -> None:
    configs = {
        f"{base}-{weight}": composite(base, ("small-tuned", "small-base", weight))
        for base in ("large-base", "small-other")
        for weight in (0.5, 1.0, 1.5)
    }
    del configs["small-other-1.0"]
    alone = {"alone": composite("large-third", ("small-tuned", "small-base", 0.5))}
    runs = write_all(tmp_path, {**configs, **alone})
    (found,) = find_frontiers(runs)
    assert {one.base: [point.value for point in one.points] for one in found.series} == {
        "large-base": [0.5, 1.0, 1.5], "small-other": [0.5, 1.5],
    }  # fmt: skip
    page = page_of(make_report(runs))
    assert [section.name for section in page.sections][:2] == ["frontiers", "scores"]
    (section,) = (one for one in page.sections if one.name == "frontiers")
    table, figure = section.blocks
    assert isinstance(table, Table)
    assert isinstance(figure, Figure)
    assert [column.head for column in table.columns] == [
        "metric", "base", "α = 0.5", "α = 1", "α = 1.5",
    ]  # fmt: skip
    assert table.rows[1][3].text == "–"
    (drawn, *_) = draw(figure)
    assert "large-base, α = 0.5" in drawn.text
    assert "small-other, α = 1.5" in drawn.text
    assert all(f">{name}</text>" in drawn.svg for name in ("large-base", "small-other"))
    assert '"strokeDash"' in drawn.spec
    assert '"shape"' in drawn.spec


def test_a_frontier_over_the_block_shows_the_speed(tmp_path: Path) -> None:
    configs = {}
    for block, speed in ((4, 40.0), ("auto", 200.0), (16, 160.5), (0, 10.0)):
        config = composite(
            "large-base", ("small-tuned", "small-base", 1.0),
            decoding={"requests": 1, "tokens": 10, "tokens_per_second": speed},
        )  # fmt: skip
        config["eft_recipe"]["decoding"] = {"block": block}
        configs[f"block-{block}"] = config
    page = page_of(make_report(write_all(tmp_path, configs)))
    (section,) = (one for one in page.sections if one.name == "frontiers")
    table = section.blocks[0]
    assert isinstance(table, Table)
    rows = {row[0].text: [cell.text for cell in row[1:]] for row in table.rows}
    assert rows["tokens per second"] == ["10.0", "40.0", "160.5", "200.0"]
    heads = [column.head for column in table.columns]
    assert heads[1:] == ["block = 0", "block = 4", "block = 16", "block = auto"]
    assert "16 is model (3), auto is model (2)." in table.note
    (figure,) = (block for block in section.blocks if isinstance(block, Figure))
    assert all("auto" not in panel.text and "inf" not in panel.text for panel in draw(figure))


def test_plain_decoding_against_chosen_blocks_is_a_table(tmp_path: Path) -> None:
    configs = {}
    for block in (0, "auto"):
        configs[f"block-{block}"] = composite("large-base", ("small-tuned", "small-base", 1.0))
        configs[f"block-{block}"]["eft_recipe"]["decoding"] = {"block": block}
    page = page_of(make_report(write_all(tmp_path, configs)))
    (section,) = (one for one in page.sections if one.name == "frontiers")
    (table,) = section.blocks
    assert isinstance(table, Table)
    assert [column.head for column in table.columns][1:] == ["block = 0", "block = auto"]
