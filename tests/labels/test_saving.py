"""Imported labels in files of ours: what goes in comes out, as CSV and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eft_eval.errors import ConfigError
from eft_eval.labels import Dropped, Label, LabelSet, Origin, read_labels, save_labels
from eft_eval.labels.people import scrub
from eft_eval.labels.scheme import is_blank, read_value

printable = st.characters(blacklist_categories=("Cs",), blacklist_characters="\r\x00")
words = st.text(printable, min_size=1, max_size=12).filter(
    lambda text: (
        text == text.strip() and scrub(text) == text and read_value("w", text) == text
        if not is_blank(text)
        else False
    )
)
numbers = st.integers(-(10**6), 10**6).map(lambda n: n / 64) | st.sampled_from([1e-7, 1 / 3, 1e17])
answers = st.dictionaries(
    st.tuples(st.integers(0, 5), st.sampled_from(["A1", "A2"])),
    st.tuples(numbers, words),
    min_size=1,
)
origins = st.tuples(
    st.sampled_from(["", "eli5_fact"]),
    st.sampled_from(["", "p1"]),
    st.sampled_from([None, True, False]),
)


def make(given_answers, origin) -> LabelSet:
    labels = []
    for (item, annotator), (number, word) in given_answers.items():
        for field, value in (("n", number), ("w", word)):
            labels.append(Label(f"item {item}", annotator, field, value, "f" * 64, ""))
    known = {label.item_id: Origin(*origin) for label in labels} if any(origin) else {}
    return LabelSet(tuple(labels), (), (), known)


@given(answers, origins)
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, given_answers, origin) -> None:
    labels = make(given_answers, origin)
    folder = tmp_path_factory.mktemp("saved")
    for kind in ("csv", "json"):
        (path,) = save_labels(labels, folder / f"labels.{kind}")
        back = read_labels(path)
        assert back.dropped == ()
        assert [(x.item_id, x.annotator, x.field, x.value, x.text_sha256) for x in back.labels] == [
            (x.item_id, x.annotator, x.field, x.value, x.text_sha256) for x in labels.labels
        ]
        named = {name: one for name, one in labels.origins.items() if one != Origin("", "", None)}
        assert dict(back.origins) == named


def test_what_was_dropped_stays_dropped(tmp_path: Path) -> None:
    labels = LabelSet(
        (Label("i", "A1", "x", 1.0, None, ""),),
        (Dropped("a.csv: row 3", "no item has this id", "=who"),),
        ("a remark",),
    )
    path, beside = save_labels(labels, tmp_path / "l.csv")
    assert beside.read_text("utf-8") == (
        "where,reason,detail\na.csv: row 3,no item has this id,'=who\n"
    )
    (path,) = save_labels(labels, tmp_path / "l.json")
    back = read_labels(path)
    assert back.drop_counts() == {"no item has this id": 1}
    assert "a.csv: row 3" in back.dropped[0].where
    assert any("a remark" in text for text in back.remarks)
    # the second import has nothing to drop: no stale list stays beside it
    save_labels(LabelSet(labels.labels), tmp_path / "l.csv")
    assert not beside.exists()


@pytest.mark.parametrize("broken", [{"labels": 3}, {"labels": [{}]}, {}, {"origins": []}])
def test_a_damaged_file_is_named(tmp_path: Path, broken: dict[str, object]) -> None:
    path = tmp_path / "l.json"
    path.write_text(json.dumps({"format": "eft-eval labels", **broken}), "utf-8")
    with pytest.raises(ConfigError, match="damaged file of labels"):
        read_labels(path)
