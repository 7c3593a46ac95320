"""docs/architecture.md: its paths exist, and its floors are the tested ones."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "architecture.md").read_text("utf-8")


def test_paths_exist() -> None:
    paths = re.findall(r"`((?:eft_eval|model_adapters|tasks|prompts|reports|tests)/[^`]*)`", TEXT)
    assert len(paths) > 30
    for path in paths:
        known = path.split("NAME")[0].split("FOLDER")[0]
        assert (ROOT / known).exists(), path


def test_the_rooms_are_all_there() -> None:
    table = TEXT.partition("## Rooms")[2].partition("## ")[0]
    for folder in (ROOT / "eft_eval").iterdir():
        if folder.is_dir() and folder.name != "__pycache__":
            assert f"{folder.name}/`" in table, folder.name


def test_the_floors_are_those_of_the_test() -> None:
    spec = importlib.util.spec_from_file_location("house", ROOT / "tests" / "test_architecture.py")
    assert spec is not None
    assert spec.loader is not None
    house = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(house)
    rooms = set().union(*house.FLOORS) - {""}
    picture = TEXT.partition("```text")[2].partition("```")[0]
    drawn = {
        int(number): {word for word in re.findall(r"\w+", line) if word in rooms}
        for number, line in re.findall(r"^ +(\d+)  ([^–\n]*)", picture, re.M)
    }
    assert drawn == {number: floor - {""} for number, floor in enumerate(house.FLOORS)}
