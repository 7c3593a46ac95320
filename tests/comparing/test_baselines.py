"""Baselines: what stands for a run, and what is none."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gated_runs import BASE
from written_runs import STAMP, write_run

from eft_eval.comparing import (
    bless,
    compare_runs,
    read_run,
)
from eft_eval.errors import ComparabilityError, ConfigError
from eft_eval.runs.baseline import baseline_lines


def test_a_baseline_stands_for_its_run(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    before = generator.poisson(1.0, 80).astype(float).tolist()
    after = generator.poisson(1.3, 80).astype(float).tolist()
    prompts = [f"prompt {i // 3}" for i in range(80)]
    old = write_run(tmp_path / "old", {"t": {"m": before}}, prompts=prompts, better={"m": False})
    new = read_run(
        write_run(tmp_path / "new", {"t": {"m": after}}, prompts=prompts, better={"m": False})
    )
    file = tmp_path / "baseline.json"
    bless(old, file)
    text = file.read_text()
    assert "document 0" not in text
    assert "response" not in text
    direct = compare_runs(read_run(old), [new])
    stored = compare_runs(read_run(file), [new])
    assert stored.candidates[0].rows == direct.candidates[0].rows
    assert stored.baseline.kind == "baseline"
    bless(old, file)
    assert file.read_text() == text, "the same run gives the same bytes"


def test_a_baseline_blessed_again_is_the_same_file(tmp_path: Path) -> None:
    """One document per line, several tasks and metrics; the bytes of the file in the repository."""
    kept = Path(__file__).parents[1] / "baselines" / "demo.json"
    bless(kept, tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == kept.read_bytes()


def test_a_baseline_without_metrics_of_a_filter(tmp_path: Path) -> None:
    """An object without members keeps its place, so that files stay as they were."""
    run = read_run(write_run(tmp_path / "run", {"t": {"acc": [1.0, 0.0]}}))
    bare = replace(run, tasks={"t": replace(run.tasks["t"], columns={})})
    text = "".join(baseline_lines(bare, "prompt"))
    assert (
        '   "metrics": {\n\n   },\n   "columns": ["doc_hash", "prompt_hash", "cluster"],\n' in text
    )
    rows = json.loads(text)["tasks"]["t"]["filters"]["none"]["items"]
    assert len(rows) == 2
    assert ",\n".join(f"    {json.dumps(row)}" for row in rows) in text


def test_a_baseline_keeps_its_clusters(tmp_path: Path) -> None:
    documents = [f"article {i // 5} {i}"[:9] for i in range(100)]
    folder = write_run(tmp_path / "run", {"t": {"acc": BASE}}, documents=documents)
    file = tmp_path / "baseline.json"
    bless(folder, file, cluster="doc.text")
    kept = read_run(file, "doc.text")
    clusters = {item.cluster for item in kept.tasks["t"].pipelines["none"].items}
    assert clusters == set(documents)
    with pytest.raises(ConfigError, match=r"clustered by 'doc.text', asked is 'prompt'"):
        read_run(file)


def test_what_cannot_be_blessed(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", {"t": {"acc": BASE}})
    other = tmp_path / "other.json"
    other.write_text('{"mine": 1}')
    with pytest.raises(ConfigError, match="exists and is no baseline"):
        bless(folder, other)
    with pytest.raises(ConfigError, match="there is no folder"):
        bless(folder, tmp_path / "nowhere" / "baseline.json")
    samples = folder / f"samples_t_{STAMP}.jsonl"
    samples.write_text(samples.read_text()[:-20])
    with pytest.raises(ComparabilityError, match=r"cannot be a baseline: .*cut off"):
        bless(folder, tmp_path / "baseline.json")
    samples.unlink()
    with pytest.raises(ComparabilityError, match="no task has metrics and samples"):
        bless(folder, tmp_path / "baseline.json")
    both = write_run(tmp_path / "both", {"t": {"acc": BASE}, "u": {"acc": BASE}})
    (both / f"samples_u_{STAMP}.jsonl").unlink()
    assert list(bless(both, tmp_path / "both.json").tasks) == ["t"]
    assert not (tmp_path / "baseline.json").exists()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"version": 2}, "is a baseline of version 2; this eft-eval reads version 1"),
        ({"tasks": {"t": {}}}, "is a damaged baseline"),
        ({"tasks": None}, "is a damaged baseline"),
        ({"groups": {"g": {"tasks": ["t"]}}}, "is a damaged baseline"),
    ],
)
def test_damaged_baselines(tmp_path: Path, change: dict[str, Any], complaint: str) -> None:
    file = tmp_path / "baseline.json"
    bless(write_run(tmp_path / "run", {"t": {"acc": BASE}}), file)
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(ConfigError, match=complaint):
        read_run(file)


def test_an_edited_baseline_is_damaged(tmp_path: Path) -> None:
    file = tmp_path / "baseline.json"
    bless(write_run(tmp_path / "run", {"t": {"acc": BASE}}), file)
    for place, value, complaint in (
        (("metrics", "acc", "value"), 0.75, "acc,none is 0.75, not its items' mean"),
        (("metrics", "acc", "higher_is_better"), "yes", "higher_is_better is 'yes'"),
        (("items", 0), ["short"], "is a damaged baseline"),
        (("items", 0, 3), math.nan, "nan is no number"),
        (("items", 0, 3), "1.0", "'1.0' is no number"),
        (("items", 0, 0), 7, "item 0 has no hashes"),
        (("items",), [], "t holds 0 of 100 documents"),
        (("columns",), ["doc_hash"], "is a damaged baseline"),
        (("verdicts",), {"scored": "x"}, "are no counts of verdicts"),
        (("verdicts",), {"scored": -1}, "are no counts of verdicts"),
        (("verdicts",), [1], "is a damaged baseline"),
    ):
        content = json.loads(file.read_text())
        inner = content["tasks"]["t"]["filters"]["none"]
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = value
        other = tmp_path / "edited.json"
        other.write_text(json.dumps(content))
        with pytest.raises(ConfigError, match=re.escape(complaint)) as raised:
            read_run(other)
        assert "edited.json is a damaged baseline" in str(raised.value)


def test_a_damaged_baseline_is_named_as_that(tmp_path: Path) -> None:
    whole = write_run(tmp_path / "whole", {"qa": {"acc": [1.0, 0.0, 1.0]}})
    damaged = write_run(tmp_path / "damaged", {"qa": {"acc": [1.0, 0.0, 1.0]}})
    (samples,) = damaged.glob("samples_*")
    samples.write_text(samples.read_text("utf-8")[:40], "utf-8")
    with pytest.raises(ComparabilityError, match="cut off, or damaged"):
        compare_runs(read_run(damaged), [read_run(whole)])
