"""Commands in the environment that has vLLM: ``EFT_TEST_VLLM`` is its ``bin`` folder."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

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


@contextlib.contextmanager
def started(words: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """Run a command until the block ends, however it ends.

    vLLM's engines are processes of their own, which outlive a killed parent: they end with it here.
    """
    given = {"env": environment()} | options
    process: subprocess.Popen[Any] = subprocess.Popen(words, start_new_session=True, **given)
    try:
        yield process
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=60)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def ran(words: Sequence[str], timeout: float, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    pipe = subprocess.PIPE
    with started(words, stdout=pipe, stderr=pipe, text=True, **options) as process:
        out, err = process.communicate(timeout=timeout)
    return subprocess.CompletedProcess(words, process.returncode, out, err)


def harness(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    places = ["--include_path", str(tmp_path), "--output_path", str(tmp_path / "out")]
    return ran([f"{GIVEN}/lm_eval", *words, *places, "--log_samples"], 900)
