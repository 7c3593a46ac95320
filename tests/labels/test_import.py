"""Labels in: every format gives what the annotators said, and every row not used is reported."""

from __future__ import annotations

import csv
import io
import json
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_files import answers, make_items, result, state, values, write

from eft_eval.errors import ConfigError
from eft_eval.labels import (
    Item,
    LabelSet,
    export_csv,
    export_label_studio,
    export_potato,
    read_labels,
)
from eft_eval.labels.people import scrub

# --- Label Studio


def label_studio_task(item: Item, number: int, annotations: list[dict[str, Any]]) -> dict[str, Any]:
    data = {"item_id": item.item_id, "question": item.question, "response": item.response}
    return {"id": number, "data": data, "annotations": annotations, "predictions": [{}]}


def test_label_studio_json(tmp_path: Path) -> None:
    one, two, three = make_items("one", "two <b>", "three")
    count, yes = result("error_count", "number", number=2), result("h", "choices", choices=["y"])
    notes = result("notes", "textarea", text=["a", "write x@y.org"])
    span = result("span", "labels", start=1, end=2, labels=["PER"])
    person = {"id": 7, "email": "jane@example.com"}
    tasks = [
        label_studio_task(one, 1, [{"completed_by": person, "result": [count, yes, notes, span]}]),
        label_studio_task(
            two,
            2,
            [
                {"completed_by": 7, "result": [result("h", "choices", choices=["y", "n"])]},
                {"completed_by": 8, "result": [count], "was_cancelled": True},
                {"completed_by": 8, "result": []},
                {"result": [count]},
            ],
        ),
        label_studio_task(three, 3, []),
    ]
    labels = read_labels(write(tmp_path / "x.json", tasks), items=[one, two, three])
    (name,) = labels.annotators
    assert answers(labels, name) == {
        (one.item_id, "error_count"): 2,
        (one.item_id, "h"): "y",
        (one.item_id, "notes"): "a\nwrite [e-mail]",
    }
    assert labels.labels[0].text_sha256 == one.text_sha256
    assert labels.drop_counts() == {
        "several answers where one is expected": 1,
        "cancelled": 1,
        "no answer": 1,
        "no annotator": 1,
        "not annotated": 1,
    }
    assert labels.dropped[0].where == f"{tmp_path / 'x.json'}: task 2, annotation 1"
    assert labels.remarks == (f"{tmp_path / 'x.json'}: not read, as no answers: span",)
    tasks[0]["data"]["response"] = "one, but changed"
    changed = read_labels(write(tmp_path / "y.json", tasks), items=[one, two, three])
    assert not changed.labels
    assert changed.drop_counts()["the labelled text is not the item's"] == 3


def test_label_studio_json_min(tmp_path: Path) -> None:
    """The shapes are those that label-studio-sdk 2.1.2 converts our own export's answers to."""
    (item,) = make_items("one")
    data = {"item_id": item.item_id, "question": "Why?", "response": "one", "id": 100}
    meta = {"annotation_id": 1, "created_at": "", "updated_at": "", "lead_time": 1.0}
    first = {"error_count": [{"number": 2}], "has_error": "yes", "notes": {"text": ["a", "b"]}}
    second = {"error_count": [{"number": 0}], "has_error": "no", "notes": "fine"}
    third = {"has_error": {"choices": ["yes", "no"]}}
    records = [{**data, **given, "annotator": i, **meta} for i, given in enumerate([first, second])]
    records.append({**data, **third, "annotator": 2, **meta})
    labels = read_labels(write(tmp_path / "x.json", records), items=[item])
    found = [
        {field: value for (_, field), value in answers(labels, name).items()}
        for name in labels.annotators
    ]
    expected = [
        {"error_count": 2, "has_error": "yes", "notes": "a\nb"},
        {"error_count": 0, "has_error": "no", "notes": "fine"},
    ]
    assert found in (expected, expected[::-1])
    assert labels.drop_counts() == {"several answers where one is expected": 1}


# --- joining


def test_ids_and_texts_must_match(tmp_path: Path) -> None:
    item, other = make_items("one", "two")
    stale = item.item_id[:-8] + "00000000"
    rows = [f"{item.item_id},x,1", f"{stale},x,1", "unknown@x.org,x,1", f"{other.item_id},x,1"]
    path = write(tmp_path / "x", "\n".join(["item_id,annotator,value", *rows]))
    labels = read_labels(path, items=[item, other])
    assert [label.item_id for label in labels.labels] == [item.item_id, other.item_id]
    assert [one.reason for one in labels.dropped] == [
        "another response to this prompt was labelled than the run holds",
        "no item has this id",
    ]
    assert labels.dropped[1].detail == "[e-mail], value: 1"


