"""A checkpoint with sampling settings of its own (as Qwen2.5-Instruct has), through real runs.

lm-eval's `hf` model follows them, `eft` does not: the difference is warned of, and single models
run as `eft` are like the composites beside them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from eft_eval.comparing import compare_runs, iter_samples, read_run
from eft_eval.recipe.locations import location_of

pytestmark = pytest.mark.slow

QWEN = {
    "do_sample": True,
    "repetition_penalty": 1.05,
    "temperature": 0.7,
    "top_p": 0.8,
    "top_k": 20,
}
MODEL = "demo:large-tuned"


def with_settings(folder: Path) -> Path:
    """Copy the demo's large tuned model, and give it Qwen's generation settings."""
    copy = folder / "like-qwen"
    shutil.copytree(location_of(MODEL), copy)
    settings = copy / "generation_config.json"
    known: dict[str, Any] = json.loads(settings.read_text("utf-8")) if settings.exists() else {}
    settings.write_text(json.dumps({**known, **QWEN}), "utf-8")
    return copy


def run(folder: Path, *arguments: str) -> Path:
    out = folder / f"out-{len([*folder.iterdir()])}"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "eft_eval", "run", *arguments, "--tasks", "demo_fact"),
            *("--limit", "16", "--output_path", str(out), "--log_samples", "--batch_size", "16"),
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return out


def responses(out: Path) -> list[str]:
    (task,) = read_run(out).tasks.values()
    assert task.samples_file is not None
    return [sample.responses[0][0] for sample in iter_samples(task.samples_file)]


def test_settings_of_a_checkpoint_move_hf_alone_and_are_warned_of(tmp_path: Path) -> None:
    copy = with_settings(tmp_path)
    plain = run(tmp_path, "--model_args", f"base={MODEL}")
    like = run(tmp_path, "--model_args", f"base={copy}")
    hf = run(tmp_path, "--model", "hf", "--model_args", f"pretrained={copy}")

    assert responses(like) == responses(plain)
    assert responses(hf) != responses(plain)
    told = compare_runs(read_run(plain), [read_run(like)]).candidates[0].changes
    assert not [change for change in told if change.what.startswith("sampling")]
    told = compare_runs(read_run(plain), [read_run(hf)]).candidates[0].changes
    (sampling,) = [change for change in told if change.what.startswith("sampling")]
    assert sampling.bears_on_scores
    assert sampling.baseline == "sampled"
    for words in ("top_k 20", "top_p 0.8", "repetition_penalty 1.05"):
        assert words in sampling.candidate
