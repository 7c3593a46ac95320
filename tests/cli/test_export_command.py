"""`eft-eval export` as a command: files, stdout, exit codes, errors in one line; the demo."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import exported_runs as runs
import pyarrow.parquet as pq
import pytest
import yaml
from huggingface_hub import ModelCard
from typer.testing import CliRunner
from written_runs import write_run

from eft_eval.cli.app import app
from eft_eval.comparing import bless
from eft_eval.errors import ClaimError, ConfigError, EftEvalError

COMMAND = [sys.executable, "-c", "from eft_eval.cli import main; main()"]
EEE = ("--format", "eee", "--organization", "Some Lab", "--out", "store")
CARD = ("--format", "model-card", "--repo", "me/composite")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    runs.write_composite_run(tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["export", *arguments])


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_tables_to_files_and_to_stdout() -> None:
    done = run("run", "--format", "csv")
    assert done.exit_code == 0, done.output
    assert run("run", "--format", "csv", "--out", "t.csv").stdout == "t.csv\n"
    assert Path("t.csv").read_text() == done.stdout
    assert run("run", "--format", "parquet", "--out", "t.parquet").exit_code == 0
    rows = pq.read_table("t.parquet").to_pylist()
    read = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [float(row["value"]) for row in read] == [row["value"] for row in rows]
    chosen = run("run", "--format", "csv", "--metric", "eli5_fact/fact_e*")
    assert len(list(csv.DictReader(io.StringIO(chosen.stdout)))) == 1
    single = run("run", "--format", "csv", "--samples")
    assert len(list(csv.DictReader(io.StringIO(single.stdout)))) == 12


def test_folders_are_written_whole_and_twice_the_same() -> None:
    assert run("run", *EEE, "--samples").exit_code == 0
    first = contents(Path("store"))
    assert sorted(Path(name).suffix for name in first) == [".json", ".jsonl"]
    done = run("run", *EEE, "--samples")
    assert done.exit_code == 0, "the same bytes may be written again"
    assert contents(Path("store")) == first
    assert sorted(done.stdout.split()) == sorted(f"store/{name}" for name in first)
    assert not [name for name in first if "part" in name]


def test_card_and_eval_results_of_one_repository() -> None:
    assert run("run", *CARD, "--out", "repo").stdout == "repo/README.md\n"
    named = ("--repo", "me/composite", "--benchmark", "eli5_fact=a/b:c")
    chosen = ("--metric", "eli5_fact/fact_errors")
    done = run("run", "--format", "hf-eval-results", *named, *chosen, "--out", "repo")
    assert done.exit_code == 0, done.output
    assert "this registers none" in done.stderr
    assert set(contents(Path("repo"))) == {"README.md", ".eval_results/eli5_fact.yaml"}
    assert ModelCard.load("repo/README.md").data.model_name == "composite"
    (entry,) = yaml.safe_load(Path("repo/.eval_results/eli5_fact.yaml").read_text())
    assert entry["dataset"] == {"id": "a/b", "task_id": "c"}


def test_what_holds_something_else_is_kept() -> None:
    Path("README.md").write_text("mine")
    for options in (CARD, ("--format", "csv"), ("--format", "parquet")):
        out = "." if options is CARD else "README.md"
        refused = run("run", *options, "--out", out)
        assert isinstance(refused.exception, ConfigError)
        assert "README.md exists and holds something else; --overwrite" in str(refused.exception)
        assert Path("README.md").read_text() == "mine"
    assert run("run", *CARD, "--out", ".", "--overwrite").exit_code == 0
    assert "holds no weights" in Path("README.md").read_text()


def test_several_models_where_the_form_holds_one() -> None:
    write_run(Path("other"), {"t": {"acc": [1.0, 0.0]}}, changes={"date": runs.STARTED})
    assert run("run", "other", "--format", "csv").exit_code == 0
    assert run("run", "other", *EEE).exit_code == 0
    for options in (CARD, (*EEE, "--repo", "me/composite")):
        refused = run("run", "other", *options)
        assert isinstance(refused.exception, ClaimError), options
        assert "holds one model, given are 2" in str(refused.exception)


def test_baselines_have_no_texts_and_no_model() -> None:
    bless("run", Path("base.json"))
    assert run("base.json", "--format", "csv").exit_code == 0
    for options in (EEE, CARD):
        refused = run("base.json", *options)
        assert isinstance(refused.exception, ClaimError)
        assert "base.json is a baseline" in str(refused.exception)
    refused = run("base.json", "--format", "csv", "--samples")
    assert "a baseline and holds no texts" in str(refused.exception)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--format", "eee", "--out", "x"), "add --organization NAME"),
        (("--format", "eee", "--organization", "Lab"), "add --out with a folder"),
        (("--format", "parquet"), "add --out with a file"),
        (("--format", "csv", "--out", "no/x"), "there is no folder no"),
        (("--format", "csv", "--out", "run"), "run is a folder; csv is one file"),
        (
            ("--format", "csv", "--repo", "a/b"),
            "--repo belongs to eee, hf-eval-results",
        ),
        ((*CARD, "--samples"), "--samples belongs to eee, csv, parquet"),
        (("--format", "model-card"), "name the one that shall hold its card"),
        (("--format", "model-card", "--repo", "tiny-lab/small"), "is the composite's reference"),
        ((*EEE, "--repo", "tiny-lab/large"), "is the composite's base"),
        (("--format", "csv", "--metric", "eli5_fact/x"), "no metric matches 'eli5_fact/x'"),
        (("--format", "csv", "--max-unknown", "2"), "expected a share from 0 to 1"),
    ],
)
def test_bad_arguments(options: tuple[str, ...], said: str) -> None:
    done = run("run", *options)
    assert isinstance(done.exception, EftEvalError), done.output
    assert said in str(done.exception)
    assert "\n" not in str(done.exception)
    assert not Path("store").exists(), "nothing is written"


def test_a_real_process_says_2_in_one_line(folder: Path) -> None:
    samples = runs.samples_of(folder / "run" / runs.NAME, "eli5_fact")
    good = samples.read_bytes()
    samples.write_bytes(good[:-40])
    done = subprocess.run([*COMMAND, "export", "run", *EEE], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert "cut off, or damaged" in done.stderr
    assert not Path("store").exists()
    samples.write_bytes(good)
    done = subprocess.run([*COMMAND, "export", "run", *EEE], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_the_demo_can_be_exported_and_is_no_model_of_the_hub() -> None:
    arguments = ["--model", "eft", "--model_args", "model=demo", "--tasks", "demo_fact,demo_help"]
    options = ["--limit", "12", "--batch_size", "32", "--output_path", "out", "--log_samples"]
    done = subprocess.run([*COMMAND, "run", *arguments, *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "has 12 of 256 documents (--limit)" in str(run("out", *EEE).exception)
    limited = ("--allow-limit",)
    found = run("out", *EEE, *limited, "--samples")
    assert found.exit_code == 0, found.output
    for name, content in contents(Path("store")).items():
        if name.endswith(".json"):
            record = json.loads(content)
            assert record["model_info"]["id"].startswith("Some-Lab/eft_demo-")
            for result in record["evaluation_results"]:
                assert result["score_details"]["details"]["limited"] == "true"
                assert "llm_scoring" not in result["metric_config"], "its judge is a program"
    for options_of in (CARD, ("--format", "hf-eval-results", "--repo", "me/composite")):
        refused = run("out", *options_of, *limited)
        assert "base is the demo's toy model demo:large-base" in str(refused.exception)
    assert "leave --repo out" in str(run("out", *EEE, *limited, "--repo", "me/x").exception)


@pytest.mark.parametrize(
    "config",
    [
        {"model": "vllm", "model_args": "pretrained={},dtype=float16"},
        {"model": "local-completions", "model_args": "model={},base_url=http://x:1/v1/completions"},
        {"model": "my-backend", "model_args": {"pretrained": "{}"}},
    ],
)
def test_models_of_other_backends_keep_their_owner(config: dict[str, Any]) -> None:
    for owner in ("Qwen", "unsloth"):
        name = f"{owner}/Qwen3-8B"
        given = json.loads(json.dumps(config).replace("{}", name))
        changes = {"config": given, "model_name": name, "date": runs.STARTED}
        write_run(Path(owner), {"gsm8k": {"acc": [1.0, 0.0]}}, changes=changes)
        done = run(owner, *EEE)
        assert done.exit_code == 0, done.output
        said = f"model {name} is known by its name in the run alone; its commit is not known"
        assert said in done.stderr
        (record,) = (json.loads(Path(word).read_text()) for word in done.stdout.split())
        assert (record["model_info"]["id"], record["model_info"]["name"]) == (name, name)
        assert record["model_info"]["additional_details"]["named_by"] == "its name in the run alone"
        card = run(owner, "--format", "model-card")
        assert (card.exit_code, said in card.stdout) == (0, True)
        filed = run(owner, "--format", "hf-eval-results", "--benchmark", "gsm8k=a/b:c")
        assert (filed.exit_code, "its commit is" in filed.stdout) == (0, True), filed.output
        other = run(owner, "--format", "model-card", "--repo", "some/other")
        assert "the scores are those of" in str(other.exception)
    assert {path.parts[3] for path in Path("store").rglob("*.json")} == {"Qwen", "unsloth"}


def test_models_that_are_folders_are_named_by_their_user() -> None:
    for place in ("a", "b"):
        config = {"model": "vllm", "model_args": f"pretrained=/{place}/out"}
        changes = {"config": config, "model_name": f"/{place}/out", "date": runs.STARTED}
        write_run(Path(place), {"t": {"acc": [1.0, 0.0]}}, changes=changes)
    assert "two models that are both called out" in str(run("a", "b", *EEE).exception)
    assert "say which: --repo" in str(run("a", "--format", "model-card").exception)
    done = run("a", *EEE, "--repo", "me/mine")
    assert done.exit_code == 0, done.output
    (record,) = (json.loads(Path(word).read_text()) for word in done.stdout.split())
    assert (record["model_info"]["id"], record["model_info"]["name"]) == ("me/mine", "out")
    assert "--repo" in record["model_info"]["additional_details"]["named_by"]
    card = run("a", "--format", "model-card", "--repo", "me/mine")
    assert "# mine" in card.stdout
    assert "known by whoever exported it (--repo)" in card.stdout
