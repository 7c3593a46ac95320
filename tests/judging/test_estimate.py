"""What judging would take, told before: dry runs, budgets and judges on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from judging_helpers import Start, score
from typer.testing import CliRunner

from eft_eval.cli.app import app
from eft_eval.errors import ConfigError
from eft_eval.judging import DEFAULT_MODEL, VerdictStore, default_store_path

RESPONSES = [f"Response {number}. " + "Some words. " * 40 for number in range(30)]


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run of a task of somebody else's, as lm-eval writes it."""
    folder = tmp_path / "out" / "model"
    folder.mkdir(parents=True)
    date = "2026-01-02T03-04-05.678901"
    config = {"task": "mine", "output_type": "generate_until", "repeats": 1}
    results = {"results": {"mine": {"alias": "mine"}}, "configs": {"mine": config}}
    (folder / f"results_{date}.json").write_text(json.dumps(results))
    lines = [
        json.dumps({"doc_id": n, "doc": {"question": f"Why {n}?"}, "resps": [[text]]})
        for n, text in enumerate(RESPONSES)
    ]
    (folder / f"samples_mine_{date}.jsonl").write_text("\n".join(lines))
    return folder


@pytest.fixture
def server(openai_server: Start, monkeypatch: pytest.MonkeyPatch) -> Any:
    judge = openai_server(score)
    monkeypatch.setenv("EFT_JUDGE_BASE_URL", judge.url)
    monkeypatch.setenv("EFT_JUDGE_MODEL", DEFAULT_MODEL)
    return judge


def call(*arguments: object) -> Any:
    command = ["judge", *map(str, arguments), "--prompt", "factuality"]
    return CliRunner().invoke(app, command, catch_exceptions=False)


def lines(out: str) -> dict[str, str]:
    pairs = [line.split(maxsplit=1) for line in out.splitlines() if not line.startswith(" ")]
    return {pair[0]: pair[1] for pair in pairs}


def test_a_dry_run_asks_nobody_and_tells_all(run_dir: Path, server: Any) -> None:
    told = call(run_dir, "--dry-run").stdout
    assert server.requests == []
    assert len(list(run_dir.iterdir())) == 2
    assert f"{DEFAULT_MODEL} at {server.url}" in told
    assert "mine, factuality: 30 new, 0 stored" in told
    found = lines(told)
    assert found["calls"] == "30 new, 0 stored"
    assert "tokens    7,500 (assumed 250 a reply; at most 2048)" in found["reply"]
    # prompts of about 950 bytes; list prices: 2 and 8 USD per million
    prompt_tokens = int(found["prompt"].split()[1].replace(",", ""))
    assert 30 * 150 < prompt_tokens < 30 * 400
    expected = (prompt_tokens * 2 + 7500 * 8) / 1e6
    assert found["cost"].startswith(f"{expected:.4f} USD, at most ")
    assert float(found["cost"].split("at most ")[1].split()[0]) > 30 * 2048 * 8 / 1e6


def test_a_name_reaches_no_terminal_with_its_control_characters(run_dir: Path) -> None:
    told = call(run_dir, "--dry-run", "--judge", "gpt\x1b[2J").stdout
    assert "\x1b" not in told
    assert "gpt␛[2J" in told


def test_a_dry_run_needs_no_key(run_dir: Path) -> None:
    assert "30 new, 0 stored" in call(run_dir, "--dry-run").stdout
    with pytest.raises(ConfigError, match="no judge to ask"):
        call(run_dir)


def test_an_empty_key_is_none(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "")
    assert "30 new, 0 stored" in call(run_dir, "--dry-run").stdout


def test_a_dry_run_learns_from_what_is_stored(run_dir: Path, server: Any) -> None:
    assert call(run_dir).exit_code == 0
    told = call(run_dir, "--dry-run", "--repeat", "2").stdout
    assert "mine, factuality: 0 new, 30 stored" in told
    assert "mine, factuality, asking 2: 30 new, 0 stored" in told
    assert "300 (mean 10 of 30 stored replies of this judge)" in lines(told)["reply"]
    assert len(server.chats) == 30


def test_a_budget_stops_cleanly_and_goes_on(
    run_dir: Path, server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    # room for at least one request's worst case, and for some that cost 0.00028 each
    assert call(run_dir, "--budget", "0.021").exit_code == 3
    done = len(server.chats)
    assert 0 < done < 30
    assert f"{30 - done} of 30 responses have no verdict" in caplog.text
    assert "the budget of 0.021 USD is used up" in caplog.text
    assert len(VerdictStore(default_store_path())) == done
    results = json.loads(max(run_dir.glob("results_*")).read_text("utf-8"))["results"]["mine"]
    assert results["fact_missing,factuality"] == pytest.approx((30 - done) / 30)
    assert call(run_dir).exit_code == 0
    assert len(server.chats) == 30


def test_a_budget_without_a_price(run_dir: Path, server: Any) -> None:
    with pytest.raises(
        ConfigError, match=r"price of 'local'.*EFT_JUDGE_PRICES.*\"models\": {\"local\": "
    ):
        call(run_dir, "--judge", "local", "--budget", "1")
    assert "unknown: no price of local" in call(run_dir, "--judge", "local", "--dry-run").stdout


def test_a_scripted_judge_on_the_command_line(run_dir: Path, tmp_path: Path) -> None:
    script = tmp_path / "rules.yaml"
    script.write_text("- {match: 'Response (\\d)', reply: 'Score: \\1'}")
    judge = f"scripted:{script}"
    assert "0 USD (in this process)" in call(run_dir, "--judge", judge, "--dry-run").stdout
    assert call(run_dir, "--judge", judge).exit_code == 0
    results = json.loads(max(run_dir.glob("results_*")).read_text("utf-8"))
    # 0-9, then 1 and 2 ten times each
    assert results["results"]["mine"]["fact_errors,factuality"] == pytest.approx(75 / 30)
    assert results["configs"]["mine"]["metadata"]["eft_judge"]["model"] == judge


def test_options_that_do_not_go_together(run_dir: Path, server: Any) -> None:
    with pytest.raises(ConfigError, match="--drift asks at once"):
        call(run_dir, "--batch", "submit", "--drift", "3")
    with pytest.raises(ConfigError, match="--dry-run cannot tell"):
        call(run_dir, "--dry-run", "--drift", "3")
    with pytest.raises(ConfigError, match="--batch submit gets none"):
        call(run_dir, "--batch", "submit", "--bridge")


def test_no_secret_in_files_store_or_output(
    run_dir: Path, openai_server: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    key, password = "sk-grep-me-8812", "pw-grep-me-9933"
    server = openai_server(score, key=key)
    monkeypatch.setenv("OPENAI_API_KEY", key)
    monkeypatch.setenv("EFT_JUDGE_BASE_URL", server.url)
    monkeypatch.setenv("EFT_JUDGE_MODEL", "local")
    out = call(run_dir).output
    # basic authentication would take the place of the bearer token, which this server refuses
    monkeypatch.setenv("EFT_JUDGE_BASE_URL", server.url.replace("//", f"//me:{password}@"))
    out += call(run_dir, "--dry-run", "--judge", "other").output
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(kept) >= 5
    for path in kept:
        assert key.encode() not in path.read_bytes(), path
        assert password.encode() not in path.read_bytes(), path
    assert key not in out
    assert password not in out
    assert server.url in out
