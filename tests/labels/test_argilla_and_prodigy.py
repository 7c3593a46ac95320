"""Argilla's exports, as its own client wrote them, and Prodigy's, as its documents show them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from judged_runs import write
from label_files import OTHER_TEXT

from eft_eval.errors import ConfigError
from eft_eval.labels import FileReading, LabelSet, read_labels

MADE = Path(__file__).parent / "files" / "argilla"  # by make_argilla.py


def answers(labels: LabelSet) -> dict[tuple[str, str, str], float | str]:
    return {(one.item_id, one.field, one.annotator): one.value for one in labels.labels}


# --- Argilla


@pytest.mark.parametrize("name", ["list.json", "names.json", "datasets.jsonl"])
def test_submitted_responses_of_argilla_are_labels(name: str) -> None:
    labels = read_labels(MADE / name)
    found = answers(labels)
    first, second = labels.annotators
    if found["a", "verdict", first] == "bad":
        first, second = second, first
    assert found == {
        ("a", "verdict", first): "good",
        ("a", "stars", first): 1,
        ("a", "why", first): "so, 0",
        ("a", "verdict", second): "bad",
        ("a", "stars", second): 2,
        ("a", "why", second): "so, 0",
        ("b", "verdict", first): "bad",
        ("b", "stars", first): 2,
        ("b", "faults", first): "wrong",
        ("b", "why", first): "so, 1",
        ("c", "verdict", first): "good",
        ("c", "stars", first): 3,
        ("c", "faults", first): "wrong",
        ("c", "why", first): "so, 2",
    }
    assert labels.drop_counts() == {
        "several answers where one is expected": 6,
        "discarded, not submitted": 5,
        "draft, not submitted": 5,
    }


def test_one_record_of_argilla_alone(tmp_path: Path) -> None:
    line = (MADE / "datasets.jsonl").read_text("utf-8").splitlines()[0]
    labels = read_labels(write(tmp_path / "one.jsonl", line))
    whole = read_labels(MADE / "datasets.jsonl")
    assert answers(labels) == {key: one for key, one in answers(whole).items() if key[0] == "a"}
    assert len(labels.labels) == 6
    record = {**json.loads(line), "verdict.responses.users": ["jo"]}  # of two responses
    fewer = read_labels(write(tmp_path / "fewer.json", json.dumps(record)))
    assert "verdict" not in fewer.fields
    assert fewer.drop_counts()["no annotator"] == 2
    empty = read_labels(write(tmp_path / "none.json", '{"verdict.responses.users": null}'))
    assert empty.drop_counts() == {"not annotated": 1}


def test_an_export_of_argilla_without_statuses_says_so() -> None:
    labels = read_labels(MADE / "records.json")
    assert len(labels.labels) == 22  # of all: nothing tells a draft
    assert "does not say which responses are drafts or discarded" in labels.remarks[0]
    with pytest.raises(
        ConfigError, match="CSV of Argilla's records, which cannot hold their lists"
    ):
        read_labels(MADE / "datasets.csv")


def test_argillas_items_texts_and_rankings(tmp_path: Path) -> None:
    one = {"value": [{"value": "x", "rank": 1}], "user_id": "u"}
    record = {
        "id": "1",
        "fields": {"prompt": "p", "reply": "r"},
        "metadata": {"key": "k1"},
        "suggestions": {},
        "responses": {"order": [one], "ok": [{"value": "yes", "user_id": "u"}]},
    }
    other = {**record, "fields": {"prompt": "p", "reply": "changed"}}
    other["responses"] = {"ok": [{"value": "no", "user_id": "v"}]}
    paths = [
        write(tmp_path / f"{i}.json", json.dumps([each])) for i, each in enumerate((record, other))
    ]
    alone = read_labels(paths[0], reading=FileReading(item="key"))
    assert answers(alone) == {("k1", "ok", "A1"): "yes"}
    assert alone.remarks[0].endswith("not read, as no answers: order")
    assert read_labels(paths).drop_counts() == {OTHER_TEXT: 2}


def test_argilla_1(tmp_path: Path) -> None:
    given = [
        {"user_id": "u", "value": "good", "status": "submitted"},
        {"user_id": "v", "value": "bad", "status": "discarded"},
    ]
    record = {"external_id": "x1", "reply": "r", "q": given, "q-suggestion": "good", "status": None}
    labels = read_labels(write(tmp_path / "a.jsonl", json.dumps(record) + "\n"))
    assert answers(labels) == {("x1", "q", "A1"): "good"}
    assert labels.drop_counts() == {"discarded, not submitted": 1}


# --- Prodigy


def task(number: int, answer: str = "accept", **more: Any) -> dict[str, Any]:
    return {
        "text": f"text {number}",
        "_input_hash": 100 + number,
        "_task_hash": -number,
        "_view_id": "choice",
        "answer": answer,
        "_annotator_id": "db-jane",
        "_timestamp": 1700000000 + number,
        **more,
    }


def lines(path: Path, *tasks: dict[str, Any]) -> Path:
    return write(path, "".join(json.dumps(one) + "\n" for one in tasks))


def test_choices_of_prodigy(tmp_path: Path) -> None:
    options = [{"id": "good", "text": "Good"}, {"id": "bad", "text": "Bad"}]
    path = lines(
        tmp_path / "a.jsonl",
        task(1, options=options, accept=["good"]),
        task(2, options=options, accept=["good", "bad"]),
        task(3, options=options, accept=[]),
        task(4, "ignore", options=options, accept=["bad"]),
        task(5, "reject", options=options, accept=["bad"]),
        task(
            6,
            options=options,
            accept=["bad"],
            user_input="because",
            _annotator_id=None,
            _session_id="db-bob",
        ),
    )
    labels = read_labels(path)
    assert {key[:2]: value for key, value in answers(labels).items()} == {
        ("101", "accept"): "good",
        ("106", "accept"): "bad",
        ("106", "user_input"): "because",
    }
    assert len(labels.annotators) == 2
    assert labels.drop_counts() == {
        "several answers where one is expected": 1,
        "no answer": 1,
        "ignored": 1,
        "rejected": 1,
    }
    assert "jane" not in repr(labels)


def test_binary_tasks_and_own_ids_of_prodigy(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "a.jsonl",
        task(1, label="INSULT", meta={"key": "m1"}),
        task(2, "reject", label="INSULT", meta={"key": "m2"}),
        task(3, "reject", meta={"key": "m3"}, spans=[{"start": 0, "end": 2, "label": "X"}]),
    )
    labels = read_labels(path, reading=FileReading(item="key"))
    assert answers(labels) == {
        ("m1", "INSULT", "A1"): "accept",
        ("m2", "INSULT", "A1"): "reject",
        ("m3", "answer", "A1"): "reject",
    }
    other = lines(tmp_path / "b.jsonl", task(1, text="changed", label="INSULT", _annotator_id="x"))
    assert read_labels([path, other], field="INSULT").drop_counts() == {OTHER_TEXT: 2}
