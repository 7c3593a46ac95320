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

from eft_eval.errors import ConfigError
from eft_eval.labels import (
    FileReading,
    Item,
    LabelSet,
    clean_text,
    export_csv,
    export_label_studio,
    export_potato,
    read_labels,
    read_meanings,
    save_labels,
    text_hash,
)
from eft_eval.labels.people import scrub

POTATO = Path(__file__).resolve().parents[3] / "shared" / "data" / "potato_2.12.1"
ANN1 = {  # what the scripted annotators of POTATO answered
    ("eli5-0001::resp-a", "error_count"): 2.0,
    ("eli5-0001::resp-a", "has_error"): "yes",
    ("eli5-0001::resp-a", "notes"): "oxygen is not blue",
    ("eli5-0002::resp-a", "error_count"): 0.0,
    ("eli5-0002::resp-a", "has_error"): "no",
    ("eli5-0003::resp-a", "error_count"): 0.0,
    ("eli5-0003::resp-a", "has_error"): "unsure",
}
ANN2 = {
    ("eli5-0001::resp-a", "error_count"): 1.0,
    ("eli5-0001::resp-a", "has_error"): "yes",
    ("eli5-0001::resp-a", "notes"): "wrong",
    ("eli5-0002::resp-a", "error_count"): 1.0,
    ("eli5-0002::resp-a", "has_error"): "yes",
    ("eli5-0002::resp-a", "notes"): "vague",
    ("eli5-0003::resp-a", "error_count"): 0.0,
    ("eli5-0003::resp-a", "has_error"): "no",
}


def make_items(*responses: str, question: str = "Why?") -> list[Item]:
    items = []
    for number, text in enumerate(responses):
        texts = clean_text(question), clean_text(text)
        digest = text_hash(*texts)
        name = f"eli5_fact-0123456789abcdef-r{number}-{digest[:8]}"
        items.append(Item(name, *texts, digest, "eli5_fact", "c", None, f"doc {number}"))
    return items


def answers(labels: LabelSet, annotator: str) -> dict[tuple[str, str], float | str]:
    chosen = [label for label in labels.labels if label.annotator == annotator]
    return {(label.item_id, label.field): label.value for label in chosen}


def write(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content)
    path.write_bytes(text.encode())
    return path


def values(labels: LabelSet, field: str = "value") -> dict[tuple[str, str], float | str]:
    return {(one.item_id, one.annotator): one.value for one in labels.labels if one.field == field}


# --- Potato 2.x


@pytest.mark.skipif(not POTATO.is_dir(), reason="the real Potato files are not here")
@pytest.mark.parametrize(
    "path",
    [
        ".",
        "annotation_output",
        "potato_export_csv/annotations.csv",
        "potato_export_tsv/annotations.tsv",
        "potato_export_jsonl/annotations.jsonl",
    ],
)
def test_real_potato_files_give_the_labels_of_their_annotators(path: str) -> None:
    labels = read_labels(POTATO / path)
    assert (labels.annotators, labels.dropped, labels.remarks) == (("A1", "A2"), (), ())
    given = [answers(labels, name) for name in labels.annotators]
    assert given in ([ANN1, ANN2], [ANN2, ANN1])


@pytest.mark.skipif(not POTATO.is_dir(), reason="the real Potato files are not here")
def test_the_same_labels_from_several_real_files_count_once() -> None:
    exported = POTATO / "annotation_output" / "exports"
    paths = [POTATO, POTATO / "potato_export_csv" / "annotations.csv"]
    labels = read_labels([*paths, exported / "csv" / "annotations.csv"])
    assert len(labels.labels) == 15
    assert not labels.dropped
    assert "may lack the newest labels" in labels.remarks[0]
    assert labels.remarks[1] == "labels that occur again with the same value, counted once: 18"


def state(user: str, given: dict[str, list[tuple[str, str, str]]], **other: Any) -> dict[str, Any]:
    stored = {
        item: [[{"schema": schema, "name": name}, value] for schema, name, value in entries]
        for item, entries in given.items()
    }
    return {"user_id": user, "instance_id_to_label_to_value": stored, **other}


