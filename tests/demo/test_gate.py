"""This project's regression eval: the CI files' own commands, on the committed baseline.

The shell steps of docs/ci are run as they stand, in a scratch repository; only what installs the
package is left out, as the tests run with it installed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import junitparser
import pytest
import yaml
from fresh_environments import ROOT, clean_environ

from eft_eval.comparing import read_run, read_settings
from eft_eval.comparing.compare import compare_runs

CI = ROOT / "docs" / "ci"
BASELINE = ROOT / "tests" / "baselines" / "demo.json"


def load(name: str) -> Any:
    return yaml.safe_load((CI / name).read_text("utf-8"))


def shell(script: str, folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a CI step as a runner does: bash that stops at the first error."""
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-eo", "pipefail", "-c", script],
        cwd=folder,
        env=clean_environ(PATH=programs, OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", **settings),
        capture_output=True,
        text=True,
        timeout=600,
    )


def gate_step(
    folder: Path, baseline: str, candidate: str, **inputs: str
) -> tuple[subprocess.CompletedProcess[str], Path]:
    """Run the composite action's step; return what it did and the step summary."""
    action = load("action.yml")
    (step,) = action["runs"]["steps"]
    values = {name: one.get("default", "") for name, one in action["inputs"].items()}
    values.update(baseline=baseline, candidate=candidate, **inputs)
    settings = {
        name: values[text.removeprefix("${{ inputs.").removesuffix(" }}")]
        for name, text in step["env"].items()
    }
    summary = folder / "summary.md"
    done = shell(step["run"], folder, GITHUB_STEP_SUMMARY=str(summary), **settings)
    return done, summary


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A user's repository with what docs/ci says it needs."""
    (tmp_path / "baselines").mkdir()
    shutil.copy(BASELINE, tmp_path / "baselines" / "demo.json")
    shutil.copy(CI / "eft-eval.toml", tmp_path)
    return tmp_path


def test_the_baseline_and_the_settings_fit() -> None:
    baseline = read_run(BASELINE)
    assert {name: task.documents for name, task in baseline.tasks.items()} == {
        "demo_fact": 256,
        "demo_help": 256,
        "demo_harm": 256,
    }
    found = compare_runs(baseline, [baseline], read_settings(CI / "eft-eval.toml"))
    assert found.outcome == "pass"
    assert sum(row.decision is not None for row in found.candidates[0].rows) == 4
    assert found.fail_on_inconclusive


def test_the_baseline_holds_the_committed_figures() -> None:
    figures = json.loads((ROOT / "docs" / "demo_figures.json").read_text("utf-8"))
    expected = figures["exported"]["arms"]["1"]["up-scaled"]
    tasks = read_run(BASELINE).tasks
    for task, metric, figure in (
        ("demo_fact", "fact_errors", "errors"),
        ("demo_help", "helpfulness", "helpfulness"),
    ):
        column = tasks[task].columns[(metric, "exact")]  # type: ignore[index]  # as a MetricKey
        assert column.reported == pytest.approx(expected[figure][0], abs=0.06)


def test_the_action_passes_and_fails(repository: Path) -> None:
    done, summary = gate_step(repository, "baselines/demo.json", "baselines/demo.json")
    assert done.returncode == 0, done.stderr
    assert summary.read_text().startswith("### ✅ pass")
    worse = json.loads(BASELINE.read_text())
    items = worse["tasks"]["demo_fact"]["filters"]["exact"]["items"]
    place = worse["tasks"]["demo_fact"]["filters"]["exact"]["columns"].index("fact_errors")
    for item in items:
        item[place] += 1
    worse["tasks"]["demo_fact"]["filters"]["exact"]["metrics"]["fact_errors"]["value"] += 1
    (repository / "worse.json").write_text(json.dumps(worse))
    done, summary = gate_step(repository, "baselines/demo.json", "worse.json")
    assert done.returncode == 1
    assert "::error title=regression" in done.stdout
    assert "### ❌ regression" in summary.read_text()
    assert (repository / "eft-eval-reports" / "comparison.json").is_file()
    xml = junitparser.JUnitXml.fromfile(str(repository / "eft-eval-reports" / "junit.xml"))
    assert (xml.tests, xml.failures) == (4, 1)
    before = summary.read_text()
    done, _ = gate_step(repository, "baselines/demo.json", "nowhere")
    assert done.returncode == 2
    added = summary.read_text().removeprefix(before)
    assert added.startswith("### ❌ not comparable: nowhere")
    assert "there is no file or folder nowhere" in added
    assert "::error title=eft-eval compare%3A not comparable::" in done.stdout
    xml = junitparser.JUnitXml.fromfile(str(repository / "eft-eval-reports" / "junit.xml"))
    assert (xml.tests, xml.errors) == (1, 1)


