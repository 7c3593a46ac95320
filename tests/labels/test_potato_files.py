"""Potato's files: what 2.x and 1.x wrote, whose it is, and what is an answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from label_files import OTHER_TEXT, answers, make_items, state, write

from eft_eval.labels import read_labels

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
