"""vLLM's and llama.cpp's servers as judges: real processes with a tiny model of random weights.

``EFT_TEST_VLLM`` is the ``bin`` folder of an environment with vLLM, ``EFT_TEST_LLAMA_CPP`` that of
one with xllamacpp. `transformers serve` is in test_transformers_serve.py.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from gguf_files import write_gguf
from judging_helpers import PROMPT, items, settings, statuses
from tiny_models import byte_tokenizer, make_model

from eft_eval.errors import ConfigError
from eft_eval.judging import Status, VerdictStore, judge_responses, preflight

VLLM = os.environ.get("EFT_TEST_VLLM")  # before the fixture that clears the environment
LLAMA_CPP = os.environ.get("EFT_TEST_LLAMA_CPP")
TOO_LONG = (
    "x" * 6000
)  # the models' context has 4,096 tokens of a byte each, in one slot of two 2,048

pytestmark = pytest.mark.slow


class Served(NamedTuple):
    """A running server."""

    url: str
    model: str


@pytest.fixture(scope="module", params=["vllm", "llama.cpp"])
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    kind = str(request.param)
    given = VLLM if kind == "vllm" else LLAMA_CPP
    if not given:
        name = "EFT_TEST_VLLM" if kind == "vllm" else "EFT_TEST_LLAMA_CPP"
        pytest.skip(f"set {name} to the bin folder of an environment that has the server")
    folder = tmp_path_factory.mktemp("served")
    tokenizer = byte_tokenizer(chat=True, extra=("qq",))
    model = make_model(
        folder / "tiny", positions=4096, vocabulary=260, hidden=128, tokenizer=tokenizer
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    python = str(Path(given) / "python")
    name = "tiny"
    if kind == "vllm":
        command = [python, "-m", "vllm.entrypoints.openai.api_server", "--model", model]
        command += ["--served-model-name", name, "--host", "127.0.0.1", "--port", str(port)]
        command += ["--dtype", "float32", "--max-model-len", "4096", "--enforce-eager"]
    else:
        name = file = write_gguf(model, folder / "tiny.gguf")
        script = Path(__file__).parents[1] / "llama_cpp_server.py"
        command = [python, str(script), file, str(port)]
    with _running(command, f"http://127.0.0.1:{port}", folder / "server.log") as url:
        yield Served(f"{url}/v1", name)


@contextlib.contextmanager
def _running(command: list[str], url: str, log: Path) -> Iterator[str]:
    quiet = {"OMP_NUM_THREADS": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1"}
    quiet |= {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env={**os.environ, **quiet})
        try:
            deadline = time.monotonic() + 600
            while not _answers(f"{url}/health"):
                assert process.poll() is None, log.read_text(errors="replace")[-2000:]
                assert time.monotonic() < deadline, "the server does not come up"
                time.sleep(0.3)
            yield url
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as reply:
            return bool(reply.status == 200)
    except urllib.error.HTTPError:
        return False  # still loading
    except OSError:
        return False


def test_a_random_model_gives_no_number(
    served: Served, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = VerdictStore(tmp_path / "v.sqlite3")
    judge = settings(served.url, model=served.model, max_tokens=16, concurrency=4, timeout_s=120)
    with caplog.at_level(logging.WARNING):
        assert preflight(judge) is None
        verdicts = judge_responses(items("a", "b", "a", TOO_LONG), PROMPT, judge, store)
    assert {*statuses(verdicts[:3])} <= {"truncated", "malformed"}, verdicts
    assert [verdict.value for verdict in verdicts] == [None] * 4
    assert verdicts[0] == verdicts[2]
    assert all(verdict.completion_tokens for verdict in verdicts[:3])
    assert all(verdict.judge_model_returned == served.model for verdict in verdicts[:3])
    assert verdicts[3].status is Status.api_error, "a prompt too long fails alone"
    assert "HTTP status 400" in str(verdicts[3].error)
    assert len(store) == 2
    again = judge_responses(items("a", "b", "a"), PROMPT, judge, store)
    assert again == verdicts[:3]


def test_json_is_asked_for_and_given(served: Served, tmp_path: Path) -> None:
    store = VerdictStore(tmp_path / "v.sqlite3")
    judge = settings(served.url, model=served.model, max_tokens=24, timeout_s=120, structured="on")
    (verdict,) = judge_responses(items("a"), PROMPT, judge, store)
    assert verdict.parameters["response_format"] == "reason_score"
    assert str(verdict.raw).lstrip().startswith("{")
    assert verdict.status is Status.truncated, "no whole object fits"


def test_another_name_is_refused_before_the_first_prompt(served: Served) -> None:
    with pytest.raises(ConfigError, match=f"has no model 'other'.*{served.model}"):
        preflight(settings(served.url, model="other"))


def test_an_unknown_field_costs_nothing(served: Served, tmp_path: Path) -> None:
    store = VerdictStore(tmp_path / "v.sqlite3")
    judge = settings(
        served.url, model=served.model, max_tokens=8, timeout_s=120,
        params={"seed": 1, "a_field_of_nobody": True},
    )  # fmt: skip
    (verdict,) = judge_responses(items("a"), PROMPT, judge, store)
    assert verdict.status in (Status.truncated, Status.malformed)
