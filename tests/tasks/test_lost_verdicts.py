"""A judge that goes down in mid-run: the process says so in its last lines."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from fresh_environments import clean_environ

pytestmark = pytest.mark.slow  # whole commands


@pytest.mark.parametrize(
    ("command", "answered", "code"),
    [(["lm_eval"], 2, 0), (["eft_eval", "run"], 2, 3), (["eft_eval", "run"], 6, 0)],
)
def test_a_judge_that_goes_down_is_the_last_that_is_said(
    tmp_path: Path,
    openai_server: Callable[..., Any],
    openai_server_module: ModuleType,
    command: list[str],
    answered: int,
    code: int,
) -> None:
    down = openai_server_module.Reply("overloaded", status=400)
    server = openai_server(
        lambda prompt, body: "Reason: x\n\nScore: 2" if len(server.chats) <= answered else down
    )
    data = tmp_path / "questions.jsonl"
    data.write_text("".join(json.dumps({"question": f"Why {n}?"}) + "\n" for n in range(6)))
    options = "--model eft --model_args model=demo --tasks eli5_fact --batch_size 6 --log_samples"
    done = subprocess.run(
        [
            *(sys.executable, "-m", *command, *options.split()),
            *("--output_path", str(tmp_path / "out"), "--gen_kwargs", "max_gen_toks=8"),
            *("--metadata", json.dumps({"eli5_data": str(data)})),
        ],
        cwd=tmp_path,
        env=clean_environ(
            OMP_NUM_THREADS="1",
            HF_HUB_OFFLINE="1",
            EFT_JUDGE_BASE_URL=server.url,
            EFT_JUDGE_CONCURRENCY="1",
            EFT_VERDICT_STORE=str(tmp_path / "verdicts.sqlite"),
        ),
        capture_output=True,
        text=True,
        timeout=300,
    )
    if answered == 6:
        assert done.returncode == 0, done.stderr[-2000:]
        assert "INCOMPLETE" not in done.stderr
        return
    assert done.returncode == code, done.stderr[-2000:]
    first, last = done.stderr.strip().splitlines()[-2:]
    # how many were answered depends on what the judge is asked again with other fields
    assert re.search(r"INCOMPLETE: [45] of 6 responses have no verdict on factuality", first)
    assert "`eft-eval judge RUN_DIR`" in last