def test_the_key_beside_a_file_checks_it_too(tmp_path: Path) -> None:
    items = make_items("one", "two")
    export_csv(items, tmp_path / "out")
    path = tmp_path / "out" / "deep" / "er" / "x.csv"
    header = "item_id,annotator,question,response,error_count"
    rows = [f"{items[0].item_id},x,Why?,one,1", f"{items[1].item_id},x,Why?,2,1", "z,x,Why?,2,1"]
    labels = read_labels(write(path, "\n".join([header, *rows])))
    assert [label.item_id for label in labels.labels] == [items[0].item_id]
    assert [one.reason for one in labels.dropped] == [
        "the labelled text is not the item's",
        "no item has this id",
    ]
    with pytest.raises(ConfigError, match="is the key of an export"):
        read_labels(tmp_path / "out" / "key.json")
    write(tmp_path / "out" / "key.json", '{"format": "eft-eval label key", "items": []}')
    with pytest.raises(ConfigError, match="damaged key"):
        read_labels(path)
    write(tmp_path / "out" / "key.json", '{"format": "somebody else\'s"}')
    assert len(read_labels(path).labels) == 3


# --- pseudonyms and the label set


def test_one_person_has_one_pseudonym_in_all_files(tmp_path: Path) -> None:
    wide = write(tmp_path / "w.csv", "item_id,jane@example.com,bob\na,1,2\n")
    long = write(tmp_path / "l.csv", "item_id,annotator,value\nb,jane@example.com ,1\nb,bob,2\n")
    tables = values(read_labels([wide, long]))
    assert tables == values(read_labels([long, wide]))
    assert len({name for (_, name), value in tables.items() if value == 1}) == 1
    again = write(tmp_path / "again.csv", "item_id,annotator,value\na,A2,1\na,A7,2\n")
    assert values(read_labels(again)) == {("a", "A2"): 1, ("a", "A7"): 2}


@pytest.mark.parametrize(
    ("text", "scrubbed"),
    [
        ("mail jane.doe+x@mail.example.org, then", "mail [e-mail], then"),
        ("out/jane@localhost/user_state.json: item 1", "out/[e-mail]/user_state.json: item 1"),
        ("jane%40example.org", "[e-mail]"),
        ("o'hara@x.org|ü@ö.de", "[e-mail]|[e-mail]"),
        ("at @ 5, @home, 40% off", "at @ 5, @home, 40% off"),
        ("x" * 200_000 + "@" * 200_000, "[e-mail]"),
    ],
)
def test_addresses_are_taken_out(text: str, scrubbed: str) -> None:
    assert scrub(text) == scrubbed


def test_matrix_and_frame(tmp_path: Path) -> None:
    rows = ["a,A1,1,n", "a,A10,2,n", "b,A2,3,n", "a,A1,yes,w", "b,A2,unsure,w"]
    labels = read_labels(write(tmp_path / "x", "\n".join(["item_id,annotator,value,field", *rows])))
    assert (labels.fields, labels.annotators) == (("n", "w"), ("A1", "A2", "A10"))
    nan = math.nan
    np.testing.assert_equal(labels.matrix("n").values, [[1, nan, 2], [nan, 3, nan]])
    chosen = labels.matrix("n", item_ids=["b", "c"])
    np.testing.assert_equal(chosen.panel()["A2"], [3, nan])
    words = labels.matrix("w")
    assert (words.annotators, words.words) == (("A1", "A2"), ("unsure", "yes"))
    np.testing.assert_equal(words.values, [[1, nan], [nan, 0]])
    coded = labels.matrix("w", coding={"yes": 1, "no": 0, "unsure": nan})
    np.testing.assert_equal(coded.values, [[1, nan], [nan, nan]])
    with pytest.raises(ConfigError, match="no number is given for 'unsure'"):
        labels.matrix("w", coding={"yes": 1})
    with pytest.raises(ConfigError, match="no label of the field 'x'; there are: n, w"):
        labels.matrix("x")
    frame = labels.to_frame()
    assert list(frame["annotator"]) == ["A1", "A10", "A2", "A1", "A2"]
    assert list(LabelSet(()).to_frame().columns) == list(frame.columns)


