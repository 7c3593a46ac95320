"""Tables of labels: long, wide, of objects, and what is broken in them."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import math
from pathlib import Path

import pytest
from label_files import OTHER_TEXT, make_items, values, write

from eft_eval.errors import ConfigError
from eft_eval.labels import FileReading, LabelSet, read_labels, save_labels


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
        ("item_id,annotator,when\na,b,c\n", "the one that holds the labels with --field: when"),
        ("item_id,annotator\na,b\n", "columns item_id, annotator; expected"),
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
    with pytest.raises(ConfigError, match="UTF-16 text; save it as UTF-8"):
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
    absent = "value: a word for no answer (--map-labels gives it a class)"
    assert labels.drop_counts() == {absent: 2, reason: 1, "no answer": 1}
    far = "9" * 5000
    endless = read_labels(write(tmp_path / "x", f"item_id,annotator,value\na,x,{far}\nb,x,1\n"))
    assert endless.drop_counts() == {reason: 1}
    assert max(len(one.detail) for one in endless.dropped) == 200
    words = read_labels(write(tmp_path / "x", "item_id,annotator,value\na,x,1\nb,x,no\nc,x,no"))
    assert [label.value for label in words.labels] == ["no", "no"]


def test_fields_that_no_label_has(tmp_path: Path) -> None:
    path = write(tmp_path / "x", "item_id,annotator,value,field\na,x,1,error_count\n")
    with pytest.raises(ConfigError, match=r"no label is of the field 'error_cout' \(did you mean"):
        read_labels(path, field="error_cout")
    with pytest.raises(ConfigError, match="no label files given"):
        read_labels([])


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
    beside = "columns; 5 are not read: times, texts, numbering, means"
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


@pytest.mark.parametrize(
    ("start", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "is a Git LFS pointer"),
        (gzip.compress(b"item_id,annotator\n", mtime=0), "is gzipped"),
        (b"PK\x03\x04", "an Excel workbook"),
        (b"PAR1", "is a parquet file"),
        ("item_id,jo\n".encode("utf-16"), "is UTF-16 text"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(99), r"is an Excel workbook \(.xls\)"),
        (b"SQLite format 3\0", "is a SQLite database"),
        (b"%PDF-1.7\n", "is a PDF"),
        (lzma.compress(b"item_id,annotator\n"), "is compressed by xz"),
        (bz2.compress(b"item_id,annotator\n"), "is compressed by bzip2"),
        (b"\n<!DOCTYPE HTML><html><title>Sign in</title></html>", "is a web page"),
    ],
    ids=["lfs", "gzip", "zip", "parquet", "utf-16", "xls", "sqlite", "pdf", "xz", "bz2", "html"],
)
def test_other_files_are_named(tmp_path: Path, start: bytes, said: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes(start)
    with pytest.raises(ConfigError, match=said) as raised:
        read_labels(path)
    assert "\n" not in str(raised.value)


def test_json_of_no_tool_says_what_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "tasks.json"
    path.write_text(json.dumps([{"id": 1, "data": {"text": "x"}}]))
    with pytest.raises(ConfigError, match=r"no known format \(data, id\)"):
        read_labels(path)


ROWS = [
    {"item_id": 1, "annotator": "jo", "has_error": True, "error_count": 2, "notes": None},
    {"item_id": 1, "annotator": "al", "has_error": False, "error_count": 0},
    {"item_id": 2, "annotator": "jo", "has_error": "no", "error_count": math.nan},
]


@pytest.mark.parametrize("array", [True, False])
def test_tables_of_objects(tmp_path: Path, array: bool) -> None:
    path = tmp_path / "labels.jsonl"
    lines = [json.dumps(row) for row in ROWS]
    path.write_text("\ufeff" + (f"[{','.join(lines)}]" if array else "\r\n".join(lines)), "utf-8")
    labels = read_labels(path)
    counts, words = values(labels, "error_count"), values(labels, "has_error")
    people = {one.annotator for one in labels.labels}
    assert len(people) == 2
    assert sorted(counts.values()) == [0, 2]
    assert sorted(words.items(), key=str) == sorted(
        {("1", jo(labels)): "yes", ("1", min(people - {jo(labels)})): "no",
         ("2", jo(labels)): "no"}.items(), key=str,
    )  # fmt: skip
    assert not labels.dropped


def jo(labels: LabelSet) -> str:
    return next(one.annotator for one in labels.labels if one.item_id == "2")


def test_long_and_wide_tables_of_objects_with_ids_of_their_own(tmp_path: Path) -> None:
    long = [{"q": q, "rater": who, "score": n} for n, (q, who) in enumerate(["aj", "ak", "bj"])]
    (tmp_path / "long.json").write_text(json.dumps(long))
    reading = FileReading(item="q")
    given = values(read_labels(tmp_path / "long.json", reading=reading), "value")
    assert sorted(given.values()) == [0, 1, 2]
    assert {item for item, _ in given} == {"a", "b"}
    (tmp_path / "wide.json").write_text(json.dumps([{"item_id": "a", "jo": 1, "al": 2}]))
    assert len(read_labels(tmp_path / "wide.json").labels) == 2
    with pytest.raises(ConfigError, match="no known format"):
        read_labels(tmp_path / "long.json")
    broken = '{"item_id": 1, "annotator": "jo", "value": 1}\n{"item_id": 2, "annot\n'
    (tmp_path / "cut.jsonl").write_text(broken)
    labels = read_labels(tmp_path / "cut.jsonl")
    assert (len(labels.labels), labels.drop_counts()) == (1, {"broken JSON": 1})