def test_live_store_names_no_one(tmp_path: Path) -> None:
    given = {"i1": [("error_count", "number", "1"), ("notes", "text_box", "ask me@home.org")]}
    for user in ("jane@example.com", "bob"):
        folder = tmp_path / "annotation_output" / user
        write(folder / "user_state.json", state(user, {**given, "i2": [("has_error", "no", "7")]}))
    write(tmp_path / "annotation_output" / "ann" / "user_state.json", state("ann", {}))
    labels = read_labels(tmp_path)
    text = repr(labels)
    for name in ("jane", "bob", "@", "me@home"):
        assert name not in text
    assert labels.annotators in (("A1", "A2"), ("A1", "A3"), ("A2", "A3"))
    assert {label.value for label in labels.labels if label.field == "notes"} == {"ask [e-mail]"}
    first = labels.labels[0]
    assert first.where == str(
        tmp_path / "annotation_output" / first.annotator / "user_state.json: item i1"
    )
    assert labels.drop_counts() == {"no answer": 1}


def test_potato_answers_that_are_not_one_clear_answer(tmp_path: Path) -> None:
    given = {
        "a": [("has_error", "yes", "yes"), ("has_error", "no", "no")],
        "b": [("error_count", "number", "many"), ("has_error", "maybe", "maybe")],
        "c": [("error_count", "number", "-1"), ("has_error", "yes", "false")],
        "d": [("error_count", "number", "1.5")],
        "e": [("error_count", "number", "3"), ("box", "Name", "Ada"), ("s", "scale_4", "true")],
    }
    path = write(tmp_path / "user_state.json", state("x", given))
    labels = read_labels(path)
    assert answers(labels, "A1") == {
        ("e", "error_count"): 3,
        ("e", "box.Name"): "Ada",
        ("e", "s"): 4,
    }
    assert labels.drop_counts() == {
        "error_count is not a count (0, 1, 2, …)": 2,
        "several answers where one is expected": 1,
        "error_count is not a number": 1,
        "has_error is none of yes, no, unsure": 1,
    }
    assert [one.detail for one in labels.dropped][:2] == [
        "a, has_error: yes, no",
        "b, error_count: many",
    ]


def test_options_named_true_and_false(tmp_path: Path) -> None:
    given = {
        "a": [("t", "true", "true"), ("n", "text_box", "false")],
        "b": [("t", "false", "false"), ("t", "true", "false"), ("s", "select-one", "false")],
    }
    labels = read_labels(write(tmp_path / "user_state.json", state("x", given)))
    assert answers(labels, "A1") == {
        ("a", "t"): "true",
        ("a", "n"): "false",
        ("b", "t"): "false",
        ("b", "s"): "false",
    }
    assert labels.dropped == ()


def test_machines_are_no_annotators(tmp_path: Path) -> None:
    given = {"i1": [("error_count", "number", "1")]}
    path = write(tmp_path / "user_state.json", state("x", given, origin={"kind": "llm"}))
    table = write(
        tmp_path / "a.csv",
        "instance_id,user_id,annotator_origin,error_count.number\ni1,p,human,2\ni1,q,tool,3\n",
    )
    labels = read_labels([path, table])
    assert [label.value for label in labels.labels] == [2]
    assert labels.drop_counts() == {"annotations by a machine": 2}


def test_potato_columns_with_dots(tmp_path: Path) -> None:
    header = "instance_id,user_id,q.1.number,agree.e.g. this,agree.no. never,n._spans,n.text_box"
    labels = read_labels(write(tmp_path / "x", f"{header}\ni,u,4,e.g. this,,[],12\n"))
    assert answers(labels, "A1") == {("i", "q.1"): 4, ("i", "agree"): "e.g. this", ("i", "n"): "12"}
    assert labels.remarks == (f"{tmp_path / 'x'}: columns that are not read: n._spans",)


