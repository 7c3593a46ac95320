"""Composites on the real vLLM, against the float64 loop; in an environment of its own.

``EFT_TEST_VLLM`` is the ``bin`` folder of an environment with vLLM and eft-eval.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from openai import OpenAI
from reference import Reference
from scipy.stats import chi2, chisquare
from tokenizer_kinds import size_of, tokenizer_of
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)
from vllm_commands import GIVEN, REAL, environment, harness

from eft_eval.composite.encoding import TextEncoding

DRIVER = Path(__file__).parents[1] / "vllm_driver.py"
PROMPTS = ["What is the capital of France?", "hello", "1 2 3 4", "The quick brown fox"]
PAIRS = [["What is", " the capital of France?"], ["hello", " world, how are you?"], ["", "A fox"]]

pytestmark = REAL


def model(
    folder: Path, kind: Any, shape: tuple[int, int, int], seed: int, *, tied: bool, **more: Any
) -> str:
    """Save a random model: (width, layers, tokens that pad the vocabulary)."""
    width, layers, padding = shape
    tokenizer = tokenizer_of("qwen")  # AutoTokenizer gives Qwen2 models Qwen's own splits
    config = kind(
        vocab_size=size_of(tokenizer) + padding,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=width // 32,
        num_key_value_heads=width // 32,
        head_dim=32,  # the CPU kernel's smallest
        max_position_embeddings=256,
        initializer_range=0.3,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        tie_word_embeddings=tied,
        **more,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        AutoModelForCausalLM.from_config(config).float().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("members")
    return {
        "base": model(root / "base", LlamaConfig, (128, 3, 16), 0, tied=False),
        "tuned": model(root / "tuned", Qwen2Config, (64, 2, 0), 1, tied=True),
        "reference": model(root / "reference", Qwen2Config, (64, 2, 0), 2, tied=True),
        "qwen3": model(root / "qwen3", Qwen3Config, (96, 2, 8), 3, tied=False),
        # windows of all layers, in two sizes, and of some
        "mistral": model(
            root / "mistral", MistralConfig, (128, 3, 0), 4, tied=False, sliding_window=8
        ),
        "mistral16": model(
            root / "mistral16", MistralConfig, (64, 2, 0), 5, tied=False, sliding_window=16
        ),
        "gemma": model(
            root / "gemma",
            Gemma3TextConfig,
            (64, 2, 0),
            6,
            tied=True,
            sliding_window=12,
            layer_types=["sliding_attention", "full_attention"],
            pad_token_id=None,
        ),
    }


def ask(tmp_path: Path, recipe: dict[str, Any], **changes: Any) -> dict[str, Any]:
    job = {
        "recipe": recipe,
        "engine": {"enforce_eager": True, "max_num_seqs": 8},
        "prompts": PROMPTS * 2,
        "pairs": PAIRS,
        "max_new_tokens": 24,
        "temperature": 0.0,
    } | changes
    (tmp_path / "job.json").write_text(json.dumps(job))
    done = subprocess.run(
        [f"{GIVEN}/python", str(DRIVER), "job.json", "answer.json"],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads((tmp_path / "answer.json").read_text())
    return found


@pytest.mark.parametrize(
    "recipe",
    [
        {"weight": 1.0, "block": 0},
        {"weight": 1.0, "block": 3},
        {"weight_top_p": 0.8, "block": 0},
        {"deltas": [("tuned", "reference", 0.7), ("qwen3", "reference", -0.4)], "block": 0},
        # down-scaling: the small model is the base, and Qwen3 the larger pair's tuned one
        {"base": "reference", "deltas": [("qwen3", "base", 1.0)], "block": 0},
        # the base's windows are not the others', and the responses are longer than these
        {"base": "mistral", "block": 0},
        {"base": "mistral", "deltas": [("gemma", "mistral16", 1.0)], "block": 0},
    ],
    ids=["up", "up, drafted", "filter", "two deltas", "down", "window below", "windows"],
)
def test_equal_to_the_float64_loop(
    folders: dict[str, str], tmp_path: Path, recipe: dict[str, Any]
) -> None:
    base = folders[recipe.pop("base", "base")]
    deltas = recipe.pop("deltas", [("tuned", "reference", recipe.pop("weight", 1.0))])
    asked = recipe | {
        "base": base,
        "deltas": [
            {"tuned": folders[t], "reference": folders[r], "weight": w} for t, r, w in deltas
        ],
    }
    found = ask(tmp_path, asked)
    reference = Reference(
        base, [(folders[t], folders[r], w) for t, r, w in deltas], recipe.get("weight_top_p")
    )
    encoding = TextEncoding(reference.tokenizer)
    stops = frozenset({reference.tokenizer.eos_token_id})
    for prompt, tokens in zip(PROMPTS * 2, found["tokens"], strict=True):
        assert tokens == reference.generate(encoding.tokens(prompt), 24, stops, guess=tokens)
    for (context, continuation), (value, greedy) in zip(PAIRS, found["scores"], strict=True):
        pair = encoding.pair(context, continuation)
        expected, is_greedy = reference.score(pair.context, pair.continuation)
        assert value == pytest.approx(expected, abs=1e-4)
        assert greedy == is_greedy
    assert (found["drafted"] > 0) == (recipe["block"] != 0)


@pytest.mark.parametrize("block", [0, 3])
def test_samples_follow_the_distribution(
    folders: dict[str, str], tmp_path: Path, block: int
) -> None:
    roles = {role: folders[role] for role in ("base", "tuned", "reference")}
    found = ask(
        tmp_path,
        roles | {"block": block, "weight": 0.2},
        prompts=["hello"] * 6000, pairs=[], max_new_tokens=4, temperature=1.0,
        engine={"enforce_eager": True, "max_num_seqs": 64},
    )  # fmt: skip
    assert (found["drafted"] > 0) == (block > 0)
    for place in (0, 1):  # the first token is never drafted, the second one is
        assert p_value(roles, 0.2, found["tokens"], place) > 1e-4
        assert p_value(roles, 0.4, found["tokens"], place) < 1e-6  # another weight is noticed


def test_prompts_read_in_parts_change_no_sample(folders: dict[str, str], tmp_path: Path) -> None:
    """A seeded request whose prompt is read in parts ended vLLM's engine on a CPU."""
    recipe = {role: folders[role] for role in ("base", "tuned", "reference")} | {"block": 3}
    prompts = [f"{number} is a number. " * 6 for number in range(6)]
    engine = {"enforce_eager": True, "max_num_seqs": 4, "enable_prefix_caching": False}
    found = [
        ask(
            tmp_path, recipe, prompts=prompts, pairs=[], temperature=1.0, max_new_tokens=6,
            engine=engine | more,
        )
        for more in ({}, {"max_num_batched_tokens": 24})
    ]  # fmt: skip
    assert found[0]["tokens"] == found[1]["tokens"]


