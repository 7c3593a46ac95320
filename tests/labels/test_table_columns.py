"""Words for nothing, headers and columns that are not what they seem."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from label_files import write

from eft_eval.errors import ConfigError
from eft_eval.labels import FileReading, read_labels, read_meanings


def test_words_for_an_empty_cell_are_no_class(tmp_path: Path) -> None:
    rows = ["a,jo,yes", "b,jo,N/A", "c,jo,#N/A", "d,jo,nan", "e,jo,-", "a,al,no", "b,al,NULL"]
    path = write(tmp_path / "a.csv", "\n".join(["item_id,annotator,value", *rows]))
    labels = read_labels(path)
    assert sorted(str(one.value) for one in labels.labels) == ["no", "yes"]
    assert labels.drop_counts() == {
        "value: a word for no answer (--map-labels gives it a class)": 5
    }
    wide = read_labels(write(tmp_path / "b.csv", "item_id,jo,al\na,1,<NA>\nb,n/a,0\nc,–,1\n"))
    assert sorted(float(one.value) for one in wide.labels) == [0, 1, 1]
    assert sum(wide.drop_counts().values()) == 3
    meant = write(tmp_path / "m.yaml", "yes: 1\nno: 0\nN/A: unclear\n")
    mapped = read_labels(path, reading=FileReading(meanings=read_meanings(meant)))
    assert [one.value for one in mapped.labels if one.item_id == "b"] == []
    assert "value: not on the scale of the field's other labels, which are numbers" in (
        mapped.drop_counts()
    )
    words = write(tmp_path / "w.yaml", "yes: bad\nno: good\nN/A: unclear\nNULL: unsaid\n")
    mapped = read_labels(path, reading=FileReading(meanings=read_meanings(words)))
    unclear = [one.value for one in mapped.labels if one.item_id == "b"]
    assert unclear == ["unclear", "unsaid"]  # YAML reads NULL as nothing


@pytest.mark.parametrize(
    "header", ["Item ID,Annotator Name,Label", "itemId,WorkerId,Value", "ITEM-ID,Rater ID,Score"]
)
def test_headers_as_people_write_them(tmp_path: Path, header: str) -> None:
    labels = read_labels(write(tmp_path / "a.csv", f"{header}\na,jo,1\nb,al,0\n"))
    assert sorted((one.item_id, one.value) for one in labels.labels) == [("a", 1), ("b", 0)]
    assert len(labels.annotators) == 2


def test_several_questions_in_a_long_table_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "item_id,annotator,fluency,adequacy\na,jo,1,2\nb,jo,3,4\n")
    with pytest.raises(ConfigError, match="with --field: fluency, adequacy"):
        read_labels(path)
    found = read_labels(path, reading=FileReading(answer="adequacy"))
    assert [one.value for one in found.labels] == [2, 4]


def test_means_and_majorities_are_nobody(tmp_path: Path) -> None:
    header = "item_id,ann1,ann2,mean,Majority Vote,gold_label,confidence,stdev,n_ratings"
    rows = ["a,1,0,0.5,1,1,0.9,0.7,2", "b,0,0,0,0,0,0.8,0,2"]
    labels = read_labels(write(tmp_path / "a.csv", "\n".join([header, *rows])))
    assert sorted(float(one.value) for one in labels.labels) == [0, 0, 0, 1]
    assert len(labels.annotators) == 2
    assert "2 columns; 6 are not read: times, texts, numbering, means" in labels.remarks[0]


@pytest.mark.parametrize(
    ("header", "people"),
    [
        ("gold_label", 1),  # an adjudicator's sheet
        ("gold,judge", 2),
        ("mean,sd,n", 1),
        ("JK,SD,N", 3),  # initials
        ("JK,AB,mean,SD,N", 2),
    ],
)
def test_a_gold_label_alone_and_initials_are_somebodys(
    tmp_path: Path, header: str, people: int
) -> None:
    cells = ",1" * len(header.split(","))
    labels = read_labels(write(tmp_path / "a.csv", f"item_id,{header}\na{cells}\nb{cells}\n"))
    assert (len(labels.annotators), len(labels.labels)) == (people, 2 * people)


@pytest.mark.parametrize(
    "header",
    ["expert_1,expert_2,crowd_1,crowd_2", "Humans 1,Humans 2,LLM 1,LLM 2",
     "group_1_rater_1,group_1_rater_2,group_2_rater_1,group_2_rater_2"],
)  # fmt: skip
def test_people_with_numbers_are_no_questions(tmp_path: Path, header: str) -> None:
    labels = read_labels(write(tmp_path / "a.csv", f"item_id,{header}\na,1,0,1,0\n,1,1,1,1\n"))
    assert (len(labels.annotators), len(labels.labels)) == (4, 4)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("item_id,ann_1_style,ann_1_tone,ann_2_style,ann_2_tone\na,1,2,3,4\n", "2 times 2"),
        ("item_id,style_1,style_2,tone_1,tone_2\na,1,2,3,4\n", "2 times 2"),
        ("item_id,jo_fluency,jo_style,al_fluency,al_style\na,1,2,3,4\n", "2 times 2"),
        ("item_id,Q1.R1,Q1.R2,Q2.R1,Q2.R2,Q3.R1,Q3.R2\na,1,2,3,4,5,6\n", "3 times 2"),
        ("item_id,hit,answer_given\na,h1,yes\na,h2,no\nb,h3,no\nb,h4,no\n", "several rows"),
    ],
)
def test_what_is_no_table_of_one_column_per_person(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_labels(write(tmp_path / "a.csv", text))


def test_spans_of_doccano_are_nobodys_answers(tmp_path: Path) -> None:
    spans = [{"id": i, "text": "t", "entities": [{"label": "X", "end": 2}]} for i in range(3)]
    path = write(tmp_path / "jo.jsonl", "\n".join(map(json.dumps, spans)))
    with pytest.raises(ConfigError, match="with --field: entities"):
        read_labels(path, reading=FileReading(item="id", person_per_file=True))


def test_notes_beside_each_persons_answers_are_nobodys(tmp_path: Path) -> None:
    rows = ["a,1,0,ok,", "b,0,0,,bad", "c,1,1,fine,ok"]
    text = "\n".join(["item_id,jo,al,jo_notes,al comment", *rows])
    labels = read_labels(write(tmp_path / "a.csv", text))
    assert len(labels.annotators) == 2
    assert sorted(float(one.value) for one in labels.labels) == [0, 0, 0, 1, 1, 1]


def test_names_that_differ_in_capitals_alone_are_remarked_on(tmp_path: Path) -> None:
    rows = ["a,Bob Low,1", "b,bob low,1", "a,al,0", "b,BobLow,0"]
    labels = read_labels(write(tmp_path / "a.csv", "\n".join(["item_id,annotator,value", *rows])))
    (remark,) = labels.remarks
    assert "differ in capitals or blanks alone" in remark
    assert len(remark.rpartition(": ")[2].split(", ")) == 3
    assert len(labels.annotators) == 4