# --- Potato 1.x

OTHER_TEXT = "another text under the same item id (--item names another column of ids)"
TSV_1 = (
    "user\tinstance_id\tdisplayed_text\ttruthfulness_Score:::scale_4\ttruthfulness_Score:::scale_10"
    "\thas_error:::yes\tspans:::certain\n"
    "jane@example.com\t{id}\tQ: Why?<br>A: <b>Air</b> is&nbsp;blue.\t4\t\ttrue\t[]\n"
    "bob\t{id}\tQ: Why?<br>A: Air is red.\t\t0\t\t[{{'start': 1}}]\n"
)


def test_potato_1_table_and_its_displayed_text(tmp_path: Path) -> None:
    (item,) = make_items("<b>Air</b> is\nblue.")
    labels = read_labels(write(tmp_path / "a.tsv", TSV_1.format(id=item.item_id)), items=[item])
    assert {(label.field, label.value) for label in labels.labels} == {
        ("truthfulness_Score", 4.0),
        ("has_error", "yes"),
    }
    (dropped,) = labels.dropped
    assert dropped.reason == "the labelled text is not the item's"
    assert dropped.where.endswith("a.tsv: row 3")
    everything = read_labels(tmp_path / "a.tsv", field="truthfulness_Score")
    assert everything.labels == ()  # one id, two texts: which one is meant, no file says
    assert everything.drop_counts() == {OTHER_TEXT: 2}


def test_potato_1_files_per_user(tmp_path: Path) -> None:
    for user, point in (("jane@example.com", 4), ("bob", 2)):
        given = {"truthfulness_Score": {f"scale_{point}": str(point)}}
        record = {"id": "i1", "displayed_text": "x", "label_annotations": given}
        lines = json.dumps(record) + "\nnonsense\n" + json.dumps({"id": "i2"}) + "\n"
        write(tmp_path / "out" / user / "annotated_instances.jsonl", lines)
    labels = read_labels(tmp_path)
    assert sorted(label.value for label in labels.labels) == [2.0, 4.0]
    assert labels.drop_counts() == {"no JSON object": 2, "not in Potato's format": 2}
    assert "jane" not in repr(labels)
    assert f"{tmp_path}/out/A" in labels.dropped[0].where
    assert "bob" not in repr(labels)


# --- Label Studio


def label_studio_task(item: Item, number: int, annotations: list[dict[str, Any]]) -> dict[str, Any]:
    data = {"item_id": item.item_id, "question": item.question, "response": item.response}
    return {"id": number, "data": data, "annotations": annotations, "predictions": [{}]}


def result(name: str, kind: str, **value: Any) -> dict[str, Any]:
    return {"from_name": name, "to_name": "response", "type": kind, "value": value}


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


# --- tables


def test_long_tables(tmp_path: Path) -> None:
    text = "item_id,annotator,value\na,x@y.org,1\nb,x@y.org,0\na,bob,2\nb,bob,\n,bob,1\nb,,1\n"
    labels = read_labels(write(tmp_path / "x.csv", text))
    assert sorted(label.value for label in labels.labels) == [0, 1, 2]
    counts = {"no answer": 1, "no item id": 1, "no annotator": 1}
    assert labels.drop_counts() == counts
    assert [one.where.split(": ")[1] for one in labels.dropped] == ["row 5", "row 6", "row 7"]
    counted = read_labels(tmp_path / "x.csv", field="error_count")
    assert counted.fields == ("error_count",)
    assert counted.matrix("error_count").values.shape == (2, 2)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff", "\ufeffsep=;\r\n"])
