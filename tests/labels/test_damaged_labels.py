"""Label files with random defects: labels, or one line; random tables are read back right."""

from __future__ import annotations

import contextlib
import csv
import json
import random
import tempfile
from pathlib import Path
from typing import Any

import pytest
from damaged_files import damage_file, pass_on
from hypothesis import given, settings
from hypothesis import strategies as st

from eft_eval.errors import EftEvalError
from eft_eval.labels import read_labels

MADE = Path(__file__).parent / "files"
RADIO = {
    "id": "i1",
    "displayed_text": "x",
    "label_annotations": {"error_count": {"number": "2"}, "has_error": {"yes": "yes"}},
    "span_annotations": {},
}
PRODIGY = [
    {"text": f"t{i}", "_input_hash": i, "_task_hash": i, "accept": ["good"], "answer": "accept",
     "options": [{"id": "good", "text": "Good"}, {"id": "bad", "text": "Bad"}],
     "_annotator_id": "jo", "_view_id": "choice"}
    for i in range(3)
]  # fmt: skip
TOOLS = [str(path.relative_to(MADE)) for path in sorted(MADE.glob("*/*"))]
WRITTEN = ["prodigy.jsonl", "potato", "long.csv", "wide.csv", "table.jsonl"]


def written(folder: Path, name: str) -> Path:
    """Write a small file of a tool; return what the commands are given."""
    path = folder / name
    if name == "potato":
        path = folder / "out"
        for person in ("jo", "al"):
            (path / person).mkdir(parents=True)
            lines = json.dumps(RADIO) + "\n" + json.dumps({**RADIO, "id": "i2"}) + "\n"
            (path / person / "annotated_instances.jsonl").write_text(lines)
    elif name == "prodigy.jsonl":
        path.write_text("".join(json.dumps(one) + "\n" for one in PRODIGY))
    elif name == "long.csv":
        path.write_text("item_id,annotator,error_count\ni1,jo,0\ni1,al,1\ni2,jo,2\n")
    elif name == "table.jsonl":
        rows = [{"item_id": f"i{i}", "annotator": who, "value": i} for i in (1, 2) for who in "jk"]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif name == "wide.csv":
        path.write_text("item_id,jo,al\ni1,0,1\ni2,2,\n")
    else:
        path = folder / Path(name).name
        path.write_bytes((MADE / name).read_bytes())
    return path


def tried(name: str, seed: int, passed_on: bool = False) -> None:
    choose = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        path = written(Path(folder), name)
        files = sorted(one for one in Path(folder).rglob("*") if one.is_file())
        for _ in range(choose.randint(1, 3)):
            with contextlib.suppress(ValueError, IndexError):  # the file was damaged before
                damage_file(choose.choice(files), choose)
        if passed_on:
            pass_on(files, seed)
        said = "nothing"
        try:
            labels = read_labels(path).labels
            assert all(one.item_id and one.annotator and one.field for one in labels)
        except EftEvalError as error:
            said = str(error)
        assert len(said.splitlines()) == 1


WERE_WRONG = [
    ("argilla/records.json", 100960),
    ("long.csv", 155),
    ("label_studio/csv.csv", 1973),
    ("label_studio/tsv.tsv", 1003050),
    ("prodigy.jsonl", 2378),
]


@pytest.mark.parametrize(("name", "seed"), WERE_WRONG)
def test_defects_that_were_read_wrong(name: str, seed: int) -> None:
    tried(name, seed)


@pytest.mark.parametrize("name", [*TOOLS, *WRITTEN])
@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 2**32), passed_on=st.booleans())
def test_right_or_one_line(name: str, seed: int, passed_on: bool) -> None:
    tried(name, seed, passed_on)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*TOOLS, *WRITTEN])
@settings(max_examples=600, deadline=None)
@given(seed=st.integers(0, 2**32), passed_on=st.booleans())
def test_right_or_one_line_many_times(name: str, seed: int, passed_on: bool) -> None:
    tried(name, seed, passed_on)


people = st.lists(st.text("abcdefgh", min_size=2, max_size=5), min_size=2, max_size=4, unique=True)
tables = people.flatmap(
    lambda names: st.lists(
        st.fixed_dictionaries({name: st.none() | st.integers(0, 9) for name in names}),
        min_size=2,
        max_size=6,
    )
).filter(lambda rows: all(any(row[name] is not None for row in rows) for name in rows[0]))


@settings(max_examples=25, deadline=None)
@given(rows=tables, long=st.booleans(), delimiter=st.sampled_from(",;\t"), mark=st.booleans())
def test_random_tables_are_read_back(
    rows: list[dict[str, int | None]], long: bool, delimiter: str, mark: bool
) -> None:
    expected: dict[tuple[str, str], Any] = {
        (f"item{number}", name): value
        for number, row in enumerate(rows)
        for name, value in row.items()
        if value is not None
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        with path.open("w", encoding="utf-8-sig" if mark else "utf-8", newline="") as file:
            table = csv.writer(file, delimiter=delimiter)
            if long:
                table.writerow(["item_id", "annotator", "error_count"])
                table.writerows([item, name, value] for (item, name), value in expected.items())
            else:
                table.writerow(["item_id", *rows[0]])
                for number, row in enumerate(rows):
                    answers = (row[name] for name in rows[0])
                    table.writerow(
                        [f"item{number}", *("" if one is None else one for one in answers)]
                    )
        labels = read_labels(path, field="error_count")
    assert {one.reason for one in labels.dropped} <= {"no answer"}
    empty = sum(all(value is None for value in row.values()) for row in rows)
    assert len(labels.dropped) == (0 if long else empty)
    people = {
        name: {key[0]: v for key, v in expected.items() if key[1] == name} for name in rows[0]
    }
    found = {
        name: {one.item_id: one.value for one in labels.labels if one.annotator == name}
        for name in labels.annotators
    }
    assert sorted(map(sorted, map(dict.items, found.values()))) == sorted(
        map(sorted, map(dict.items, people.values()))
    )