def p_value(roles: dict[str, str], weight: float, rows: list[list[int]], place: int) -> float:
    """χ² of the tokens at a place, after each beginning that occurs often enough to say anything.

    Tokens of fewer than 5 expected ones are taken together.
    """
    reference = Reference(roles["base"], [(roles["tuned"], roles["reference"], weight)])
    context = TextEncoding(reference.tokenizer).tokens("hello")
    after: dict[tuple[int, ...], Counter[int]] = {}
    for row in rows:
        if len(row) > place:
            after.setdefault(tuple(row[:place]), Counter())[row[place]] += 1
    statistic, freedom = 0.0, 0
    for beginning, seen in after.items():
        draws = sum(seen.values())
        if draws < 100:
            continue
        tokens = [*context, *beginning]
        p = np.exp(reference.log_probs(tokens, len(tokens) - 1)[0])
        often = np.flatnonzero(p * draws >= 5)
        counts = [seen[int(token)] for token in often]
        expected = list(p[often] * draws)
        counts.append(draws - sum(counts))
        expected.append(draws - sum(expected))
        one = chisquare(counts, expected)
        statistic, freedom = statistic + float(one.statistic), freedom + len(counts) - 1
    assert freedom > 0
    return float(chi2.sf(statistic, freedom))


def test_what_the_processor_cannot_run_is_one_line(tmp_path: Path) -> None:
    done = harness(tmp_path, "--model", "eft-vllm", "--model_args", "model=demo", "--tasks", "piqa")
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("eft-eval: error: ")
    assert "heads" in last
    assert "Traceback" not in done.stderr


