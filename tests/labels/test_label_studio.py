"""Label Studio's exports: what its own converter writes, whose items, and what is an answer."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from judged_runs import write
from label_files import OTHER_TEXT

from eft_eval.errors import ConfigError
from eft_eval.labels import FileReading, LabelSet, read_labels

MADE = Path(__file__).parent / "files" / "label_studio"  # by make_label_studio.py
ANSWERS = {  # of the two people, as `make_label_studio.py` gave them, by q_id
    ("a", "verdict"): ("good", "bad"),
    ("a", "errors"): (0, 0),
    ("a", "stars"): (4, 3),
    ("a", "why"): ("so", "so"),
    ("b", "verdict"): ("bad", "good"),
    ("b", "errors"): (1, 2),
    ("b", "stars"): (3, 2),
    ("b", "why"): ("one, two\nthree", "one, two\nthree"),
    ("b", "faults"): ("wrong", "wrong"),
    ("c", "verdict"): ("good", None),
    ("c", "errors"): (2, None),
    ("c", "stars"): (2, None),
    ("c", "why"): ("so", None),
    ("c", "faults"): ("wrong", None),
}


def answers(labels: LabelSet) -> dict[tuple[str, str, str], float | str]:
    return {(one.item_id, one.field, one.annotator): one.value for one in labels.labels}


@pytest.mark.parametrize("name", ["export.json", "json_min.json", "csv.csv", "tsv.tsv"])
def test_all_exports_of_one_project_hold_the_same_labels(name: str) -> None:
    labels = read_labels(MADE / name, reading=FileReading(item="q_id"))
    found = answers(labels)
    first, second = labels.annotators
    if found["a", "verdict", first] == "bad":
        first, second = second, first
    for (item, field), given in ANSWERS.items():
        assert (found.get((item, field, first)), found.get((item, field, second))) == given
    assert {one.value for one in labels.labels if one.field == "topic"} == {"science / physics"}
    assert {one.value for one in labels.labels if one.field == "read_on"} == {"2026-11-20"}
    assert labels.fields == ("errors", "faults", "read_on", "stars", "topic", "verdict", "why")
    several = {"several answers where one is expected": 2}
    skipped = {"cancelled": 1} if name == "export.json" else {}
    assert labels.drop_counts() == several | skipped
    assert any("not read, as no answers: spans" in one for one in labels.remarks)


def test_the_same_labels_of_several_exports_count_once() -> None:
    paths = [MADE / "export.json", MADE / "json_min.json", MADE / "csv.csv", MADE / "tsv.tsv"]
    labels = read_labels(paths, reading=FileReading(item="q_id"))
    alone = read_labels(paths[0], reading=FileReading(item="q_id"))
    assert answers(labels) == answers(alone)
    assert len(labels.annotators) == 2


def flat(number: int, data: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    about = {"annotator": 8, "annotation_id": number, "created_at": "x", "updated_at": "x"}
    return {**data, "id": number, **given, **about, "lead_time": 1.0}


def test_data_is_no_answer_wherever_it_stands(tmp_path: Path) -> None:
    rows = [
        flat(i, {"q_id": f"q{i}", "answer1": "one", "answer2": "two"}, {"better": "A"})
        for i in range(3)
    ]
    after = read_labels(write(tmp_path / "a.json", json.dumps(rows)))
    assert after.fields == ("better",)
    # an earlier order of names: number, data, what is said of the annotation, answers
    early = [
        {
            "id": one["id"],
            **{k: v for k, v in one.items() if k not in ("id", "better")},
            "better": 1,
        }
        for one in rows
    ]
    assert read_labels(write(tmp_path / "b.json", json.dumps(early))).fields == ("better",)
    # the data's own number stands first: nothing shows where the answers begin
    own = [{"id": one["id"], **one} for one in rows]
    unclear = read_labels(write(tmp_path / "c.json", json.dumps(own)))
    assert unclear.labels == ()
    assert "which columns are answers cannot be told from the data" in unclear.remarks[0]
    named = read_labels(tmp_path / "c.json", field="better")
    assert [one.value for one in named.labels] == ["A"] * 3
    # two people's annotations of one task: what differs is no data
    both = [*own, {**own[0], "annotation_id": 9, "annotator": 9, "better": "B"}]
    assert read_labels(write(tmp_path / "d.json", json.dumps(both))).fields == ("better",)


def test_a_csv_that_shows_no_answers_says_so(tmp_path: Path) -> None:
    header = "annotation_id,annotator,better,created_at,id,lead_time,q_id,updated_at"
    text = f"{header}\n1,8,A,x,1,1.0,q1,x\n2,8,B,x,2,1.0,q2,x\n"
    path = write(tmp_path / "a.csv", text)
    labels = read_labels(path)
    assert labels.labels == ()
    assert labels.remarks[0].endswith("name one with --field: better, q_id")
    named = read_labels(path, reading=FileReading(item="q_id", answer="better"))
    assert answers(named) == {("q1", "better", "A1"): "A", ("q2", "better", "A1"): "B"}


def task(number: int, data: Mapping[str, Any], value: str, **more: Any) -> dict[str, Any]:
    result = {"from_name": "has_error", "to_name": "r", "type": "choices"}
    answer = {"completed_by": 1, "result": [{**result, "value": {"choices": [value]}}], **more}
    return {"id": number, "data": data, "annotations": [answer]}


def two_instances(folder: Path, **data: Any) -> Sequence[Path]:
    """Two people's local instances, which number the tasks and the people each by itself."""
    texts = ["is the sky green?", "2+2?", "capital of France?"]
    rows = [{"id": 1000 + i, "question": text, "response": "yes"} for i, text in enumerate(texts)]
    mine = [task(i, {**row, **data}, "yes") for i, row in enumerate(rows)]
    theirs = [task(i, {**row, **data}, "no") for i, row in enumerate(rows[::-1])]
    return [
        write(folder / "jane.json", json.dumps(mine)),
        write(folder / "bob.json", json.dumps(theirs)),
    ]


