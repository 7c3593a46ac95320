"""The page of real runs: the demo family's four arms through the stock command, and a trace."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from fresh_environments import clean_environ

BIN = Path(sys.executable).parent
ARMS = {
    "demo-small-tuned": "small tuned",
    "demo-up": "up-scaled",
    "demo-down": "down-scaled",
    "demo-large-tuned": "large tuned",
}


def call(folder: Path, *words: str) -> str:
    done = subprocess.run(
        [str(BIN / words[0]), *words[1:]],
        cwd=folder,
        env=clean_environ(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1"),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_the_four_arms_of_the_demo_on_one_page(tmp_path: Path) -> None:
    for recipe in ARMS:
        call(
            tmp_path,
            *("lm_eval", "--model", "eft", "--model_args", f"model={recipe}", "--limit", "48"),
            *("--tasks", "demo_fact,demo_help", "--batch_size", "48"),
            *("--output_path", recipe, "--log_samples"),
        )
    call(tmp_path, "eft-eval", "trace", "Tell me about Toni Maldan.", "--json", "trace.json")
    call(
        tmp_path,
        *("eft-eval", "report", *ARMS, "--trace", "trace.json", "--out", "report.html"),
    )
    page = (tmp_path / "report.html").read_text("utf-8")
    for arm in ARMS.values():
        assert f">{arm}</th>" in page
    assert 'id="improvements"' in page
    assert page.count('data-token="') > 10
    assert "demo-exact" in page
    text = call(tmp_path, "eft-eval", "report", *ARMS, "--format", "md")
    (row,) = re.findall(r"^\| demo_fact/fact_errors,exact \| 48 \|.*$", text, re.MULTILINE)
    up, down = (float(cell.split()[0]) for cell in row.split("|")[4:6])
    assert up > 0.5 > down  # errors: knowledge comes with the large base
