"""README's first command as a newcomer runs it: the built wheel, an empty folder, no network."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import time
from pathlib import Path

import fresh_environments
import pytest
from documented import blocks_of
from fresh_environments import ROOT, clean_environ

pytestmark = pytest.mark.slow


def first_command() -> tuple[list[str], str]:
    """Return what README's first block runs after the install, and the table that it shows."""
    block, table, *_ = blocks_of(ROOT / "README.md")
    install, run = block.text.strip().splitlines()
    assert install.startswith("pip install ")
    return shlex.split(run), table.text


def test_readme_starts_with_a_run_that_needs_nothing(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    (program, *arguments), table = first_command()
    assert program == "lm_eval"
    environment = fresh_environments.with_wheel(tmp_path_factory, "first_command")
    started = time.monotonic()
    done = subprocess.run(
        [environment.python, "-m", program, *arguments],
        cwd=tmp_path,
        env=clean_environ(HF_HUB_OFFLINE="1", HOME=str(tmp_path), CUDA_VISIBLE_DEVICES=""),
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.monotonic() - started
    assert done.returncode == 0, done.stderr[-3000:]
    values, shown = (
        dict(re.findall(r"\|(\w+) *\|[↑↓] +\|([\d.]+)\|", text)) for text in (done.stdout, table)
    )
    assert set(values) == set(shown), done.stdout
    for metric, value in values.items():
        assert float(value) == pytest.approx(float(shown[metric]), abs=0.06, rel=0.2)
    committed = json.loads((ROOT / "docs" / "demo_figures.json").read_text(encoding="utf-8"))
    expected = committed["exported"]["arms"]["1"]["up-scaled"]
    assert float(values["fact_errors"]) == pytest.approx(expected["errors"][0], abs=0.06)
    assert float(values["helpfulness"]) == pytest.approx(expected["helpfulness"][0], abs=0.06)
    print(f"README's first command took {seconds:.0f} s after the install")
    assert seconds < 180, f"{seconds:.0f} s"
