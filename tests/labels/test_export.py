"""Labels out: the items of a run, seeded samples, and exports that show texts safely."""

from __future__ import annotations

import csv
import html
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from eft_eval.errors import ConfigError
from eft_eval.judging import Status, Verdict
from eft_eval.labels import (
    Exported,
    Item,
    clean_text,
    export_csv,
    export_label_studio,
    export_potato,
    read_items,
    sample_items,
    text_hash,
)
from eft_eval.labels.potato import to_html
from eft_eval.labels.texts import from_cell, to_cell
from eft_eval.verdicts.text import write_verdicts

OLD, NEW = "2026-11-22T10-00-00.000001", "2026-11-22T10-00-01"
EXPORTS = (export_csv, export_label_studio, export_potato)
Export = Callable[..., Exported]
SECRET = 7177717.0  # a verdict that no file may tell
HOSTILE = (
    "</script><img src=x onerror=alert(1)><script>alert(2)</script>",
    '=HYPERLINK("http://example.org")',
    "first\n\n  second, the data: javascript:alert(1) &lt;b&gt; {{7*7}}",
    "שלום \u202eexe.gnp",
    "word " * 20_000,
    "",
)


def make_verdict(value: float | None, status: Status = Status.scored) -> Verdict:
    texts = {"key": "k", "judge_model": "judge-1", "prompt_name": "factuality"}
    empty = ("reason", "raw", "finish_reason", "judge_model_returned", "prompt_tokens")
    none = dict.fromkeys((*empty, "completion_tokens", "cost_usd", "price_table", "error"))
    rest: dict[str, Any] = {"prompt_version": 1, "prompt_sha256": "", "parser_version": 1}
    rest |= {"parameters": {}, "created": "2026-01-01T00:00:00+00:00"}
    return Verdict(status=status, value=value, **texts, **none, **rest)


def make_item(response: str, number: int = 0, question: str = "Why <i>?") -> Item:
    question, response = clean_text(question), clean_text(response)
    digest = text_hash(question, response)
    name = f"eli5_fact-0123456789abcdef-r{number}-{digest[:8]}"
    return Item(name, question, response, digest, "eli5_fact", "c", SECRET, "samples, doc_id 0")


