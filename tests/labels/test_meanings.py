"""Labels that are sentences, and the classes that they stand for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from label_files import values, write

from eft_eval.errors import ConfigError
from eft_eval.labels import FileReading, LabelSet, read_labels, read_meanings

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