def test_marks_line_ends_and_delimiters(
    tmp_path: Path, delimiter: str, end: str, mark: str
) -> None:
    rows = [["Item_ID", "user", "Score", "field"], ["a", "A2", "1", "f"], ["a", "A1", '"x;, "', ""]]
    rows[2][2] = '"x;,\t ""y"""'
    text = mark + end.join(delimiter.join(row) for row in rows) + end
    labels = read_labels(write(tmp_path / "x", text))
    assert [(one.annotator, one.field, one.value) for one in labels.labels] == [
        ("A2", "f", 1.0),
        ("A1", "value", 'x;,\t "y"'),
    ]
    assert labels.labels[0].where.endswith("row 3" if "sep" in mark else "row 2")


def test_wide_tables(tmp_path: Path) -> None:
    text = "id;question;response;jane@example.com;bob\na;Why?;one;1;0\nb;Why?;two;;3\nc;Why?;x;;\n"
    (item,) = make_items("one")
    path = write(tmp_path / "x.csv", text.replace("a;", f"{item.item_id};", 1))
    labels = read_labels(path)
    assert len(labels.labels) == 3
    assert labels.drop_counts() == {"no answer": 1}
    assert labels.remarks == (f"{path}: taken as annotators, one column each: 2 columns",)
    joined = read_labels(path, items=[item])
    assert sorted(values(joined).values()) == [0, 1]
    assert joined.drop_counts() == {"no answer": 1, "no item has this id": 1}


def test_unknown_and_broken_tables_are_clear(tmp_path: Path) -> None:
    for text, message in (
        ("some text", "unknown columns: some text; expected item_id, annotator, value"),
        ("name,age\nx@y.org,3\n", "unknown columns: name, age"),
        ("item_id,annotator,when\na,b,c\n", "columns item_id, annotator, when; expected"),
        ("item_id,bob@x.org,bob@x.org\na,1,2\n", r"columns occur twice: \[e-mail\]"),
        ('item_id,annotator,value\na,b,"1\n', "line 2: broken quoting"),
        (
            '{"action_id": 1}\n{"action_id": 2}',
            r"in no known format \(action_id\); expected Potato",
        ),
        ('{"user_id": "x@y.org", ', "in no known format .broken JSON"),
        ('[{"id": 1}]', "in no known format"),
    ):
        with pytest.raises(ConfigError, match=message):
            read_labels(write(tmp_path / "x", text))
    (tmp_path / "x").write_bytes("item_id,annotator,value\né,b,1\n".encode("cp1252"))
    with pytest.raises(ConfigError, match=r"not UTF-8 text \(byte 25\); save it as UTF-8"):
        read_labels(tmp_path / "x")
    (tmp_path / "x").write_bytes("item_id".encode("utf-16"))
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_labels(tmp_path / "x")
    with pytest.raises(ConfigError, match=r"cannot read .*No such file"):
        read_labels(tmp_path / "missing")
    (tmp_path / "jane@example.com").mkdir()
    with pytest.raises(ConfigError, match=r"holds no annotator's labels.*\[e-mail\], x\)"):
        read_labels(tmp_path)


def test_empty_files_and_ragged_rows_are_reported(tmp_path: Path) -> None:
    paths = [write(tmp_path / str(i), text) for i, text in enumerate(("", "\ufeff \n", "[]"))]
    paths.append(write(tmp_path / "3", "item_id,annotator,value\n"))
    paths.append(write(tmp_path / "4", "item_id,annotator,value\n\na,b\na,b,1,2\na,b,1\n"))
    labels = read_labels(paths)
    assert len(labels.labels) == 1
    assert labels.drop_counts() == {
        "empty file": 3,
        "another width": 2,
        "no rows under the header": 1,
    }
    assert labels.dropped[-1].where == f"{tmp_path / '4'}: row 4"
    assert labels.dropped[-1].detail == "4 cells, but the header has 3"
    assert labels.labels[0].where.endswith("row 5")


def test_two_labels_by_one_annotator(tmp_path: Path) -> None:
    rows = ["a,x,1", "a,x,1.0", "b,x,1", "b,x,2", "b,y,2"]
    path = write(tmp_path / "x", "\n".join(["item_id,annotator,value", *rows]))
    labels = read_labels(path)
    assert len(labels.labels) == 2
    assert labels.drop_counts() == {"one annotator gave different labels to one item and field": 2}
    assert [one.where for one in labels.dropped] == [f"{path}: row 4", f"{path}: row 5"]
    assert labels.remarks == ("labels that occur again with the same value, counted once: 1",)