def write_run(
    folder: Path, date: str, tasks: dict[str, list[dict[str, Any]]], repeats: int = 1
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    configs = {task: {"task": task, "repeats": repeats, "metadata": {}} for task in tasks}
    text = json.dumps({"configs": configs, "results": {task: {"alias": task} for task in tasks}})
    (folder / f"results_{date}.json").write_text(text, "utf-8")
    for task, samples in tasks.items():
        lines = "".join(json.dumps(sample) + "\n" for sample in samples)
        (folder / f"samples_{task}_{date}.jsonl").write_text(lines, "utf-8")


def make_sample(
    number: int, question: str, responses: list[str], verdicts: list[Verdict] | None, **other: Any
) -> dict[str, Any]:
    judged = verdicts is not None
    return {
        "doc_id": number,
        "doc": {"question": question, "prompt_id": "p", "source": "questions.jsonl"},
        "resps": [responses],
        "filtered_resps": [write_verdicts(verdicts) if verdicts else responses[0]],
        "filter": "factuality" if judged else "none",
        "metrics": ["fact_errors"] if judged else ["bypass"],
        **other,
    }


def test_the_newest_run_gives_one_item_per_response(tmp_path: Path) -> None:
    write_run(tmp_path / "m", OLD, {"eli5_fact": [make_sample(0, "Old?", ["a"], [])]})
    scored, abstained = make_verdict(2), make_verdict(None, Status.abstained)
    samples = [
        # a rank's clone appended a third answer, which was not judged
        make_sample(0, "Why?", ["one", "two\r\nlines", "clone"], [scored, abstained]),
        make_sample(1, "How?", ["three", "three"], [make_verdict(0), make_verdict(1)]),
    ]
    write_run(tmp_path / "m", NEW, {"eli5_fact": samples}, repeats=2)

    items = read_items(tmp_path)  # the run's folder is found below

    assert [item.response for item in items] == ["one", "two\nlines", "three", "three"]
    assert [item.verdict_value for item in items] == [2, None, 0, 1]
    assert [item.verdict_status for item in items][:2] == ["scored", "abstained"]
    assert {item.judge for item in items} == {"judge-1"}
    assert [item.cluster for item in items] == [items[0].cluster] * 2 + [items[2].cluster] * 2
    assert items[0].cluster != items[2].cluster
    assert len({item.item_id for item in items}) == 4
    assert items[1].source == f"samples_eli5_fact_{NEW}.jsonl, doc_id 0, repeat 1"
    for item in items:
        assert item.item_id.startswith(f"eli5_fact-{item.cluster}-r")
        assert item.item_id.endswith(f"-{item.text_sha256[:8]}")
        assert item.text_sha256 == text_hash(item.question, item.response)
    assert read_items(tmp_path / "m") == items


def test_tasks_are_those_whose_judge_counts_errors(tmp_path: Path) -> None:
    harm = make_sample(0, "Why?", ["b"], [make_verdict(9)], metrics=["harmfulness"])
    fact = make_sample(0, "Why?", ["a"], [make_verdict(1)])
    write_run(tmp_path, NEW, {"my harm": [harm], "fact": [fact]})
    assert [item.stratum for item in read_items(tmp_path)] == ["fact"]
    (item,) = read_items(tmp_path, tasks=["my harm"])
    assert item.item_id.startswith("my_harm-")
    with pytest.raises(ConfigError, match=r"no task 'facts'.*did you mean 'fact'"):
        read_items(tmp_path, tasks=["facts"])


def test_responses_without_verdicts_can_be_labelled(tmp_path: Path) -> None:
    write_run(tmp_path, NEW, {"eli5_fact": [make_sample(0, "Why?", ["a"], None)]})
    with pytest.raises(ConfigError, match="no task with samples counts factual errors"):
        read_items(tmp_path)
    (item,) = read_items(tmp_path, tasks=["eli5_fact"])
    assert (item.verdict_value, item.verdict_status, item.judge) == (None, None, None)


def test_unusable_runs_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no file or folder"):
        read_items(tmp_path / "missing")
    with pytest.raises(ConfigError, match="holds no results file of lm-eval"):
        read_items(tmp_path)
    fine = make_sample(0, "Why?", ["a"], [make_verdict(1)])
    for name, changes, message in (
        ("verdicts", {"filtered_resps": ["[{}]"]}, "its verdicts cannot be read"),
        ("count", {"filtered_resps": ["[]"]}, "1 responses, but 0 verdicts"),
        ("question", {"doc": {}}, "the document has no question"),
        ("responses", {"resps": []}, "the sample has no responses"),
    ):
        write_run(tmp_path / name, NEW, {"fact": [{**fine, **changes}]})
        with pytest.raises(ConfigError, match=message):
            read_items(tmp_path / name)
    write_run(tmp_path / "two", NEW, {"fact": [fine, {**fine, "filter": "other"}]})
    with pytest.raises(ConfigError, match="several judges"):
        read_items(tmp_path / "two")


def test_samples_depend_on_seed_and_ids_alone() -> None:
    items = [make_item(f"response {number}", number) for number in range(40)]
    sample = sample_items(items, 10, seed=3)
    assert (len(sample.items), sample.of, sample.seed) == (10, 40, 3)
    assert sample_items(reversed(items), 10, seed=3) == sample
    assert sample_items(items, 20, seed=3).items[:10] == sample.items
    assert sample_items(items, 10, seed=4).items != sample.items
    everything = sample_items(items, seed=3).items
    assert set(everything) == set(items)
    assert list(everything) != items
    assert sample_items(items, 99).of == 40
    with pytest.raises(ConfigError, match="sample of 0 items"):
        sample_items(items, 0)


@pytest.mark.parametrize("export", EXPORTS)
def test_no_export_tells_the_verdict_or_keeps_another_order(export: Export, tmp_path: Path) -> None:
    items = [make_item(text, number) for number, text in enumerate(HOSTILE)]
    exported = export(items, tmp_path / "new" / "out", about={"seed": 5})
    assert exported.folder == tmp_path / "new" / "out"
    texts = [path.read_text("utf-8") for path in exported.folder.rglob("*") if path.is_file()]
    for text in texts:
        assert "7177717" not in text
    (shown,) = (t for t in texts if items[0].item_id in t and "eft-eval label key" not in t)
    found = re.findall(r"eli5_fact-0123456789abcdef-r\d-[0-9a-f]{8}", shown)
    assert found == [item.item_id for item in items]
    key = json.loads((exported.folder / "key.json").read_text("utf-8"))
    assert key["about"] == {"seed": 5}
    assert key["items"][items[0].item_id]["text_sha256"] == items[0].text_sha256
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out"]


@pytest.mark.parametrize("export", EXPORTS)
def test_exports_replace_nothing_and_leave_nothing_half_written(
    export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = make_item("text")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "labels.csv").write_text("work of weeks")
    with pytest.raises(ConfigError, match="is not empty"):
        export([item], tmp_path / "full")
    (tmp_path / "empty").mkdir()
    export([item], tmp_path / "empty")
    with pytest.raises(ConfigError, match="no items"):
        export([], tmp_path / "out")
    with pytest.raises(ConfigError, match="occur twice"):
        export([item, item], tmp_path / "out")
    monkeypatch.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(OSError(28, "No space")))
    with pytest.raises(ConfigError, match="No space"):
        export([item], tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "full"]


