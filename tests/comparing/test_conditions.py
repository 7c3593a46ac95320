"""Like against like: what else differs between two runs is said, in every form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import junitparser
import pytest
from typer.testing import CliRunner
from written_runs import STAMP, write_run

from eft_eval.cli.app import app
from eft_eval.comparing import Comparison, bless, compare_runs, read_run
from eft_eval.reporting.report import make_report
from eft_eval.reports.ci.forms import FORMS
from eft_eval.runs.conditions import SAMPLING_KEY, conditions_of, sampling_rule

BASE = [1.0, 0.0] * 30
QWEN = {"repetition_penalty": 1.05, "top_p": 0.8, "top_k": 20}  # of Qwen2.5-Instruct
SAMPLED = {"do_sample": True, "temperature": 1.0, "until": ["\n\n"], "max_gen_toks": 99}


def write(folder: Path, config: dict[str, Any], of_task: Any = None, **facts: Any) -> Path:
    """Write a run of a task that generates; facts go into the results file."""
    found = write_run(folder, {"t": {"acc": BASE}}, changes={"config": config, **facts})
    file = found / f"results_{STAMP}.json"
    content = json.loads(file.read_text())
    content["configs"]["t"] |= {"generation_kwargs": SAMPLED, **(of_task or {})}
    file.write_text(json.dumps(content))
    return found


@pytest.fixture
def unlike(tmp_path: Path) -> tuple[Path, Path]:
    old = write(
        tmp_path / "old",
        {"model": "eft", "model_dtype": "torch.float32", SAMPLING_KEY: {}},
        lm_eval_version="0.4.12",
    )
    new = write(
        tmp_path / "new",
        {"model": "hf", "model_dtype": "torch.bfloat16", SAMPLING_KEY: QWEN},
        {"dataset_path": "other/data"},
        chat_template_sha="ab" * 32,
    )
    return old, new


def compared(unlike: tuple[Path, Path]) -> Comparison:
    old, new = unlike
    return compare_runs(read_run(old), [read_run(new)])


@pytest.mark.parametrize(
    ("generation", "config", "rule"),
    [
        (SAMPLED, {SAMPLING_KEY: {}}, "sampled"),
        (SAMPLED, {SAMPLING_KEY: QWEN}, "sampled, top_k 20, top_p 0.8, repetition_penalty 1.05"),
        (
            {**SAMPLED, "top_p": 1.0, "top_k": 5},
            {SAMPLING_KEY: QWEN},
            "sampled, top_k 5, repetition_penalty 1.05",
        ),
        ({"do_sample": False}, {SAMPLING_KEY: QWEN}, "greedy, repetition_penalty 1.05"),
        ({"temperature": 0.0}, {SAMPLING_KEY: {"top_p": 0.8}}, "greedy"),
        ({"temperature": 0.7}, {SAMPLING_KEY: {}}, "sampled, temperature 0.7"),
        ({"do_sample": True, "temperature": 0.0}, {SAMPLING_KEY: {}}, "greedy"),
        ({"until": ["x"]}, {SAMPLING_KEY: {}}, "greedy"),
        (None, {SAMPLING_KEY: QWEN}, ""),
    ],
)
def test_the_rule_is_the_tasks_settings_over_the_checkpoints(
    generation: Any, config: dict[str, Any], rule: str
) -> None:
    assert sampling_rule(generation, config) == rule


def test_a_checkpoint_whose_settings_nobody_noted_is_no_like_arm() -> None:
    assert "nobody noted" in sampling_rule(SAMPLED, {"model": "hf"})
    assert sampling_rule(SAMPLED, {"model": "eft"}) == "sampled"


def test_arms_that_were_sampled_by_different_rules_are_warned_of(
    unlike: tuple[Path, Path],
) -> None:
    found = compared(unlike)
    changes = {one.what: one for one in found.candidates[0].changes}
    sampling = changes["sampling of t"]
    assert sampling.baseline == "sampled"
    assert sampling.candidate == "sampled, top_k 20, top_p 0.8, repetition_penalty 1.05"
    warned = {name for name, one in changes.items() if one.bears_on_scores}
    assert warned == {"sampling of t", "lm-eval", "type of the weights", "chat template"}
    assert {"adapter"} == set(changes) - warned
    for name in warned:
        assert any(note.startswith(f"{name} differs: ") for note in found.candidates[0].notes)


@pytest.mark.parametrize("form", FORMS)
def test_warnings_and_what_else_changed_are_in_every_form(
    unlike: tuple[Path, Path], form: str
) -> None:
    text = " ".join(FORMS[form](compared(unlike)).replace("\\_", "_").split())
    for words in ("lm-eval differs: 0.4.12", "repetition_penalty 1.05", "type of the weights"):
        assert words in text, form
    if form in ("text", "markdown"):
        assert "What else changed" in text


def test_like_runs_say_nothing(tmp_path: Path) -> None:
    runs = [
        write(tmp_path / name, {"model": "eft", SAMPLING_KEY: {}, "model_dtype": "float32"})
        for name in ("old", "new")
    ]
    candidate = compare_runs(read_run(runs[0]), [read_run(runs[1])]).candidates[0]
    assert candidate.changes == candidate.notes == ()


def test_a_baseline_keeps_its_conditions(unlike: tuple[Path, Path], tmp_path: Path) -> None:
    old, new = unlike
    bless(old, tmp_path / "b.json")
    kept = read_run(tmp_path / "b.json")
    assert conditions_of(kept) == conditions_of(read_run(old))
    changes = compare_runs(kept, [read_run(new)]).candidates[0].changes
    assert changes == compared(unlike).candidates[0].changes
    bless(tmp_path / "b.json", tmp_path / "c.json")
    assert (tmp_path / "b.json").read_bytes() == (tmp_path / "c.json").read_bytes()


def test_a_report_says_that_its_runs_are_unlike(unlike: tuple[Path, Path]) -> None:
    runs = [read_run(one) for one in unlike]
    (note,) = [one for one in make_report(runs).notes if "same rule" in one]
    assert "repetition_penalty 1.05" in note
    assert not [one for one in make_report(runs[:1]).notes if "same rule" in one]


# --- exit code 2 --------------------------------------------------------------------------------


def call(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["compare", *arguments])


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, values in (("old", BASE), ("same", BASE), ("short", BASE[:20])):
        write_run(tmp_path / name, {"t": {"acc": values}})
    write_run(tmp_path / "worse", {"t": {"acc": [0.0] * 60}})
    return tmp_path


OUT = [f"--out={form}=found.{form}" for form in FORMS]


@pytest.mark.parametrize(
    ("candidate", "reason"),
    [("short", "the candidate lacks 40 document(s)"), ("nowhere", "there is no file or folder")],
)
def test_not_comparable_is_written_with_its_reason(runs: Path, candidate: str, reason: str) -> None:
    done = call("old", candidate, "--format", "github", *OUT)
    assert reason in str(done.exception)
    assert done.stdout.startswith("::error title=eft-eval compare%3A not comparable::")
    for form in FORMS:
        text = " ".join((runs / f"found.{form}").read_text().replace("\\_", "_").split())
        assert reason in text.replace("\\", ""), form
        assert "ot comparable" in text, form
    content = json.loads((runs / "found.json").read_text())
    assert (content["outcome"], content["exit_code"]) == ("not comparable", 2)
    assert reason in content["candidates"][0]["reasons"][0]
    xml = junitparser.JUnitXml.fromfile(str(runs / "found.junit"))
    assert (xml.tests, xml.errors, xml.failures) == (1, 1, 0)
    again = call("old", candidate, *OUT)
    assert reason in str(again.exception), "its own files are written anew"


def test_one_candidate_that_is_not_comparable_hides_no_other(runs: Path) -> None:
    done = call("old", "same", "short", "--format", "json")
    content = json.loads(done.stdout)
    assert [one["outcome"] for one in content["candidates"]] == ["pass", "not comparable"]
    assert content["exit_code"] == 2
    assert "lacks 40 document(s)" in str(done.exception)
    worse = call("old", "short", "worse", "--format", "json")
    assert worse.exit_code == json.loads(worse.stdout)["exit_code"] == 1
    text = call("old", "same", "short").stdout
    assert "Not comparable" in text
    assert "Pass: no regression" in text