def test_the_harness_gets_what_eft_gives(folders: dict[str, str], tmp_path: Path) -> None:
    write_task(tmp_path)
    (tmp_path / "say.yaml").write_text(
        (tmp_path / "pick.yaml").read_text().replace("task: pick", "task: say")
        .replace("multiple_choice", "generate_until").replace('doc_to_choice: "{{c}}"\n', "")
        + "generation_kwargs: {until: [], max_gen_toks: 12, do_sample: false}\n"
        "metric_list: [{metric: bypass}]\n"
    )  # fmt: skip
    roles = ",".join(f"{role}={folders[role]}" for role in ("base", "tuned", "reference"))
    found = {}
    for name, more in (("eft", ""), ("eft-vllm", ",enforce_eager=True,block=0,max_model_len=128")):
        words = ["--model", name, "--model_args", roles + more, "--tasks", "pick,say",
                 "--apply_chat_template"]  # fmt: skip
        done = harness(tmp_path, *words)
        assert done.returncode == 0, done.stderr[-3000:]
        found[name] = {
            task: json.loads(
                max((tmp_path / "out").glob(f"**/samples_{task}_*.jsonl"))
                .read_text().splitlines()[0]
            )["resps"]
            for task in ("pick", "say")
        }  # fmt: skip
    assert found["eft-vllm"]["say"] == found["eft"]["say"]
    thought = [*words, "--gen_kwargs", "max_gen_toks=8"]
    thought[3] += ",think_end_token=</think>"
    assert harness(tmp_path, *thought).returncode == 0
    lines = max((tmp_path / "out").glob("**/samples_say_*.jsonl")).read_text().splitlines()
    assert json.loads(lines[0])["resps"] == [[""]]  # the reasoning did not end
    results = json.loads(max((tmp_path / "out").glob("**/results_*.json")).read_text())
    assert results["config"]["eft_decoding"]["unfinished"] == 1
    of_task = results["config"]["eft_decoding"]["unfinished_by_task"]
    assert of_task == {"say": {"unfinished": 1, "responses": 1, "share": 1.0}}
    scores = [[float(one[0][0]) for one in found[name]["pick"]] for name in found]
    assert scores[1] == pytest.approx(scores[0], abs=1e-4)


@pytest.fixture(scope="module")
def served(folders: dict[str, str]) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    recipe = ",".join(f"{role}={folders[role]}" for role in ("base", "tuned", "reference"))
    words = ["serve", f"{recipe},block=0", "--port", str(port), "--host", "127.0.0.1"]
    words += ["--enforce-eager", "--max-num-seqs", "64", "--served-model-name", "composite"]
    server = subprocess.Popen(
        [f"{GIVEN}/eft-eval", *words],
        env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    for _ in range(600):
        assert server.poll() is None, "the server ended before it answered"
        try:
            urllib.request.urlopen(f"{address}/health", timeout=5).close()
            break
        except OSError:
            time.sleep(0.5)
    yield address, server
    server.kill()
    server.wait()


def test_the_server(
    folders: dict[str, str], served: tuple[str, subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    address, server = served
    client = OpenAI(base_url=f"{address}/v1", api_key="none", timeout=120)
    reference = Reference(folders["base"], [(folders["tuned"], folders["reference"], 1.0)])
    encoding = TextEncoding(reference.tokenizer)
    expected = {}
    for prompt in PROMPTS:
        tokens = encoding.tokens(prompt)
        stops = frozenset({reference.tokenizer.eos_token_id})
        expected[prompt] = encoding.text(reference.generate(tokens, 12, stops))

    def asked(prompt: str) -> str:
        answer = client.completions.create(
            model="composite", prompt=encoding.tokens(prompt), max_tokens=12, temperature=0.0
        )
        return answer.choices[0].text

    with ThreadPoolExecutor(64) as pool:  # 64 requests at once
        found = list(pool.map(asked, PROMPTS * 16))
    assert found == [expected[prompt] for prompt in PROMPTS * 16]
    scored = local_completions(address, folders["tuned"], tmp_path)
    own = [reference.score(*encoding.pair("Pick one:", f" {word}")[:2])[0] for word in WORDS]
    assert scored == pytest.approx(own, abs=1e-4)
    server.send_signal(signal.SIGTERM)
    assert server.wait(timeout=60) in (0, -signal.SIGTERM)


def write_task(tmp_path: Path) -> None:
    (tmp_path / "docs.jsonl").write_text(json.dumps({"q": "Pick one:", "a": 0, "c": WORDS}) + "\n")
    (tmp_path / "pick.yaml").write_text(
        "task: pick\ndataset_path: json\ntest_split: test\noutput_type: multiple_choice\n"
        f"dataset_kwargs: {{data_files: {{test: {tmp_path}/docs.jsonl}}}}\n"
        'doc_to_text: "{{q}}"\ndoc_to_target: "{{a}}"\ndoc_to_choice: "{{c}}"\n'
    )


WORDS = ("red", "blue", "a dog")


def local_completions(address: str, tokenizer: str, tmp_path: Path) -> list[float]:
    """Return the log-likelihoods that stock lm-eval gets from a served composite."""
    write_task(tmp_path)
    done = subprocess.run(
        [f"{GIVEN}/lm_eval", "--model", "local-completions", "--model_args",
         f"model=composite,base_url={address}/v1/completions,tokenizer={tokenizer},"
         "tokenizer_backend=huggingface,max_length=256",
         "--tasks", "pick", "--include_path", str(tmp_path), "--output_path", str(tmp_path / "out"),
         "--log_samples"],
        env=environment(), capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    (samples,) = (tmp_path / "out").glob("**/samples_pick_*.jsonl")
    line = json.loads(samples.read_text().splitlines()[0])
    return [float(answer[0][0]) for answer in line["resps"]]