def test_unsafe_ids_and_wrong_hashes_are_refused(tmp_path: Path) -> None:
    item = make_item("text")
    for name in ("", "a b", "=1", "<b>", "a/b", "é"):
        with pytest.raises(ConfigError, match="not safe"):
            export_csv([Item(name, *list(vars(item).values())[1:])], tmp_path / "out")
    with pytest.raises(ConfigError, match="not the hash"):
        export_csv([Item(item.item_id, "other", *list(vars(item).values())[2:])], tmp_path / "out")


@given(st.text())
def test_html_for_potato_shows_the_text_and_holds_no_markup(text: str) -> None:
    text = clean_text(text)
    shown = to_html(text)
    assert not set("<>\"'&:(\\{`") & set(re.sub(r"<br>|&#\d+;|&nbsp;", "", shown))
    plain = html.unescape(shown.replace("<br>", "\n")).replace("\xa0", " ")
    assert plain == text.replace("\t", "    ").replace("\xa0", " ")
    assert "  " not in shown


def test_potato_project_asks_what_is_needed(tmp_path: Path) -> None:
    exported = export_potato([make_item(HOSTILE[2])], tmp_path / "a b", port=8123)
    assert exported.next_step == (
        f"(cd '{tmp_path / 'a b'}' && potato start config.yaml --host 127.0.0.1 -p 8123)"
    )
    config = yaml.safe_load((exported.folder / "config.yaml").read_text("utf-8"))
    schemes = {scheme["name"]: scheme for scheme in config["annotation_schemes"]}
    assert schemes["error_count"]["min_value"] == 0
    assert schemes["has_error"]["labels"] == ["yes", "no", "unsure"]
    assert schemes["notes"]["annotation_type"] == "text"
    assert {field["type"] for field in config["instance_display"]["fields"]} == {"html"}
    (line,) = (exported.folder / "data" / "items.jsonl").read_text("utf-8").splitlines()
    assert json.loads(line).keys() == {"id", "question", "response"}


def test_label_studio_import_asks_what_is_needed(tmp_path: Path) -> None:
    items = [make_item(text, number) for number, text in enumerate(HOSTILE)]
    folder = export_label_studio(items, tmp_path / "out").folder
    tasks = json.loads((folder / "tasks.json").read_text("utf-8"))
    assert [task["data"]["response"] for task in tasks] == [item.response for item in items]
    view = ElementTree.parse(folder / "labeling_interface.xml").getroot()
    assert [tag.get("valueType") for tag in view.findall("Text")] == ["text", "text"]
    assert [choice.get("value") for choice in view.iter("Choice")] == ["yes", "no", "unsure"]
    controls = {tag.get("name"): tag.tag for tag in view if tag.get("toName") == "response"}
    assert controls == {"error_count": "Number", "has_error": "Choices", "notes": "TextArea"}


def test_csv_opens_in_excel_and_holds_no_formula(tmp_path: Path) -> None:
    items = [make_item(text, number) for number, text in enumerate([*HOSTILE, "'=1", "-1", "+1"])]
    path = export_csv(items, tmp_path / "out").folder / "labels.csv"
    raw = path.read_bytes()
    assert raw.startswith(b"\xef\xbb\xbfitem_id,")
    limit = csv.field_size_limit(10**6)
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    csv.field_size_limit(limit)
    for row, item in zip(rows, items, strict=True):
        assert not row["response"].startswith(("=", "+", "-", "@", "\t", "\r"))
        assert from_cell(row["response"]) == item.response
        assert [row[name] for name in ("annotator", "error_count", "has_error", "notes")] == [
            ""
        ] * 4


@given(st.text(alphabet="'=+-@a\t\n＝", max_size=6) | st.text())
def test_cells_are_no_formulas_and_give_the_text_back(text: str) -> None:
    cell = to_cell(text)
    assert not cell.startswith(("=", "+", "-", "@", "\t", "＝", "＋", "－", "＠"))
    assert from_cell(cell) == text


@given(st.text(st.characters()))
def test_cleaned_text_is_printable_and_stays_as_it_is(text: str) -> None:
    cleaned = clean_text(text)
    assert clean_text(cleaned) == cleaned
    assert text_hash("q", text) == text_hash("q", cleaned)
    cleaned.encode()
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", cleaned)
    assert clean_text(text.replace("\n", "\r\n")) == cleaned or "\r" in text
