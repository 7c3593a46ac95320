"""A judge from outside the package: one class and an entry point, nothing of ours is touched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from judged_runs import counted, write_judged_run

PLUGIN = '''
from eft_eval.judging.judges.base import Failure, Judge, Reply

class WordJudge(Judge):
    """Counts a word, which stands in its name, in the whole prompt."""

    priced = {priced}

    def key(self):
        return {{"counts": "words"}}

    def check(self, today):
        return f"counting {{self.name!r}} only" if today.year > 2000 else None

    async def send(self, prompt):
        if "unspeakable" in prompt:
            return Failure("it will not", "item")
        return Reply(f"Reason: counted.\\nScore: {{prompt.count(self.name)}}", "stop",
                     prompt_tokens=1000, completion_tokens=10)
'''
RESPONSES = ["badger", "badger badger", "unspeakable", "no animal"]


def install(folder: Path, target: str = "acme_words:WordJudge", priced: bool = False) -> None:
    """Install a package into a folder, as pip would lay it out."""
    information = folder / "acme_words-1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-words\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(f"[eft_eval.judges]\nwords = {target}\n")
    (folder / "acme_words.py").write_text(PLUGIN.format(priced=priced))


def eft_eval(folder: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "eft_eval", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(folder), **env},
        check=False,
    )


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_judged_run(
        tmp_path / "run", counted([0, 0, 0, 0]), response=lambda index: RESPONSES[index]
    )


def test_a_judge_of_another_package_judges_a_saved_run(tmp_path: Path, run: Path) -> None:
    install(tmp_path / "site")
    done = eft_eval(tmp_path / "site", "judge", str(run), "--judge", "words:badger")
    assert done.returncode == 3, done.stderr  # one response got no verdict
    assert "counting 'badger' only" in done.stderr
    assert "it will not" in done.stderr
    results = json.loads(sorted(run.glob("results_*.json"))[-1].read_text())
    assert results["results"]["eli5_fact"]["fact_errors,factuality"] == 1.0  # of 1, 2, 0
    judge = results["configs"]["eli5_fact"]["metadata"]["eft_judge"]
    assert (judge["model"], judge["endpoint"]) == ("words:badger", "this process")
    assert judge["parameters"] == {"counts": "words"}
    assert judge["verdicts"] == {"scored": 3, "api_error": 1}
    assert judge["usage"]["cost_usd"] == 0.0

    again = eft_eval(tmp_path / "site", "judge", str(run), "--judge", "words:badger", "--dry-run")
    assert "1 new, 3 stored" in again.stdout
    assert "0 USD (in this process)" in again.stdout
    listed = eft_eval(tmp_path / "site", "verdicts", "list")
    assert "words:badger" in listed.stdout


def test_a_priced_judge_of_another_package_has_a_price(tmp_path: Path, run: Path) -> None:
    install(tmp_path / "site", priced=True)
    prices = tmp_path / "prices.json"
    table = {"date": "2026-11-01", "models": {"words:badger": {"input": 2.0, "output": 100.0}}}
    prices.write_text(json.dumps(table))
    env = {"EFT_JUDGE_PRICES": str(prices)}
    done = eft_eval(tmp_path / "site", "judge", str(run), "--judge", "words:badger", **env)
    assert done.returncode == 3, done.stderr
    results = json.loads(sorted(run.glob("results_*.json"))[-1].read_text())
    judge = results["configs"]["eli5_fact"]["metadata"]["eft_judge"]
    assert judge["usage"]["cost_usd"] == pytest.approx(3 * (1000 * 2 + 10 * 100) / 1e6)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("acme_words:Missing", "cannot be loaded: AttributeError"),
        ("acme_none:Judge", "cannot be loaded: ModuleNotFoundError"),
        ("acme_words:Reply", "is no subclass of eft_eval.judging.judges.base.Judge"),
    ],
)
def test_a_broken_package_is_one_line(tmp_path: Path, run: Path, target: str, message: str) -> None:
    install(tmp_path / "site", target)
    done = eft_eval(tmp_path / "site", "judge", str(run), "--judge", "words:badger")
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_without_the_package_it_is_a_model_at_the_endpoint(tmp_path: Path, run: Path) -> None:
    done = eft_eval(tmp_path, "judge", str(run), "--judge", "words:badger")
    assert done.returncode == 2
    assert "set OPENAI_API_KEY" in done.stderr
