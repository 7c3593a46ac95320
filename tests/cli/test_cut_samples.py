"""Samples files that lack lines: refused by every command, however little the results say."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from exported_runs import write_composite_run
from judged_runs import write_labels
from typer.testing import CliRunner

from eft_eval.cli.app import app
from eft_eval.errors import EftEvalError
from eft_eval.labels.responses import read_items

COMMANDS = (
    "judge run --judge scripted:judge.yaml --dry-run",
    "judge run --judge scripted:judge.yaml",
    "correct run --labels labels.csv",
    "agree --run run --labels labels.csv",
    "gold sample run --labels labels.csv --out g --format csv",
    "labels export run --out l --format csv",
    "export run --format csv --allow-limit",
    "export run --format eee --organization me --out e --allow-limit",
    "compare run run",
    "compare whole run",
    "bless run --out b.json",
    "report run --format md",
)


@pytest.mark.parametrize(
    ("kept", "unsaid"),
    [
        (slice(0, 7), ()),
        (slice(3, None), ("n-samples",)),
        (slice(None, None, 2), ("n-samples", "task_hashes")),
    ],
)
def test_every_command_refuses_them(
    kept: slice, unsaid: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With neither counts nor hashes it is the means that tell."""
    monkeypatch.chdir(tmp_path)
    whole = write_composite_run(tmp_path / "made").rename("whole")
    items = read_items(whole)
    write_labels(Path("labels.csv"), items, {"A1": [0] * len(items), "A2": [1] * len(items)})
    Path("judge.yaml").write_text('- {match: ., reply: "Score: 1"}\n')
    run = Path(shutil.copytree(whole, "run"))
    (file,) = run.glob("results*.json")
    content = json.loads(file.read_text())
    file.write_text(json.dumps({k: v for k, v in content.items() if k not in unsaid}))
    (samples,) = run.glob("samples*")
    samples.write_text("".join(samples.read_text().splitlines(keepends=True)[kept]))
    before = {path: path.read_bytes() for path in run.iterdir()}
    for line in COMMANDS:
        done = CliRunner().invoke(app, line.split())
        assert isinstance(done.exception, EftEvalError), (line, done.output)
        assert "the samples give" in str(done.exception) or "lacks" in str(done.exception), line
    assert {path: path.read_bytes() for path in run.iterdir()} == before
    assert not {"g", "l", "e", "b.json"} & {path.name for path in Path().iterdir()}
