"""Two processes give the results of one, whatever lm-eval asks to fill up a rank."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fresh_environments import clean_environ

pytestmark = pytest.mark.slow


def run(out: Path, launcher: tuple[str, ...]) -> tuple[dict[str, Any], dict[int, Any]]:
    """Run five questions of the demo, twice each, and return results and responses."""
    command = [
        *(sys.executable, "-m", *launcher, "eft_eval", "run", "--model_args", "model=demo"),
        *("--tasks", "demo_fact", "--limit", "5", "--batch_size", "4", "--log_samples"),
        *("--gen_kwargs", "max_gen_toks=16,do_sample=True,temperature=1.0"),
        *("--device", "cpu", "--output_path", str(out)),
    ]
    settings = {"ACCELERATE_USE_CPU": "true", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=out.parent, env=clean_environ(**settings), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (results,) = out.glob("*/results_*.json")
    (samples,) = out.glob("*/samples_demo_fact_*.jsonl")
    lines = map(json.loads, samples.read_text("utf-8").splitlines())
    return json.loads(results.read_text("utf-8")), {one["doc_id"]: one["resps"] for one in lines}


def test_two_ranks_give_what_one_gives(tmp_path: Path) -> None:
    one, alone = run(tmp_path / "one", ())
    launcher = ("torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m")
    two, together = run(tmp_path / "two", launcher)
    assert together == alone
    assert one["results"] == two["results"]
    requests = [results["config"]["eft_decoding"]["requests"] for results in (one, two)]
    assert requests == [5, 5]


def test_processes_that_are_not_joined_are_one_line(tmp_path: Path) -> None:
    command = [
        *(sys.executable, "-m", "eft_eval", "run", "--model_args", "model=demo"),
        *("--tasks", "demo_fact", "--limit", "1", "--device", "cpu"),
    ]
    alone = {"WORLD_SIZE": "2", "RANK": "0", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        command, cwd=tmp_path, env=clean_environ(**alone), capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "WORLD_SIZE is 2, but accelerate sees one process here" in done.stderr
    assert "Traceback" not in done.stderr
