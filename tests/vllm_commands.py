"""Commands in the environment that has vLLM: ``EFT_TEST_VLLM`` is its ``bin`` folder."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

GIVEN = os.environ.get("EFT_TEST_VLLM")  # before the fixture that clears the environment
REAL = [
    pytest.mark.slow,
    pytest.mark.skipif(not GIVEN, reason="no vLLM: set EFT_TEST_VLLM to its bin folder"),
]


def environment() -> dict[str, str]:
    return os.environ | {
        "PATH": f"{GIVEN}:{os.environ['PATH']}",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_LOGGING_LEVEL": "WARNING",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
    }


def harness(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [f"{GIVEN}/lm_eval", *words, "--include_path", str(tmp_path), "--output_path",
         str(tmp_path / "out"), "--log_samples"],
        env=environment(), capture_output=True, text=True, timeout=900,
    )  # fmt: skip
