"""A labelling tool is one file and one line: nothing else knows which tools there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from judged_runs import write

from eft_eval.cli.options import Form
from eft_eval.labels import Item, export_csv, read_labels, text_hash
from eft_eval.labels.entries import Asked, Found, Place, Row, answers
from eft_eval.labels.project import Exported, Tool
from eft_eval.labels.tools import TOOLS


def export_cards(
    items: Sequence[Item], out: Path | str, *, about: Mapping[str, Any] | None = None
) -> Exported:
    exported = export_csv(items, out, about=about)
    return exported._replace(next_step="print the cards")


def from_json(path: Path, content: Any, asked: Asked) -> Found | None:
    if not isinstance(content, dict) or "cards" not in content:
        return None
    return from_cards(path, content["cards"], asked)


def from_cards(path: Path, cards: Sequence[Mapping[str, Any]], asked: Asked) -> Found:
    for number, card in enumerate(cards, start=1):
        row = Row(Place(path, f"card {number}"), card["item"], asked.who(card["who"]))
        yield from answers(row, {"has_error": [(card["says"], False)]})


@pytest.fixture
def cards(monkeypatch: pytest.MonkeyPatch) -> Tool:
    tool = Tool(export_cards, from_json=from_json)
    monkeypatch.setitem(TOOLS, "cards", tool)
    return tool


def test_every_tool_can_be_asked_for_on_the_command_line() -> None:
    assert [one.value for one in Form] == [name for name, tool in TOOLS.items() if tool.export]


def test_a_new_tool_is_read_and_written(cards: Tool, tmp_path: Path) -> None:
    item = Item("a", "q", "r", text_hash("q", "r"), "t", "c", None, "s")
    assert cards.export([item], tmp_path / "out").next_step == "print the cards"
    text = '{"cards": [{"item": "a", "who": "jo", "says": "yes"}, {"item": "b", "who": "jo",'
    path = write(tmp_path / "cards.json", f'{text} "says": "maybe"}}]}}')
    labels = read_labels(path)
    assert [(one.item_id, one.annotator, one.value) for one in labels.labels] == [
        ("a", "A1", "yes")
    ]
    assert labels.drop_counts() == {"has_error is none of yes, no, unsure": 1}


def test_without_it_its_files_are_in_no_known_format(tmp_path: Path) -> None:
    from eft_eval.errors import ConfigError

    path = write(tmp_path / "cards.json", '{"cards": []}')
    with pytest.raises(ConfigError, match=r"in no known format \(cards\)"):
        read_labels(path)
