"""A composite served by the real vLLM: tokens, scores, refusals, and as a judge.

``EFT_TEST_VLLM`` is the ``bin`` folder of an environment with vLLM and eft-eval.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from judged_runs import make_verdict, write_judged_run
from openai import BadRequestError, OpenAI
from reference import Reference
from transformers import AutoModelForCausalLM, AutoTokenizer
from vllm_commands import GIVEN, REAL, environment, started
from vllm_members import PROMPTS, WORDS, save_members, write_tasks

from eft_eval.composite.encoding import TextEncoding
from eft_eval.verdicts.text import verdicts_in

pytestmark = REAL


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return save_members(tmp_path_factory.mktemp("members"))


def with_a_token_of_its_own(folder: str, copy: Path) -> str:
    """Save a model again, with one token more: the last."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<alone>"], special_tokens=True)
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    model.save_pretrained(copy)
    tokenizer.save_pretrained(copy)
    return str(copy)


@pytest.fixture
def served(
    folders: dict[str, str], tmp_path: Path
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    folders = folders | {"tuned": with_a_token_of_its_own(folders["tuned"], tmp_path / "tuned")}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    recipe = ",".join(f"{role}={folders[role]}" for role in ("base", "tuned", "reference"))
    words = ["serve", f"{recipe},block=0", "--port", str(port), "--host", "127.0.0.1"]
    words += ["--enforce-eager", "--max-num-seqs", "64", "--served-model-name", "composite"]
    address, nowhere = f"http://127.0.0.1:{port}", subprocess.DEVNULL
    with started([f"{GIVEN}/eft-eval", *words], stdout=nowhere, stderr=nowhere) as server:
        for _ in range(600):
            assert server.poll() is None, "the server ended before it answered"
            try:
                urllib.request.urlopen(f"{address}/health", timeout=5).close()
                break
            except OSError:
                time.sleep(0.5)
        yield address, server


def test_the_server(
    folders: dict[str, str], served: tuple[str, subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    address, server = served
    client = OpenAI(base_url=f"{address}/v1", api_key="none", timeout=120)
    reference = Reference(folders["base"], [(folders["tuned"], folders["reference"], 1.0)])
    encoding = TextEncoding(reference.tokenizer)
    stops = frozenset({reference.tokenizer.eos_token_id})
    expected = {}
    for prompt in PROMPTS:
        tokens = encoding.tokens(prompt)
        expected[prompt] = encoding.text(reference.generate(tokens, 12, stops))

    def asked(prompt: str) -> str:
        answer = client.completions.create(
            model="composite", prompt=encoding.tokens(prompt), max_tokens=12, temperature=0.0
        )
        return answer.choices[0].text

    with ThreadPoolExecutor(64) as pool:  # 64 requests at once
        found = list(pool.map(asked, PROMPTS * 16))
    assert found == [expected[prompt] for prompt in PROMPTS * 16]
    scores, said = local_completions(address, folders["tuned"], tmp_path)
    own = [reference.score(*encoding.pair("Pick one:", f" {word}")[:2])[0] for word in WORDS]
    assert scores == pytest.approx(own, abs=1e-4)
    assert said == encoding.text(reference.generate(encoding.tokens("Pick one:"), 12, stops))
    asked_otherwise(client, expected["hello"], reference.log_probs(encoding.tokens("hello"))[-1])
    turns = [{"role": "user", "content": "hello"}]
    rendered = reference.tokenizer.apply_chat_template(
        turns, tokenize=False, add_generation_prompt=True
    )
    tokens = encoding.tokens(rendered, add_special_tokens=False)
    answer = client.chat.completions.create(
        model="composite", messages=turns, max_tokens=12, temperature=0.0
    )
    found_text = answer.choices[0].message.content
    assert found_text == encoding.text(reference.generate(tokens, 12, stops))
    judged(address, client, tmp_path)
    server.send_signal(signal.SIGTERM)
    assert server.wait(timeout=60) in (0, -signal.SIGTERM)


def asked_otherwise(client: Any, greedy: str, log_probs: np.ndarray) -> None:
    """Ask for samples, log-probabilities, stops and one of two answers."""

    def asked(**settings: Any) -> list[Any]:
        choices: list[Any] = client.completions.create(
            model="composite", **({"prompt": "hello", "max_tokens": 8} | settings)
        ).choices
        return choices

    (told,) = asked(max_tokens=1, temperature=0.0, logprobs=3)
    best = np.sort(log_probs)[::-1][:3]
    assert sorted(told.logprobs.top_logprobs[0].values())[::-1] == pytest.approx(best, abs=1e-4)
    samples = {"n": 2, "temperature": 0.8, "top_p": 0.9, "seed": 3, "presence_penalty": 0.5}
    samples["extra_body"] = {"top_k": 50, "min_p": 0.01}
    first, second = ([one.text for one in asked(**samples)] for _ in range(2))
    assert first == second
    assert len(first) == 2
    (stopped,) = asked(temperature=0.0, stop=[greedy[2:5]])
    assert stopped.text == greedy[: greedy.index(greedy[2:5])]
    choice = {"structured_outputs": {"choice": ["fact", "fiction"]}}
    (chosen,) = asked(temperature=0.0, extra_body=choice)
    assert chosen.text in ("fact", "fiction")
    with pytest.raises(BadRequestError, match=r"'<alone>'\), which not every member"):
        asked(prompt="hello <alone>")


def judged(address: str, client: Any, tmp_path: Path) -> None:
    """Judge a run by the served composite: what is stored is its greedy reply."""
    run = write_judged_run(tmp_path / "run", [make_verdict(0.0)] * 2)
    before = {*tmp_path.glob("run/**/samples_*.jsonl")}
    prompt = tmp_path / "short.jinja"
    prompt.write_text(
        "{#-\nname: short\nversion: 1\nscale: count\nbetter: lower\nparser: reason_score\n"
        "variables: [response]\n-#}\nScore: {{ response }}\n"
    )
    words = [sys.executable, "-m", "eft_eval", "judge", str(run), "--prompt", str(prompt)]
    done = subprocess.run(
        [*words, "--judge", f"composite@{address}/v1"],
        env=environment() | {"EFT_JUDGE_MAX_TOKENS": "8", "EFT_JUDGE_STORE": str(tmp_path / "v")},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode in (0, 3), done.stderr[-2000:]  # 3: cut off, and so without a verdict
    (samples,) = {*tmp_path.glob("run/**/samples_*.jsonl")} - before
    for line in map(json.loads, samples.read_text().splitlines()):
        (verdict,) = verdicts_in(line["filtered_resps"]) or ()
        content = f"Score: {line['resps'][0][0]}"
        reply = client.chat.completions.create(
            model="composite", messages=[{"role": "user", "content": content}],
            max_tokens=8, temperature=0.0,
        )  # fmt: skip
        assert verdict.raw == reply.choices[0].message.content


def local_completions(address: str, tokenizer: str, tmp_path: Path) -> tuple[list[float], str]:
    """Return the log-likelihoods and the response that stock lm-eval gets from a composite."""
    write_tasks(tmp_path)
    done = subprocess.run(
        [f"{GIVEN}/lm_eval", "--model", "local-completions", "--model_args",
         f"model=composite,base_url={address}/v1/completions,tokenizer={tokenizer},"
         "tokenizer_backend=huggingface,max_length=256",
         "--tasks", "pick,say", "--include_path", str(tmp_path), "--output_path",
         str(tmp_path / "out"), "--log_samples"],
        env=environment(), capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = {}
    for task in ("pick", "say"):
        (samples,) = (tmp_path / "out").glob(f"**/samples_{task}_*.jsonl")
        found[task] = json.loads(samples.read_text().splitlines()[0])["resps"]
    return [float(answer[0][0]) for answer in found["pick"]], found["say"][0][0]
