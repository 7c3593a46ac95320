"""Samples by their places: what an index holds, what a selection finds, how runs are paired."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reported_runs import HOSTILE, verdict
from written_runs import write_run

from eft_eval.browser.index import SamplesIndex
from eft_eval.browser.selection import Selection, paired, select
from eft_eval.comparing import compare_runs, read_run
from eft_eval.errors import ConfigError
from eft_eval.reporting.flips import find_flips
from eft_eval.runs.lines import iter_places, iter_samples, samples_at


def index_of(path: Path, filters: tuple[str, ...] = ("none",)) -> SamplesIndex:
    """Return the whole index of a file."""
    index = SamplesIndex(path, filters)
    assert index.wait(lambda: False, 30)
    return index


def samples_in(folder: Path) -> Path:
    (path,) = folder.glob("samples_*.jsonl")
    return path


def judged(folder: Path, verdicts: list[tuple[str, float | None]]) -> Path:
    return samples_in(
        write_run(
            folder,
            {"t": {"errors": [value for _, value in verdicts]}},
            better={"errors": False},
            filter_name="judge",
            filtered=[verdict(value, "because", status) for status, value in verdicts],
        )
    )


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_every_sample_is_read_back_from_its_place(tmp_path: Path, start: str, end: str) -> None:
    texts = [text.replace("\ud800", "") or "empty" for text in HOSTILE]
    folder = write_run(tmp_path, {"t": {"acc": [1.0] * len(texts)}}, prompts=texts)
    path = samples_in(folder)
    lines = path.read_text("utf-8").splitlines()
    raw = [json.dumps(json.loads(line), ensure_ascii=False) for line in lines]
    path.write_bytes((start + end.join(["", *raw, ""])).encode("utf-8"))
    whole = [*iter_samples(path)]
    assert [one.prompt for one in whole] == texts
    places = [(place, one.filter) for place, one in iter_places(path) if one is not None]
    assert samples_at(path, places[::-1]) == whole[::-1]


@settings(deadline=None, max_examples=30)
@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=30), min_size=1, max_size=8))
def test_places_hold_for_any_text(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str]
) -> None:
    path = tmp_path_factory.mktemp("any") / "samples.jsonl"
    records = [
        {"doc_id": i, "doc": text, "target": "", "arguments": {"a": {"arg_0": text}},
         "resps": [[text]], "filtered_resps": [text], "filter": "none", "metrics": [],
         "doc_hash": str(i), "prompt_hash": "", "target_hash": ""}
        for i, text in enumerate(texts)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records), "utf-8")
    found = [(place, "none") for place, one in iter_places(path) if one is not None]
    assert [one.prompt for one in samples_at(path, found)] == texts


def test_an_array_of_an_old_lm_eval_has_places_too(tmp_path: Path) -> None:
    path = tmp_path / "old.jsonl"
    records = [
        {"doc_id": i // 2, "doc": {"q": i // 2}, "target": "t", "arguments": [["p", {}]],
         "resps": [[f"r{i}"]], "filtered_resps": [f"r{i}"], "acc": float(i)}
        for i in range(4)
    ]  # fmt: skip
    path.write_text(json.dumps(records))
    index = index_of(path, ("strict", "flexible"))
    assert index.by_filter == {"strict": [0, 2], "flexible": [1, 3]}
    assert [one.responses for one in index.samples([3, 0])] == [(["r3"],), (["r0"],)]
    assert [one.filter for one in index.samples([3, 0])] == ["flexible", "strict"]


def test_what_is_unreadable_is_said_and_the_rest_is_there(tmp_path: Path) -> None:
    path = samples_in(write_run(tmp_path, {"t": {"acc": [1.0, 0.0, 1.0]}}))
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[1][:40], lines[2]]))
    index = index_of(path)
    assert [entry.item.doc_id for entry in index.entries] == [0, 2]
    assert "1 unreadable line(s)" in index.problem
    path.write_bytes(b"\x1f\x8b1234")
    assert "gzipped" in index_of(path).problem
    assert not index.is_current()
    with pytest.raises(ConfigError, match="has changed"):
        index.samples([1])


def test_a_selection_is_by_status_and_number(tmp_path: Path) -> None:
    said = [
        ("scored", 0.0),
        ("refused", None),
        ("scored", 2.0),
        ("abstained", None),
        ("scored", 3.0),
    ]
    index = index_of(judged(tmp_path, said))
    assert index.statuses("judge") == {"abstained": 1, "refused": 1, "scored": 3}
    every = Selection("judge")
    assert select(index, every) == [0, 1, 2, 3, 4]
    assert select(index, every._replace(status="refused")) == [1]
    bounds: list[tuple[dict[str, Any], list[int]]] = [
        ({"least": 2.0}, [2, 4]), ({"most": 2.0}, [0, 2]), ({"least": 1.0, "most": 2.5}, [2]),
    ]  # fmt: skip
    for given_bounds, expected in bounds:
        assert select(index, Selection("judge", metric="errors", **given_bounds)) == expected
    assert select(index, Selection("judge", "scored", "errors", least=0.5)) == [2, 4]
    assert select(index, Selection("other")) == []


def test_changes_are_those_that_compare_and_report_find(tmp_path: Path) -> None:
    old = [float(i % 3) for i in range(60)]
    new = [float(i % 4) for i in range(60)]
    for name, values in (("old", old), ("new", new)):
        judged(tmp_path / name, [("scored", value) for value in values])
    before, after = (index_of(samples_in(tmp_path / name / "model")) for name in ("old", "new"))
    pairs = paired(after, before, "judge")
    assert pairs == {i: i for i in range(60)}

    def chosen(change: str) -> list[int]:
        return select(after, Selection("judge", metric="errors", change=change), before, pairs)

    assert chosen("higher") == [i for i in range(60) if new[i] > old[i]]
    assert chosen("lower") == [i for i in range(60) if new[i] < old[i]]
    assert chosen("changed") == sorted(chosen("higher") + chosen("lower"))
    assert (chosen("status"), chosen("alone")) == ([], [])
    first, second = (read_run(tmp_path / name) for name in ("old", "new"))
    (flips,) = find_flips(first, second, compare_runs(first, [second]).candidates[0], 0, 3)
    assert flips.worse == {"errors": len(chosen("higher"))}
    assert flips.better == {"errors": len(chosen("lower"))}


def test_other_statuses_and_documents_of_one_run_alone_are_found(tmp_path: Path) -> None:
    first = judged(tmp_path / "old", [("scored", 1.0), ("scored", 1.0), ("refused", None)])
    second = judged(
        tmp_path / "new", [("scored", 1.0), ("refused", None), ("scored", 1.0), ("scored", 0.0)]
    )
    before, after = index_of(first), index_of(second)
    pairs = paired(after, before, "judge")
    assert select(after, Selection("judge", change="status"), before, pairs) == [1, 2]
    assert select(after, Selection("judge", change="alone"), before, pairs) == [3]
    changed = Selection("judge", metric="errors", change="changed")
    assert select(after, changed, before, pairs) == []


def test_a_wrong_selection_is_one_line(tmp_path: Path) -> None:
    index = index_of(judged(tmp_path, [("scored", 1.0)]))
    for wanted, text in (
        (Selection("judge", change="odd"), "expected one of"),
        (Selection("judge", change="alone"), "needs another run"),
    ):
        with pytest.raises(ConfigError, match=text):
            select(index, wanted)
    with pytest.raises(ConfigError, match="needs a metric"):
        select(index, Selection("judge", change="lower"), index, {0: 0})
