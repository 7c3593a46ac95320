"""Runs of win rates are read like any other: compare, report, export."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from judged_runs import Run, command_line, fails
from pairs_of_runs import Shown, preferring, the_longer, write_responses

N = 34


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    return command_line(capsys, monkeypatch)


def mostly_longer(found: Shown) -> int:
    """Prefer the longer response, and in every fourth document the shorter one."""
    longer = the_longer(found)
    return 3 - longer if longer and int(found.query.split()[3]) % 4 == 0 else longer


@pytest.fixture
def against(
    run: Run, tmp_path: Path, openai_server: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> Callable[[str, str], Path]:
    """Judge two of four models against each other: their lengths differ by document."""
    server = openai_server(preferring(mostly_longer), models=["judge"])
    monkeypatch.setenv("EFT_JUDGE_BASE_URL", server.url)
    sizes = {"old": 5, "new": 9, "ref": 7, "other": 6}
    for name, size in sizes.items():
        texts = [f"{name:>5} " + "x" * ((i * size) % 11 + 1) for i in range(N)]
        write_responses(tmp_path / name, texts, f"org/{name}")

    def make(a: str, b: str) -> Path:
        done = run(
            "judge",
            tmp_path / a,
            tmp_path / b,
            "--pairwise",
            "--judge",
            "judge",
            "--length-control",
        )
        assert done.code == 0, done
        return tmp_path / f"{a}_against_{b}"

    return make


def rates(folder: Path) -> np.ndarray[Any, Any]:
    (path,) = folder.glob("samples_*.jsonl")
    return np.array([json.loads(line)["win_rate"] for line in path.read_text().splitlines()])


def test_two_candidates_against_one_reference_are_paired(
    run: Run, against: Callable[[str, str], Path]
) -> None:
    old, new = against("old", "ref"), against("new", "ref")
    done = run("compare", old, new, "--format", "json")
    assert done.code in (0, 1, 3), done
    found = json.loads(done.out)
    (row,) = (one for one in found["candidates"][0]["rows"] if one["metric"] == "win_rate")
    difference = rates(new) - rates(old)
    assert row["difference"]["estimate"] == pytest.approx(difference.mean())
    gated = [one["metric"] for one in found["candidates"][0]["rows"] if one["decision"]]
    assert "win_rate" in gated
    assert not {"ties", "prefers_first_shown", "win_rate_shown_first"} & {*gated}


def test_other_references_are_not_compared(run: Run, against: Callable[[str, str], Path]) -> None:
    done = run("compare", against("old", "ref"), against("new", "other"))
    fails(done, "was judged against other responses than the baseline (0 documents have the same)")


@pytest.mark.slow
def test_the_report_and_the_table_show_the_same_win_rate(
    run: Run, against: Callable[[str, str], Path], tmp_path: Path
) -> None:
    folder = against("old", "ref")
    done = run("report", folder, "--format", "md", "--out", tmp_path / "report.md")
    assert done.code == 0, done
    report = (tmp_path / "report.md").read_text("utf-8")
    assert "org__old against org__ref" in report
    assert f"win_rate,preference ↑ | {N} | {rates(folder).mean():.4f}" in report
    assert "win_rate_length_controlled,preference ↑" in report
    done = run("export", folder, "--format", "csv", "--out", tmp_path / "scores.csv")
    assert done.code == 0, done
    table = (tmp_path / "scores.csv").read_text("utf-8-sig")
    assert '"org__old against org__ref","help_pairwise_helpfulness","win_rate"' in table
    assert "Decide which of two chatbot responses" in table, "with the judge's prompt"


@pytest.mark.slow
def test_a_record_for_a_leaderboard_names_both_models(
    run: Run, against: Callable[[str, str], Path], tmp_path: Path
) -> None:
    folder = against("old", "ref")
    where = ("--organization", "us", "--out", tmp_path / "eee")
    metric = ("--metric", "help_pairwise_helpfulness/win_rate")
    done = run("export", folder, "--format", "eee", *where, *metric)
    assert done.code == 0, done
    (path,) = (tmp_path / "eee").rglob("*.json")
    text = path.read_text("utf-8")
    assert "org__old against org__ref" in text
    assert "help_pairwise_helpfulness" in text
