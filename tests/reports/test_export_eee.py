"""Exports for Every Eval Ever, against its schemas and by its own command.

It wants other versions than ours and so has an environment of its own: EFT_TEST_EEE names the
``bin`` of one with ``every-eval-ever==0.3.0``. Its schemas are read from there.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import exported_runs as runs
import pytest
from typer.testing import CliRunner

from eft_eval.cli.app import app

GIVEN = os.environ.get("EFT_TEST_EEE")  # before the fixture that clears the environment
SCHEMAS = """
import json, pathlib, sys, every_eval_ever, jsonschema
folder = pathlib.Path(every_eval_ever.__file__).parent / "schemas"
aggregate, instance = (
    jsonschema.Draft7Validator(json.loads((folder / f"{name}.schema.json").read_text()))
    for name in ("eval", "instance_level_eval")
)
for path in map(pathlib.Path, sys.argv[1:]):
    text = path.read_text("utf-8")
    lines = text.splitlines() if path.suffix == ".jsonl" else [text]
    for line in lines:
        validator = instance if path.suffix == ".jsonl" else aggregate
        for error in validator.iter_errors(json.loads(line)):
            print(path.name, list(error.absolute_path), error.message[:300])
"""


@pytest.fixture(scope="module")
def tools() -> Path:
    if not GIVEN:
        pytest.skip("no Every Eval Ever: set EFT_TEST_EEE to the bin of an environment with it")
    found = Path(GIVEN)
    assert (found / "every_eval_ever").exists(), f"EFT_TEST_EEE={GIVEN} has no every_eval_ever"
    return found


@pytest.fixture(scope="module")
def store(
    tools: Path, tmp_path_factory: pytest.TempPathFactory, openai_server_module: ModuleType
) -> Path:
    """Records with documents of a real run: judged, generation, choices, a group, perplexity."""
    folder = tmp_path_factory.mktemp("real")

    def answer(prompt: str, _: object) -> str:
        unreadable = "Why is number 3 so odd?" in prompt
        return runs.UNREADABLE if unreadable else runs.REPLIES[len(prompt) % len(runs.REPLIES)]

    with (
        openai_server_module.OpenAIServer(answer) as server,
        pytest.MonkeyPatch.context() as patch,
    ):
        tasks = ["eli5_fact", "sums", "sums_gen", "sums_text"]
        found = runs.run_composite(folder, patch, server.url, tasks)
    options = ["--samples", "--max-unknown", "0.2", "--organization", "Some Lab"]
    command = ["export", str(found), "--format", "eee", "--out", str(folder / "store"), *options]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    return folder / "store"


def files_of(store: Path) -> list[str]:
    return sorted(str(p.relative_to(store)) for p in store.rglob("*") if p.is_file())


def validated(tools: Path, store: Path, *files: str) -> tuple[int, list[dict[str, Any]]]:
    done = subprocess.run(
        [tools / "every_eval_ever", "validate", "--format", "json", *(files or files_of(store))],
        cwd=store,
        capture_output=True,
        text=True,
    )
    return done.returncode, json.loads(done.stdout)


def schema_errors(tools: Path, store: Path) -> str:
    command = [tools / "python", "-c", SCHEMAS, *files_of(store)]
    done = subprocess.run(command, cwd=store, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_real_run_is_valid_by_schema_and_command(tools: Path, store: Path) -> None:
    assert schema_errors(tools, store) == ""
    code, reports = validated(tools, store)
    assert code == 0, reports
    assert len(reports) == len(files_of(store)) >= 10
    assert all(r["valid"] and not r["errors"] and not r["warnings"] for r in reports)
    kinds = {report["file_type"] for report in reports if report["file_type"]}
    assert kinds == {"aggregate", "instance"}


@pytest.mark.parametrize(
    "damage",
    [
        lambda record: record["evaluation_results"][0]["score_details"].update(score=-1.0),
        lambda record: record["model_info"].update(id="tiny-lab/large"),
        lambda record: record.update(evaluation_id="another"),
        lambda record: record["evaluation_results"][0]["metric_config"].pop("lower_is_better"),
        lambda record: record["eval_library"]["additional_details"].update(eft_eval=1),
    ],
)
def test_the_command_is_awake(tools: Path, store: Path, tmp_path: Path, damage: Any) -> None:
    target = runs.copy_run(store, tmp_path)
    names = [n for n in files_of(target) if n.startswith("data/eli5_fact/")]
    (aggregate,) = (target / name for name in names if name.endswith(".json"))
    record = json.loads(aggregate.read_text())
    damage(record)
    aggregate.write_text(json.dumps(record))
    code, _ = validated(tools, target, *names)
    assert code == 1


def test_the_golden_files_are_valid(tools: Path, tmp_path: Path) -> None:
    golden = (Path(__file__).parents[1] / "data") / "export"
    record = json.loads((golden / "eee.json").read_text("utf-8"))
    samples = tmp_path / record["detailed_evaluation_results"]["file_path"]
    samples.parent.mkdir(parents=True)
    samples.write_bytes((golden / "eee_samples.jsonl").read_bytes())
    aggregate = samples.with_name(samples.name.replace("_samples.jsonl", ".json"))
    aggregate.write_bytes((golden / "eee.json").read_bytes())
    assert schema_errors(tools, tmp_path) == ""
    assert validated(tools, tmp_path)[0] == 0