def test_another_text_under_one_id_is_left_out_and_counted(tmp_path: Path) -> None:
    paths = two_instances(tmp_path)
    one_each = FileReading(person_per_file=True)
    labels = read_labels(paths, reading=one_each)
    # the task in the middle has one number in both
    assert {one.item_id for one in labels.labels} == {"1"}
    assert labels.drop_counts() == {OTHER_TEXT: 4}
    own = read_labels(paths, reading=FileReading(item="id", person_per_file=True))
    assert len(own.labels) == 6
    assert (own.annotators, own.item_ids) == (("A1", "A2"), ("1000", "1001", "1002"))
    assert own.drop_counts() == {}
    assert "jane" not in repr(own)
    assert "bob" not in repr(own)


def test_one_number_in_two_files_is_one_person_with_a_remark(tmp_path: Path) -> None:
    labels = read_labels(two_instances(tmp_path), reading=FileReading(item="data.id"))
    assert labels.drop_counts() == {"one annotator gave different labels to one item and field": 6}
    assert "give --person-per-file" in labels.remarks[0]
    both = write(
        tmp_path / "both.json",
        json.dumps(
            [
                {
                    **task(1, {"a": "b"}, "yes"),
                    "annotations": [{"completed_by": who, "result": []} for who in (1, 2)],
                }
            ]
        ),
    )
    with pytest.raises(ConfigError, match="under the names of 2 annotators; --person-per-file"):
        read_labels(both, reading=FileReading(person_per_file=True))


def test_texts_under_any_name_make_an_item_and_a_files_own_mark_does_not(tmp_path: Path) -> None:
    def export(name: str, batch: str, replies: Sequence[str]) -> Path:
        data = [{"prompt": f"p{i}", "reply": one, "batch": batch} for i, one in enumerate(replies)]
        who = {"completed_by": name}
        tasks = [task(i, one, "yes", **who) for i, one in enumerate(data)]
        return write(tmp_path / f"{name}.json", json.dumps(tasks))

    paths = [export("x", "x's", ["a", "b", "c"]), export("y", "y's", ["a", "b", "other"])]
    labels = read_labels(paths)
    assert sorted(answers(labels)) == [
        (item, "has_error", who) for item in ("0", "1") for who in ("A1", "A2")
    ]
    assert labels.drop_counts() == {OTHER_TEXT: 2}
    # the text that most people saw stands
    more = read_labels([*paths, export("z", "z's", ["a", "b", "c"])])
    assert len(more.labels) == 8
    assert more.drop_counts() == {OTHER_TEXT: 1}


def test_an_item_column_that_no_file_has(tmp_path: Path) -> None:
    for name in ("export.json", "json_min.json", "csv.csv"):
        with pytest.raises(
            ConfigError, match=r"no column or data field 'qid' .*did you mean 'q_id'"
        ):
            read_labels(MADE / name, reading=FileReading(item="qid"))


def test_annotations_by_nobody_and_of_versions_before_1(tmp_path: Path) -> None:
    rows = json.loads((MADE / "export.json").read_text("utf-8"))
    for one in rows:
        for annotation in one["annotations"]:
            annotation["completed_by"] = None
    path = write(tmp_path / "nobody.json", json.dumps(rows))
    nobody = read_labels(path)
    assert nobody.labels == ()
    assert nobody.drop_counts() == {"no annotator": 5, "cancelled": 1}
    assert "names no annotator; --person-per-file takes it" in nobody.remarks[-1]
    with (MADE / "csv.csv").open(newline="", encoding="utf-8") as file:
        table = list(csv.reader(file))
    for row in table[1:]:
        row[1] = "None"  # as the converter writes a missing annotator
    sheet = tmp_path / "nobody.csv"
    with sheet.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(table)
    assert read_labels(sheet).drop_counts() == {"no annotator": 5}
    old = [
        {"id": one["id"], "data": one["data"], "completions": one["annotations"][:1]}
        for one in rows
    ]
    before = write(tmp_path / "old.json", json.dumps(old))
    found = read_labels(before, reading=FileReading(item="q_id", person_per_file=True))
    assert [found.matrix("errors").values.tolist()] == [[[0], [1], [2]]]


def test_a_person_by_number_and_by_address_is_one(tmp_path: Path) -> None:
    person = {"id": 7, "email": "jane@example.com"}
    tasks = [
        task(1, {"t": "a"}, "yes", completed_by=person),
        task(2, {"t": "b"}, "no", completed_by=7),
    ]
    labels = read_labels(write(tmp_path / "a.json", json.dumps(tasks)))
    assert (labels.annotators, len(labels.labels)) == (("A1",), 2)


def test_annotations_that_are_no_list_are_reported(tmp_path: Path) -> None:
    tasks = [task(1, {"t": "a"}, "yes"), {**task(2, {"t": "b"}, "no"), "annotations": 5}]
    labels = read_labels(write(tmp_path / "a.json", json.dumps(tasks)))
    assert (labels.item_ids, labels.drop_counts()) == (("1",), {"not annotated": 1})