# --- round trips: export, fill in, import


def fill_in(path: Path, rows: Sequence[Sequence[str]], delimiter: str = ",") -> str:
    """Return an exported CSV as a spreadsheet saves it, its last columns filled in."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        header, *lines = csv.reader(file)
    written = io.StringIO()
    writer = csv.writer(written, delimiter=delimiter, lineterminator="\r\n")
    writer.writerow(header)
    for line, row in zip(lines, rows, strict=True):
        writer.writerow([line[0], row[0], line[2], line[3], *row[1:]])
    return written.getvalue()


@settings(max_examples=60)
@given(st.lists(st.text(), min_size=1, max_size=3), st.text(), st.sampled_from(",;\t"))
def test_csv_round_trip(responses: list[str], question: str, delimiter: str) -> None:
    items = make_items(*responses, question=question)
    rows = [["", str(number), "Yes ", "=1+1"] for number in range(len(items))]
    with tempfile.TemporaryDirectory() as folder:
        path = export_csv(items, Path(folder) / "out").folder / "labels.csv"
        path.write_bytes(fill_in(path, rows, delimiter).encode())
        for joined_to in (items, None):
            labels = read_labels(path, items=joined_to)
            assert labels.dropped == ()
            counts = labels.matrix("error_count", item_ids=[item.item_id for item in items])
            assert counts.values.tolist() == [[number] for number in range(len(items))]
            notes = [one.value for one in labels.labels if one.field == "notes"]
            assert notes == ["=1+1"] * len(items)
            assert {one.value for one in labels.labels if one.field == "has_error"} == {"yes"}


def test_csv_copies_without_names_are_one_annotator_each(tmp_path: Path) -> None:
    items = make_items("one", "two")
    path = export_csv(items, tmp_path / "out").folder / "labels.csv"
    first = write(tmp_path / "1.csv", fill_in(path, [["", "1", "", ""], ["", "", "", ""]], ";"))
    second = write(tmp_path / "2.csv", fill_in(path, [["", "0", "no", ""], ["", "3", "yes", "x"]]))
    labels = read_labels([first, second], items=items)
    assert labels.annotators == ("A1", "A2")
    assert labels.matrix("error_count").values.shape == (2, 2)
    assert labels.drop_counts() == {"no answer": 1}
    assert all("taken as one annotator's file" in remark for remark in labels.remarks)
    partly = write(tmp_path / "3.csv", fill_in(path, [["bob", "1", "", ""], ["", "1", "", ""]]))
    assert read_labels(partly).drop_counts() == {"no annotator": 1}


def test_changed_texts_in_a_filled_in_csv_are_refused(tmp_path: Path) -> None:
    items = make_items("one", "two")
    path = export_csv(items, tmp_path / "out").folder / "labels.csv"
    text = fill_in(path, [["x", "1", "", ""], ["x", "2", "", ""]]).replace("two", "2")
    labels = read_labels(write(tmp_path / "filled.csv", text), items=items)
    assert [label.value for label in labels.labels] == [1]
    assert labels.drop_counts() == {"the labelled text is not the item's": 1}


def test_label_studio_and_potato_round_trips(tmp_path: Path) -> None:
    items = make_items("</script><img onerror=x>", "=1\n\n  two", "שלום \x00", "")
    folder = export_label_studio(items, tmp_path / "ls").folder
    tasks = json.loads((folder / "tasks.json").read_text("utf-8"))
    for number, task in enumerate(tasks):
        given = [result("error_count", "number", number=number)]
        task |= {"id": number, "annotations": [{"completed_by": 1, "result": given}]}
    labels = read_labels(write(tmp_path / "export.json", tasks), items=items)
    project = export_potato(items, tmp_path / "potato").folder
    given = {
        item.item_id: [("error_count", "number", str(number)), ("has_error", "no", "no")]
        for number, item in enumerate(items)
    }
    write(project / "annotation_output" / "x" / "user_state.json", state("x", given))
    ids = [item.item_id for item in items]
    for found in (labels, read_labels(project, items=items), read_labels(project)):
        assert found.dropped == ()
        assert found.matrix("error_count", item_ids=ids).values.tolist() == [[0], [1], [2], [3]]
    (project / "key.json").write_text((tmp_path / "ls" / "key.json").read_text().replace("-r0", ""))
    assert read_labels(project).drop_counts() == {"no item has this id": 2}
