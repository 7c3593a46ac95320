"""Composites on the real vLLM, against the float64 loop; in an environment of its own.

``EFT_TEST_VLLM`` is the ``bin`` folder of an environment with vLLM and eft-eval.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from reference import Reference
from scipy.stats import chi2, chisquare
from vllm_commands import GIVEN, REAL, environment, harness, ran
from vllm_members import PROMPTS, save_members, write_tasks

from eft_eval.composite.encoding import TextEncoding

DRIVER = Path(__file__).parents[1] / "vllm_driver.py"
PAIRS = [
    ["What is", " the capital of France?"],
    ["hello", " world, how are you?"],
    ["", "A fox"],
    ["The quick brown fox jumps over the lazy dog. " * 3, " And 1 2 3 then it sleeps."],
]

pytestmark = REAL


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return save_members(tmp_path_factory.mktemp("members"))


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