def test_scales_that_differ(tmp_path: Path) -> None:
    rows = ["a,x,1", "b,x,2", "c,x,n/a", "d,x,nan", "e,x,1_0", "f,x,1e3", "g,x,"]
    path = write(tmp_path / "x", "\n".join(["item_id,annotator,value", *rows]))
    labels = read_labels(path)
    assert [label.value for label in labels.labels] == [1, 2, 1000]
    reason = "value: not on the scale of the field's other labels, which are numbers"
    assert labels.drop_counts() == {reason: 3, "no answer": 1}
    words = read_labels(write(tmp_path / "x", "item_id,annotator,value\na,x,1\nb,x,no\nc,x,no"))
    assert [label.value for label in words.labels] == ["no", "no"]


def test_fields_that_no_label_has(tmp_path: Path) -> None:
    path = write(tmp_path / "x", "item_id,annotator,value,field\na,x,1,error_count\n")
    with pytest.raises(ConfigError, match=r"no label is of the field 'error_cout' \(did you mean"):
        read_labels(path, field="error_cout")
    with pytest.raises(ConfigError, match="no label files given"):
        read_labels([])


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


# --- Potato's options


def potato_1(user: str, rows: dict[str, dict[str, dict[str, str]]]) -> str:
    """Return a file of Potato 1.x."""
    lines = [
        {"id": item, "displayed_text": f"text {item}", "label_annotations": given}
        for item, given in rows.items()
    ]
    return "".join(json.dumps(one) + "\n" for one in lines)


def test_options_of_potato_1_are_answers_to_their_schema(tmp_path: Path) -> None:
    given = {
        "a": {
            "has_error": {"yes": "has_error:::yes"},
            "tone": {"rude": "2"},
            "kinds": {"date": "1", "name": "3"},
            "rate": {"scale_2": "2"},
            "count": {"text_box": "12"},
            "why": {"text_box": "12 of them"},
            "slider": {"length": "7"},
            "pick": {"select-one": "one"},
            "aspects": {"style": "3", "facts": "3"},
        },
        "b": {
            "has_error": {"no": "has_error:::no", "free_response": "odd"},
            "tone": {"calm": "1"},
            "kinds": {"date": "1"},
            "rate": {"bad_text": "0"},
            "count": {"text_box": "0"},
            "why": {"text_box": "3"},
            "aspects": {"style": "1", "facts": "2"},
        },
        "c": {"tone": {"rude": "2"}, "rate": {"scale_5": "5"}},
    }
    labels = read_labels(write(tmp_path / "x" / "annotated_instances.jsonl", potato_1("x", given)))
    assert answers(labels, "A1") == {
        ("a", "has_error"): "yes",
        ("a", "tone"): "rude",
        ("a", "rate"): 2,
        ("a", "count"): 12,
        ("a", "why"): "12 of them",
        ("a", "length"): 7,
        ("a", "pick"): "one",
        ("a", "aspects.style"): 3,
        ("a", "aspects.facts"): 3,
        ("b", "has_error"): "no",
        ("b", "has_error.free_response"): "odd",
        ("b", "tone"): "calm",
        ("b", "kinds"): "date",
        ("b", "count"): 0,
        ("b", "why"): "3",
        ("b", "aspects.style"): 1,
        ("b", "aspects.facts"): 2,
        ("c", "tone"): "rude",
        ("c", "rate"): 5,
    }
    assert labels.drop_counts() == {
        "several answers where one is expected": 1,
        "rate: not on the scale of the field's other labels, which are numbers": 1,
    }