def test_the_judged_jobs_need_a_key() -> None:
    steps = load("github.yml")["jobs"]["judged"]["steps"]
    assert all("env.OPENAI_API_KEY != ''" in step["if"].split(" && ") for step in steps[1:])
    assert load("gitlab.yml")["eft-eval-judged"]["rules"] == [{"if": "$OPENAI_API_KEY"}]


def test_verdicts_are_kept_where_the_gate_fails_too() -> None:
    steps = load("github.yml")["jobs"]["judged"]["steps"]
    uses = [step.get("uses", "").partition("@")[0] for step in steps]
    assert "actions/cache" not in uses, "it saves after jobs that succeed only"
    restored, saved = (steps[uses.index(f"actions/cache/{one}")] for one in ("restore", "save"))
    assert saved["if"].startswith("always() && ")
    assert saved["with"]["key"] == restored["with"]["key"]
    assert saved["with"]["path"] == restored["with"]["path"]
    assert uses.index("actions/cache/save") < uses.index("./.github/actions/eft-eval-gate")
    assert load("gitlab.yml")["eft-eval-judged"]["cache"]["when"] == "always"


@pytest.mark.slow
def test_the_judged_job(repository: Path, openai_server: Callable[..., Any]) -> None:
    """The judged job's own steps, with a model behind an OpenAI endpoint on loopback."""
    shutil.copy(CI / "eft-eval-judged.toml", repository)
    steps = {step.get("name"): step for step in load("github.yml")["jobs"]["judged"]["steps"]}
    gitlab = load("gitlab.yml")["eft-eval-judged"]["script"]
    asked = [steps[name]["run"].replace("\\\n", " ").split() for name in ("evaluate", "judge")]
    assert asked == [line.split() for line in gitlab[1:3]], "both files run the same commands"

    def answer(prompt: str, _: object) -> str:
        return f"Reason: by length.\n\nScore: {len(prompt) % 100}%"

    server = openai_server(answer, models=None)
    key = {
        "OPENAI_API_KEY": "secret",
        "EFT_JUDGE_BASE_URL": server.url,
        "EFT_VERDICT_STORE": str(repository / "verdicts.sqlite3"),
    }
    for name in ("evaluate", "judge"):
        done = shell(steps[name]["run"], repository, **key)
        assert done.returncode == 0, done.stderr[-3000:]
    paid = len(server.chats)
    assert 0 < paid <= 64
    bless = "eft-eval bless out --out baselines/demo-judged.json"
    assert shell(bless, repository).returncode == 0
    (repository / "out").rename(repository / "before")
    for name in ("evaluate", "judge"):
        assert shell(steps[name]["run"], repository, **key).returncode == 0
    assert len(server.chats) == paid, "the same responses are not asked about again"
    inputs = load("github.yml")["jobs"]["judged"]["steps"][-2]["with"]
    gated, summary = gate_step(repository, **inputs)
    assert gated.returncode == 0, gated.stdout + gated.stderr
    assert "demo_help/helpfulness,helpfulness" in summary.read_text().replace("\\_", "_")
    assert shell(gitlab[3].strip(), repository).returncode == 0
    # another judge's verdicts are no regression and no pass
    other = "eft-eval judge out --prompt helpfulness --judge gpt-4o-2024-08-06"
    assert shell(other, repository, **key).returncode == 0
    gated, _ = gate_step(repository, **inputs)
    assert gated.returncode == 2
    assert "judge gpt-4.1-2025-04-14 and gpt-4o-2024-08-06" in gated.stderr


@pytest.mark.slow
def test_the_stock_command_passes_the_gate_on_the_demo_family(repository: Path) -> None:
    steps = {step.get("name"): step for step in load("github.yml")["jobs"]["demo"]["steps"]}
    script = load("gitlab.yml")["eft-eval-demo"]["script"]
    assert " ".join(steps["evaluate"]["run"].replace("\\\n", " ").split()) == " ".join(
        script[1].split()
    ), "both files run the same command"
    done = shell(steps["evaluate"]["run"], repository)
    assert done.returncode == 0, done.stderr[-3000:]
    gated, summary = gate_step(repository, "baselines/demo.json", "out")
    print(gated.stdout, summary.read_text())
    assert gated.returncode == 0, gated.stdout
    for line in (script[0], script[2]):
        assert shell(line, repository).returncode == 0
    # and the gate is awake: the small tuned model alone has other facts
    other = (
        "lm_eval --model eft --model_args model=demo-small-tuned --tasks demo_fact --batch_size 32"
    )
    done = shell(f"{other} --output_path small --log_samples", repository)
    assert done.returncode == 0, done.stderr[-3000:]
    gated, _ = gate_step(repository, "baselines/demo.json", "small")
    assert gated.returncode == 1
    assert "fact_errors got worse" in gated.stdout
