"""`transformers serve` as a judge's server."""

from __future__ import annotations

import importlib.util
import logging
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from judging_helpers import PROMPT, items, settings
from tiny_models import byte_tokenizer, make_model

from eft_eval.judging import Status, VerdictStore, judge_responses, preflight


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """`transformers serve` with a tiny model: its base URL and the model's name."""
    missing = [name for name in ("fastapi", "uvicorn") if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"transformers serve needs {' and '.join(missing)}")
    tokenizer = byte_tokenizer(chat=True)
    folder = make_model(tmp_path / "served", positions=1024, tokenizer=tokenizer)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = (tmp_path / "serve.log").open("wb")
    command = ["-m", "transformers.cli.transformers", "serve", folder]
    process = subprocess.Popen(
        [sys.executable, *command, "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"],
        stdout=log,
        stderr=log,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 120
        while not _answers(f"{url}/health"):
            assert process.poll() is None, (tmp_path / "serve.log").read_text()[-2000:]
            assert time.monotonic() < deadline, "transformers serve does not come up"
            time.sleep(0.2)
        yield f"{url}/v1", folder
    finally:
        process.kill()
        process.wait()
        log.close()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


@pytest.mark.slow
def test_transformers_serve(
    served: tuple[str, str], store: VerdictStore, caplog: pytest.LogCaptureFixture
) -> None:
    url, model = served
    judge = settings(url, model=model, max_tokens=16, concurrency=4, timeout_s=60)
    with caplog.at_level(logging.WARNING):
        assert preflight(judge) is None
        verdicts = judge_responses(items("a", "b", "c", "a"), PROMPT, judge, store)
    # a random model writes nonsense: unreadable, and never a number
    assert {verdict.status for verdict in verdicts} <= {Status.truncated, Status.malformed}, (
        verdicts
    )
    assert [verdict.value for verdict in verdicts] == [None] * 4
    assert all(verdict.raw is not None for verdict in verdicts)
    assert all(verdict.completion_tokens for verdict in verdicts)
    assert len(store) == 3
    assert judge_responses(items("a", "b", "c", "a"), PROMPT, judge, store) == verdicts