def test_tables_of_potato_1_and_key_bound_options_of_2(tmp_path: Path) -> None:
    header = "user\tinstance_id\tdisplayed_text\tq:::good\tq:::bad\tspan_annotation:::who"
    rows = ["jo\ti1\tx\tq:::good\t\t[]", "jo\ti2\ty\t\tq:::bad\t[{'start': 1}]"]
    table = read_labels(write(tmp_path / "a.tsv", "\n".join([header, *rows]) + "\n"))
    assert answers(table, "A1") == {("i1", "q"): "good", ("i2", "q"): "bad"}
    for field in ("has_error", "q"):
        given = {
            "i1": [(field, "yes", "1")],
            "i2": [(field, "no", "2")],
            "i3": [(field, "no", "2")],
        }
        found = read_labels(write(tmp_path / "user_state.json", state("x", given)))
        said = {("i1", field): "yes", ("i2", field): "no", ("i3", field): "no"}
        assert answers(found, "A1") == said


def test_the_configuration_tells_options_from_boxes(tmp_path: Path) -> None:
    given = {"i1": [("q", "yes", "1"), ("n", "yes", "1")], "i2": [("q", "yes", "1")]}
    path = tmp_path / "annotation_output" / "x" / "user_state.json"
    schemes = ["{name: q, annotation_type: radio}", "{name: n, annotation_type: text}"]
    write(tmp_path / "config.yaml", f"annotation_schemes: [{', '.join(schemes)}]\n")
    labels = read_labels(write(path, state("x", given)))
    assert answers(labels, "A1") == {("i1", "q"): "yes", ("i2", "q"): "yes", ("i1", "n.yes"): 1}


def test_rankings_are_no_answers_and_pairs_and_trees_are(tmp_path: Path) -> None:
    given = {
        "i1": [("r", "rank_order", "b,a"), ("p", "selection", "A"), ("p", "justification", "why")],
        "i2": [("t", "selected_labels", "animal"), ("s", "scale_value", "-2")],
        "i3": [("t", "selected_labels", "animal,plant")],
    }
    labels = read_labels(write(tmp_path / "user_state.json", state("x", given)))
    assert answers(labels, "A1") == {
        ("i1", "p"): "A",
        ("i1", "p.justification"): "why",
        ("i2", "t"): "animal",
        ("i2", "s"): -2,
    }
    assert labels.drop_counts() == {"several answers where one is expected": 1}
    assert labels.remarks[0].endswith("not read, as no answers: r")


# --- tables of people's own


def test_the_items_own_column_and_a_column_of_answers(tmp_path: Path) -> None:
    text = "q_id;annotator;quality;answer\nq1;jo;3;x y\nq1;al;4;x y\nq2;jo;1;z\n"
    path = write(tmp_path / "a.csv", text)
    with pytest.raises(ConfigError, match="unknown columns"):
        read_labels(path)
    labels = read_labels(path, reading=FileReading(item="q_id", answer="quality"))
    assert (labels.fields, labels.item_ids) == (("quality",), ("q1", "q2"))
    assert sorted(values(labels, "quality").values()) == [1, 3, 4]
    wide = write(tmp_path / "b.csv", "q_id,jo,al\nq1,1,2\n")
    assert len(read_labels(wide, reading=FileReading(item="q_id")).labels) == 2


def test_columns_of_wide_tables_that_are_no_people(tmp_path: Path) -> None:
    header = ",item_id,prompt,jo,al,timestamp,when,remark,why,notes"
    why = "because all of the long answer is wrong {}"
    rows = [f"{i},i{i},p {i},yes,no,5,2026-11-0{i} 10:00,r,{why.format(i)},n" for i in range(1, 5)]
    path = write(tmp_path / "a.csv", "\n".join([header, *rows]))
    labels = read_labels(path)
    assert len(labels.annotators) == 2
    assert {one.value for one in labels.labels} == {"yes", "no"}
    beside = "columns; 5 are not read: times, texts, numbering"
    assert labels.remarks == (f"{path}: taken as annotators, one column each: 2 {beside}",)


