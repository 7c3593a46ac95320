"""`eft-eval judge` by batches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from batch_endpoint import BatchEndpoint
from batch_requests import RESPONSES, completion
from judging_helpers import Start, score
from typer.testing import CliRunner

from eft_eval.cli.app import app
from eft_eval.errors import ConfigError, EftEvalError
from eft_eval.judging import DEFAULT_MODEL, JudgeSettings


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run of a task of somebody else's, as lm-eval writes it."""
    folder = tmp_path / "out" / "model"
    folder.mkdir(parents=True)
    date = "2026-01-02T03-04-05.678901"
    results = {
        "results": {"mine": {"alias": "mine"}},
        "configs": {"mine": {"task": "mine", "output_type": "generate_until", "repeats": 1}},
        "n-samples": {"mine": {"original": 5, "effective": 5}},
    }
    (folder / f"results_{date}.json").write_text(json.dumps(results))
    samples = [
        {
            "doc_id": number,
            "doc": {"question": f"Why {number}?"},
            "resps": [[text]],
            "filtered_resps": [text],
            "filter": "none",
            "metrics": [],
        }
        for number, text in enumerate(RESPONSES)
    ]
    lines = "".join(json.dumps(sample) + "\n" for sample in samples)
    (folder / f"samples_mine_{date}.jsonl").write_text(lines)
    return folder


def call(*arguments: object) -> Any:
    command = ["judge", *map(str, arguments), "--prompt", "factuality"]
    return CliRunner().invoke(app, command, catch_exceptions=False)


def test_the_command(
    endpoint: BatchEndpoint,
    judge: JudgeSettings,
    run_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("EFT_JUDGE_BASE_URL", str(judge.base_url))
    monkeypatch.setenv("EFT_JUDGE_MODEL", DEFAULT_MODEL)
    dry = call(run_dir, "--dry-run", "--batch", "submit")
    assert "5 new, 0 stored" in dry.stdout
    assert "batch prices of 2025-04-14" in dry.stdout
    assert endpoint.batches == {}

    sent = call(run_dir, "--batch", "submit")
    assert "submitted batch_0: 5 requests to gpt-4.1-2025-04-14" in sent.stdout
    looked = call(run_dir, "--batch", "status")
    assert "open batch_0: validating" in looked.stdout
    early = call(run_dir, "--batch", "collect")
    assert early.exit_code == 3
    assert "0 verdicts stored" in early.stdout
    assert len(list(run_dir.glob("results_*"))) == 1

    endpoint.run("batch_0")
    done = call(run_dir, "--batch", "collect")
    assert done.exit_code == 0, done.stdout
    assert "5 verdicts stored" in done.stdout
    results = json.loads(max(run_dir.glob("results_*")).read_text("utf-8"))
    (name,) = [name for name in results["results"]["mine"] if name.startswith("fact_errors,")]
    assert results["results"]["mine"][name] == 2.0  # (0 + 1 + 2 + 3 + 4) / 5
    assert "nothing to submit" in call(run_dir, "--batch", "submit").stdout


def test_a_panel_is_submitted_and_collected_like_one_judge(
    endpoint: BatchEndpoint, judge: JudgeSettings, run_dir: Path, openai_server: Start
) -> None:
    """Two judges at one endpoint, the third at another."""
    there = BatchEndpoint(completion)
    server = openai_server(score, models=["m"], routes=there.routes)
    panel: list[object] = [run_dir, "--judge", f"x@{judge.base_url}"]
    panel += ["--judge", f"y@{judge.base_url}", "--judge", f"m@{server.url}"]
    sent = call(*panel, "--batch", "submit")
    assert sent.stdout.count("submitted ") == 3
    assert {line["body"]["model"] for line in there.requests("batch_0")} == {"m"}
    assert "nothing" not in sent.output
    assert call(*panel, "--batch", "status").stdout.count("open batch_") == 3
    endpoint.run("batch_0")
    there.run("batch_0")
    early = call(*panel, "--batch", "collect")
    assert (early.exit_code, early.stdout.count("collected ")) == (3, 2)
    assert "10 verdicts stored" in early.stdout
    assert "not asked now" not in early.output
    assert len(list(run_dir.glob("results_*"))) == 1
    endpoint.run("batch_1")
    done = call(*panel, "--batch", "collect")
    assert done.exit_code == 0, done.output
    entry = json.loads(max(run_dir.glob("results_*")).read_text("utf-8"))["results"]["mine"]
    metrics = {name for name in entry if name.startswith("fact_errors,")}
    assert metrics == {"fact_errors,factuality", *(f"fact_errors,factuality@{n}" for n in "mxy")}
    assert {entry[name] for name in metrics} == {2.0}
    assert not [one for one in server.chats if one.path.endswith("/chat/completions")]


def test_a_panel_of_which_one_has_no_batches_sends_nothing(
    endpoint: BatchEndpoint, judge: JudgeSettings, run_dir: Path
) -> None:
    panel = ["--judge", f"x@{judge.base_url}", "--judge", "hf:some/model"]
    with pytest.raises(ConfigError, match="'hf:some/model' is none"):
        call(run_dir, *panel, "--batch", "submit")
    assert endpoint.batches == {}


def test_the_command_gives_a_lost_batch_up(
    endpoint: BatchEndpoint,
    judge: JudgeSettings,
    run_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("EFT_JUDGE_BASE_URL", str(judge.base_url))
    monkeypatch.setenv("EFT_JUDGE_MODEL", DEFAULT_MODEL)
    call(run_dir, "--batch", "submit")
    endpoint.batches.clear()
    for step in ("status", "collect"):
        with pytest.raises(EftEvalError, match=r"stay open: batch_0; .*forget BATCH_ID"):
            call(run_dir, "--batch", step)
    with pytest.raises(ConfigError, match="needs a batch"):
        call(run_dir, "--batch", "forget")
    assert "5 requests may be asked anew" in call(run_dir, "batch_0", "--batch", "forget").stdout
    with pytest.raises(ConfigError, match="one word too many"):
        call(run_dir, "batch_0")
    assert "no open batches" in call(run_dir, "--batch", "status").stdout


def test_collected_verdicts_need_no_endpoint(
    endpoint: BatchEndpoint,
    openai_server: Start,
    run_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = openai_server(score, routes=endpoint.routes)
    monkeypatch.setenv("EFT_JUDGE_BASE_URL", server.url)
    monkeypatch.setenv("EFT_JUDGE_MODEL", DEFAULT_MODEL)
    call(run_dir, "--batch", "submit")
    endpoint.run("batch_0")
    assert call(run_dir, "--batch", "collect").exit_code == 0
    server.die()
    again = call(run_dir, "--batch", "collect")
    assert again.exit_code == 0, again.output
    assert "nothing to submit" in call(run_dir, "--batch", "submit").stdout
