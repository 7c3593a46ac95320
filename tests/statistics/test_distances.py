"""Distances from the draft over traced tasks, against statsmodels and numpy."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import statsmodels.api
from reported_runs import ARMS, trace_record, write_arm
from typer.testing import CliRunner

from eft_eval.cli.app import app
from eft_eval.comparing import read_run
from eft_eval.errors import ConfigError
from eft_eval.reporting.distances import distances_of
from eft_eval.reporting.report import make_report
from eft_eval.reports.document import Table
from eft_eval.reports.views.report import page_of
from eft_eval.runs.traces import Trace, read_traces


def write_traces(folder: Path, lengths: dict[str, int], seed: int = 3) -> list[list[float]]:
    """Write a trace per prompt, with random distances; return these."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    found = []
    for place, (prompt, count) in enumerate(lengths.items()):
        distances = [float(one) for one in generator.beta(0.4, 2, count)]
        record = {**trace_record(["x"] * count, distances), "prompt": prompt}
        (folder / f"trace-{place}.json").write_text(json.dumps(record))
        found.append(distances)
    return found


def traced(folder: Path, lengths: dict[str, int]) -> tuple[list[Trace], list[list[float]]]:
    distances = write_traces(folder, lengths)
    return read_traces(folder), distances


def test_the_mean_is_clustered_by_prompt(tmp_path: Path) -> None:
    lengths = {f"Question {i}?": 5 + 3 * i for i in range(9)}
    run = read_run(
        write_arm(tmp_path / "up", ARMS["up"], [0.0] * 9, prompts=[f"{p}\n" for p in lengths])
    )
    traces, distances = traced(tmp_path / "traces", lengths)
    (found,) = distances_of(traces, [run])
    values = np.concatenate(distances)
    groups = np.repeat(np.arange(9), [len(one) for one in distances])
    fitted = statsmodels.api.OLS(values, np.ones(len(values))).fit(
        cov_type="cluster",
        cov_kwds={"groups": groups, "use_correction": False, "df_correction": True},
        use_t=True,
    )
    half = (found.mean.upper - found.mean.lower) / 2
    expected = fitted.conf_int()[0][1] - fitted.params[0]
    assert (found.task, found.responses, found.tokens) == ("facts", 9, len(values))
    assert found.mean.estimate == pytest.approx(values.mean())
    assert half == pytest.approx(expected * np.sqrt(9 / 8))  # C / (C - 1)
    assert [found.median, found.upper] == pytest.approx([*np.quantile(values, (0.5, 0.9))])
    assert found.shares == pytest.approx([(values >= s).mean() for s in (0.05, 0.2, 0.5)])
    (twice,) = distances_of([*traces, *traces], [run])
    assert twice.mean[:3] == pytest.approx(found.mean[:3]), "more of a prompt tells nothing more"


def test_tasks_and_what_is_of_none_stay_apart(tmp_path: Path) -> None:
    run = read_run(write_arm(tmp_path / "up", ARMS["up"], [0.0] * 2, prompts=["A?", "B?"]))
    traces, _ = traced(tmp_path / "traces", {"A?": 4, "B?": 6, "elsewhere": 5})
    found = distances_of(traces, [run])
    assert [(one.task, one.responses, one.tokens) for one in found] == [
        ("facts", 2, 10),
        ("", 1, 5),
    ]
    assert np.isnan(found[1].mean.lower)
    assert 0 <= found[0].mean.lower <= found[0].mean.upper <= 1
    page = page_of(make_report([run], traces=traces))
    (section,) = (one for one in page.sections if one.name == "traces")
    table = section.blocks[0]
    assert isinstance(table, Table)
    assert [[cell.text for cell in row[1:4]] for row in table.rows] == [
        ["facts", "2", "10"], ["no run's", "1", "5"],
    ]  # fmt: skip
    assert table.rows[0][4].small.startswith("[")
    assert table.rows[1][4].small == ""


def test_a_folder_of_traces_and_only_some_in_full(tmp_path: Path) -> None:
    run = write_arm(tmp_path / "up", ARMS["up"], [0.0] * 25, prompts=[f"Q{i}" for i in range(25)])
    write_traces(tmp_path / "traces", {f"Q{i}": 3 for i in range(25)})
    (tmp_path / "traces" / "other.json").write_text("{}")
    (tmp_path / "traces" / "cut.json").write_text("{")
    words = ["report", str(run), "--trace", str(tmp_path / "traces"), "--format", "md"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.exception
    assert "Distance from the draft by task" in done.stdout
    assert "5 more traces are in the table alone." in done.stdout
    assert "| 25 | 75 |" in done.stdout
    with pytest.raises(ConfigError, match="holds no JSON of"):
        read_traces(tmp_path / "up")