def test_cells_with_several_people_or_answers(tmp_path: Path) -> None:
    rows = ["a,jo,yes", "b,al,no", "c,jo; al,no", "d,jo,\"['yes', 'no']\"", 'e,al,"[""no""]"']
    path = write(tmp_path / "a.csv", "\n".join(["item_id,annotator,value", *rows]))
    labels = read_labels(path)
    assert sorted(one.item_id for one in labels.labels) == ["a", "b", "e"]
    assert labels.drop_counts() == {
        "several annotators in one cell": 1,
        "several answers where one is expected": 1,
    }


def test_texts_that_differ_in_tables(tmp_path: Path) -> None:
    rows = ["a,jo,1,Why?,one", "a,al,2,Why?,two", "b,jo,1,Why?,x", "b,al,1,Why?, x"]
    path = write(
        tmp_path / "a.csv", "\n".join(["item_id,annotator,value,prompt,completion", *rows])
    )
    labels = read_labels(path)
    assert labels.item_ids == ("b",)
    assert labels.drop_counts() == {OTHER_TEXT: 2}


def test_texts_are_still_held_against_each_other_after_an_import(tmp_path: Path) -> None:
    rows = {"jo": "one,x", "al": "two,x"}
    for form in ("csv", "json"):
        saved = []
        for name, texts in rows.items():
            text = (
                f"item_id,annotator,value,prompt,completion\na,{name},1,{texts}\nb,{name},1,y,y\n"
            )
            labels = read_labels(write(tmp_path / "in.csv", text))
            saved += save_labels(labels, tmp_path / f"{name}.{form}")
        found = read_labels(saved)
        assert found.item_ids == ("b",)
        assert found.drop_counts() == {OTHER_TEXT: 2}


# --- labels that are sentences, and what they stand for

SENTENCES = (
    "item_id,annotator,value,field\n"
    'a,jo,"Yes, there is an error",q\na,al,"YES,  there is an error",q\n'
    "b,jo,No error at all,q\nb,al,I cannot say,q\nc,jo,Something else,q\n"
    "a,jo,Yes,has_error\n"
)
CLASSES = "'Yes, there is an error': yes\nNo error at all: 'no'\nI cannot say: null\n"


def test_sentences_are_matched_to_classes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", SENTENCES)
    meanings = read_meanings(write(tmp_path / "classes.yaml", CLASSES))
    labels = read_labels(path, reading=FileReading(meanings=meanings))
    assert sorted(values(labels, "q").items()) == sorted(
        {("a", "A1"): "yes", ("a", "A2"): "yes", ("b", labels_of(labels, "no")): "no"}.items()
    )
    assert values(labels, "has_error") == {("a", labels_of(labels, "no")): "yes"}
    assert labels.drop_counts() == {
        "q: no label, by the map of labels": 1,
        "q: the map of labels has no class for it": 1,
    }
    numbers = json.dumps({"q": {"Yes, there is an error": 1, "no error AT ALL": 0}})
    by_field = read_meanings(write(tmp_path / "numbers.json", numbers))
    coded = read_labels(path, reading=FileReading(meanings=by_field))
    assert sorted(values(coded, "q").values()) == [0, 1, 1]


def labels_of(labels: LabelSet, value: str) -> str:
    return next(one.annotator for one in labels.labels if one.value == value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n", "is no map of labels"),
        ("a: [1]\n", r"the class of 'a' is \[1\]; expected a YAML or JSON file of LABEL: CLASS"),
        ("A: 1\na: 2\n", "'a' has two classes"),
        (
            "nothing of this: yes\n",
            r"none of its labels is in the files, which have 'i cannot say'",
        ),
        ("{qq: {a: 1}}\n", r"no label is of the field 'qq' \(did you mean 'q'\?\)"),
    ],
)
def test_maps_that_do_not_fit_are_clear(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "a.csv", SENTENCES)
    with pytest.raises(ConfigError, match=message):
        read_labels(
            path, reading=FileReading(meanings=read_meanings(write(tmp_path / "m.yaml", text)))
        )
