"""Composites on the real vLLM, against the float64 loop; in an environment of its own.

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
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from judged_runs import make_verdict, write_judged_run
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from openai import BadRequestError, OpenAI
from reference import Reference
from scipy.stats import chi2, chisquare
from tokenizer_kinds import size_of, tokenizer_of
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Gemma3TextConfig,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)
from vllm_commands import GIVEN, REAL, environment, harness, ran, started

from eft_eval.composite.encoding import TextEncoding
from eft_eval.verdicts.text import verdicts_in

DRIVER = Path(__file__).parents[1] / "vllm_driver.py"
PROMPTS = ["What is the capital of France?", "hello", "1 2 3 4", "The quick brown fox"]
PAIRS = [
    ["What is", " the capital of France?"],
    ["hello", " world, how are you?"],
    ["", "A fox"],
    ["The quick brown fox jumps over the lazy dog. " * 3, " And 1 2 3 then it sleeps."],
]

pytestmark = REAL


def model(folder: Path, kind: Any, shape: tuple[int, int, int], seed: int, **more: Any) -> str:
    """Save a random model: (width, layers, tokens that pad the vocabulary)."""
    width, layers, padding = shape
    tokenizer = tokenizer_of("qwen")  # AutoTokenizer gives Qwen2 models Qwen's own splits
    settings = {
        "vocab_size": size_of(tokenizer) + padding,
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": width // 32,
        "num_key_value_heads": width // 32,
        "head_dim": 32,  # the CPU kernel's smallest
        "max_position_embeddings": 256,
        "initializer_range": 0.2,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": None,
    }
    config = kind(**(settings | more))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        AutoModelForCausalLM.from_config(config).float().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


TIED = {"tie_word_embeddings": True}
SLIDING = ["sliding_attention", "full_attention"]
MEMBERS: dict[str, tuple[Any, tuple[int, int, int], dict[str, Any]]] = {
    "base": (LlamaConfig, (128, 3, 16), {}),
    "tuned": (Qwen2Config, (64, 2, 0), TIED),
    "reference": (Qwen2Config, (64, 2, 0), TIED),
    "qwen3": (Qwen3Config, (96, 2, 8), {}),
    # windows of all layers, of some, of two sizes; none
    "mistral": (MistralConfig, (128, 2, 0), {"sliding_window": 8}),
    "mistral16": (MistralConfig, (64, 2, 0), {"sliding_window": 16}),
    "gemma": (Gemma3TextConfig, (64, 2, 0), TIED | {"sliding_window": 12, "layer_types": SLIDING}),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("members")
    return {
        name: model(root / name, kind, shape, seed, **more)
        for seed, (name, (kind, shape, more)) in enumerate(MEMBERS.items())
    }


LONG = "The quick brown fox jumps over the lazy dog. " * 3
RECIPES: dict[str, dict[str, Any]] = {
    "up": {},
    "up, drafted": {"block": 3},
    "up, compiled": {"engine": {"enforce_eager": False}},  # tuned and reference are of one shape
    "filter": {"weight_top_p": 0.8},
    "two deltas": {"deltas": [("tuned", "reference", 0.7), ("qwen3", "reference", -0.4)]},
    # down-scaling: the small model is the base, and Qwen3 the larger pair's tuned one
    "down": {"base": "reference", "deltas": [("qwen3", "base", 1.0)]},
    "window below": {"base": "mistral", "deltas": [("tuned", "reference", 1.0)]},
    "window above": {"deltas": [("mistral16", "reference", 1.0)]},
    "windows": {"base": "mistral", "deltas": [("gemma", "mistral16", 1.0)]},
}
EAGER = {"enforce_eager": True, "max_num_seqs": 8}
ROLES = ("base", "tuned", "reference")


@pytest.fixture(scope="module")
def answers(
    folders: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Any]]:
    """What the engine says to every job, all of them in one process."""
    jobs: dict[str, dict[str, Any]] = {}
    greedy = {"prompts": [*PROMPTS, LONG] * 2, "pairs": PAIRS, "max_new_tokens": 24}
    for name, asked in RECIPES.items():
        recipe = {"base": folders[asked.get("base", "base")], "block": asked.get("block", 0)}
        recipe["deltas"] = [
            {"tuned": folders[t], "reference": folders[r], "weight": w}
            for t, r, w in deltas_of(asked)
        ]
        if "weight_top_p" in asked:
            recipe["weight_top_p"] = asked["weight_top_p"]
        engine = EAGER | asked.get("engine", {})
        jobs[name] = greedy | {"recipe": recipe, "engine": engine, "temperature": 0.0}
    roles = {role: folders[role] for role in ROLES}
    for block in (0, 3):
        jobs[f"samples, block {block}"] = {
            "recipe": roles | {"block": block, "weight": 0.2},
            "engine": EAGER | {"max_num_seqs": 64},
            "prompts": ["hello"] * 6000, "pairs": [], "max_new_tokens": 4, "temperature": 1.0,
        }  # fmt: skip
    for parts, more in (("whole", {}), ("in parts", {"max_num_batched_tokens": 24})):
        jobs[parts] = {
            "recipe": roles | {"block": 3},
            "engine": {"enforce_eager": True, "max_num_seqs": 4, "enable_prefix_caching": False}
            | more,
            "prompts": [f"{number} is a number. " * 6 for number in range(6)],
            "pairs": [], "max_new_tokens": 6, "temperature": 1.0,
        }  # fmt: skip
    for name, more in ROLLING.items():
        jobs[name] = {
            "recipe": roles | {"block": 3}, "engine": EAGER | more,
            "pairs": [*PAIRS, [LONG * 9, " and 1 2 3"]], "rolling": TEXTS,
        }  # fmt: skip
    ranks = {"tensor_parallel_size": 2, "distributed_executor_backend": "mp"}
    jobs["two ranks"] = jobs["up"] | {
        "engine": EAGER | ranks, "environment": {"VLLM_CPU_OMP_THREADS_BIND": "0|1"}
    }  # fmt: skip
    return ask(tmp_path_factory.mktemp("jobs"), jobs)


ROLLING = {"rolling, short rows": {"max_model_len": 24}, "rolling, the members' own": {}}
TEXTS = ["A fox", LONG, LONG * 9, ""]


def deltas_of(asked: dict[str, Any]) -> list[tuple[str, str, float]]:
    found: list[tuple[str, str, float]] = asked.get("deltas", [("tuned", "reference", 1.0)])
    return found


def ask(tmp_path: Path, jobs: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    (tmp_path / "jobs.json").write_text(json.dumps(jobs))
    done = ran(
        [f"{GIVEN}/python", str(DRIVER), "jobs.json", "answers.json"], 1500, cwd=tmp_path,
        env=environment() | {
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CACHE_ROOT": str(tmp_path / "cache")
        },
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-300:] + done.stderr[-3000:]
    found: dict[str, dict[str, Any]] = json.loads((tmp_path / "answers.json").read_text())
    return found


@pytest.mark.parametrize("name", RECIPES)
def test_equal_to_the_float64_loop(
    folders: dict[str, str], answers: dict[str, dict[str, Any]], name: str
) -> None:
    asked, found = RECIPES[name], answers[name]
    deltas = [(folders[t], folders[r], w) for t, r, w in deltas_of(asked)]
    base = folders[asked.get("base", "base")]
    reference = Reference(base, deltas, asked.get("weight_top_p"))
    encoding = TextEncoding(reference.tokenizer)
    stops = frozenset({reference.tokenizer.eos_token_id})
    for prompt, tokens in zip([*PROMPTS, LONG] * 2, found["tokens"], strict=True):
        assert tokens == reference.generate(encoding.tokens(prompt), 24, stops, guess=tokens)
    for (context, continuation), (value, greedy) in zip(PAIRS, found["scores"], strict=True):
        pair = encoding.pair(context, continuation)
        expected, is_greedy = reference.score(pair.context, pair.continuation)
        assert value == pytest.approx(expected, abs=1e-4)
        assert greedy == is_greedy
    assert (found["drafted"] > 0) == (asked.get("block", 0) != 0)


@pytest.mark.parametrize("name", ROLLING)
def test_rows_as_long_as_members_read(
    folders: dict[str, str], answers: dict[str, dict[str, Any]], name: str
) -> None:
    """lm-eval's scores, rolling too, over `eft`'s windows: the last token is never read."""
    found = answers[name]
    assert "not every member has" in found["refused"]
    limit = ROLLING[name].get("max_model_len", 256)
    assert found["max_length"] == limit
    base, tuned, other = (folders[role] for role in ROLES)
    reference = Reference(base, [(tuned, other, 1.0)])
    encoding = TextEncoding(reference.tokenizer)
    for texts, (value, greedy) in zip(
        [*PAIRS, [LONG * 9, " and 1 2 3"]], found["scores"], strict=True
    ):
        pair = encoding.pair(*texts)
        row = [*pair.context, *pair.continuation][-limit - 1 :]
        border = len(row) - len(pair.continuation)
        expected, is_greedy = reference.score(row[:border], row[border:])
        assert value == pytest.approx(expected, abs=1e-4)
        assert greedy == is_greedy
    for text, value in zip(TEXTS, found["rolling"], strict=True):
        windows = map(
            make_disjoint_window,
            get_rolling_token_windows(encoding.alone(text), encoding.prefix_token, limit, 1),
        )
        expected = sum(reference.score(*window)[0] for window in windows)
        # a sum of hundreds: float32 has 7 digits
        assert value == pytest.approx(expected, abs=1e-4, rel=5e-7)
    assert len(encoding.tokens(TEXTS[2])) > 256


def test_two_ranks_are_one(answers: dict[str, dict[str, Any]]) -> None:
    one, two = answers["up"], answers["two ranks"]
    assert two["tokens"] == one["tokens"]
    for (value, greedy), (own, is_greedy) in zip(two["scores"], one["scores"], strict=True):
        assert value == pytest.approx(own, abs=1e-4)
        assert greedy == is_greedy


@pytest.mark.parametrize("block", [0, 3])
def test_samples_follow_the_distribution(
    folders: dict[str, str], answers: dict[str, dict[str, Any]], block: int
) -> None:
    found = answers[f"samples, block {block}"]
    assert (found["drafted"] > 0) == (block > 0)
    roles = {role: folders[role] for role in ROLES}
    for place in (0, 1):  # the first token is never drafted, the second one is
        assert p_value(roles, 0.2, found["tokens"], place) > 1e-4
        assert p_value(roles, 0.4, found["tokens"], place) < 1e-6  # another weight is noticed


def test_prompts_read_in_parts_change_no_sample(answers: dict[str, dict[str, Any]]) -> None:
    """A seeded request whose prompt is read in parts ended vLLM's engine on a CPU."""
    assert answers["whole"]["tokens"] == answers["in parts"]["tokens"]


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
    write_tasks(tmp_path)
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


def write_tasks(tmp_path: Path) -> None:
    (tmp_path / "docs.jsonl").write_text(json.dumps({"q": "Pick one:", "a": 0, "c": WORDS}) + "\n")
    (tmp_path / "pick.yaml").write_text(
        "task: pick\ndataset_path: json\ntest_split: test\noutput_type: multiple_choice\n"
        f"dataset_kwargs: {{data_files: {{test: {tmp_path}/docs.jsonl}}}}\n"
        'doc_to_text: "{{q}}"\ndoc_to_target: "{{a}}"\ndoc_to_choice: "{{c}}"\n'
    )
    (tmp_path / "say.yaml").write_text(
        (tmp_path / "pick.yaml").read_text().replace("task: pick", "task: say")
        .replace("multiple_choice", "generate_until").replace('doc_to_choice: "{{c}}"\n', "")
        + "generation_kwargs: {until: [], max_gen_toks: 12, do_sample: false}\n"
        "metric_list: [{metric: bypass}]\n"
    )  # fmt: skip


WORDS = ("red", "blue", "a dog")


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
