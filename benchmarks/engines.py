"""Engines for composites on a CPU: vLLM, our own over transformers, and three servers mixed outside.

    python -m benchmarks.engines --json engines.json        (in an environment with vLLM)

The demo family's trained members in realistic shapes (`benchmarks.widening`): a vocabulary of 32,000,
heads of 32, a base of over ten times the tuned member's cost. Every contestant is a process of
its own, kept alive; they take turns, and ratios are medians over the repeats. Times are for the
same prompts, greedily, until the response ends or reaches the limit.

How it is done without eft-eval: three vLLM servers, of which a client asks every token's 20 best
log-probabilities and sums them. It needs a round trip per token, and sees 20 of 32,000 tokens: a
token that a list lacks is given the list's last value.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

from benchmarks.mixing_client import Servers, mixed_responses

__all__ = ["Size", "main", "make_members"]

ROLES = {"base": "large-base", "tuned": "small-tuned", "reference": "small-base"}


class Size(NamedTuple):
    """How much is measured."""

    base: tuple[int, int, int, int]
    """Hidden width, heads, neurons and layers of the base."""
    small: tuple[int, int, int]
    """Hidden width, heads and neurons of the others."""
    vocabulary: int
    prompts: int
    limit: int
    repeats: int


FULL = Size((384, 12, 1024, 20), (128, 4, 352), 32_000, 64, 32, 3)
SMOKE = Size((128, 4, 336, 4), (64, 4, 160), 2_000, 4, 6, 1)
OURS_ROWS = 32
CACHE_TOKENS = 128  # a page of vLLM's caches on a CPU: what a row takes at least


def make_members(folder: Path, size: Size) -> dict[str, str]:
    """Save the members; return their folders by role."""
    from benchmarks.widening import Shape, widen
    from eft_eval.recipe.locations import location_of

    hidden, heads, neurons, layers = size.base
    narrow, few, less = size.small
    shapes = {
        "base": Shape(hidden, heads, 32, neurons, layers, size.vocabulary),
        "tuned": Shape(narrow, few, 32, less, None, size.vocabulary),
    }
    shapes["reference"] = shapes["tuned"]
    return {
        role: widen(str(location_of(f"demo:{name}")), folder / role, shapes[role])
        for role, name in ROLES.items()
    }


def cache_bytes(members: dict[str, str], rows: int) -> int:
    """Return the bytes of float32 caches in which every row has a page, draft copy included."""
    each = 0
    for folder in [*members.values(), members["tuned"]]:  # the draft has a cache of its own
        config = json.loads((Path(folder) / "config.json").read_text())
        heads = config["num_key_value_heads"] * config["head_dim"]
        each += 2 * config["num_hidden_layers"] * heads * 4
    return (rows + 2) * CACHE_TOKENS * each


class Worker:
    """A contestant in a process of its own, which answers orders line by line."""

    def __init__(self, job: dict[str, Any]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.engine_worker", json.dumps(job)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(),
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)

    def ask(self, **order: Any) -> dict[str, Any]:
        """Give an order; return the answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith("{"):  # libraries print, too
                found: dict[str, Any] = json.loads(line)
                return found
        raise RuntimeError(f"the contestant ended ({self._process.wait()}); see above")


def environment() -> dict[str, str]:
    """Return what contestants run in: Intel's OpenMP, as vLLM asks for, and no binding to cores."""
    given = {
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        "KMP_BLOCKTIME": "5",
    }
    openmp = Path(sys.prefix) / "lib" / "libiomp5.so"
    if openmp.is_file():
        given["LD_PRELOAD"] = str(openmp)
    return {"VLLM_LOGGING_LEVEL": "ERROR"} | os.environ | given


def measure(size: Size, servers: bool) -> dict[str, Any]:
    """Run all contestants; return the figures."""
    with tempfile.TemporaryDirectory() as folder:
        members = make_members(Path(folder), size)
        prompts = prompts_of(members["tuned"], size.prompts)
        job = {"members": members, "rows": size.prompts, "caches": cache_bytes(members, size.prompts)}
        found: dict[str, Any] = {"size": size._asdict(), "prompts": len(prompts)}
        with (
            Worker(job | {"engine": "vllm", "block": 0}) as plain,
            Worker(job | {"engine": "vllm", "block": 4}) as drafted,
            Worker(job | {"engine": "transformers", "block": 0}) as ours,
        ):
            contestants = {
                "eft-vllm": (plain, prompts, size.prompts),
                "eft-vllm, drafted": (drafted, prompts, size.prompts),
                "eft-vllm, batch 1": (plain, prompts[:4], 1),
                "eft-vllm, drafted, batch 1": (drafted, prompts[:4], 1),
                f"transformers engine, batch {OURS_ROWS}": (ours, prompts, OURS_ROWS),
            }
            found |= take_turns(contestants, members, size, servers)
            found["cost_over_tuned"] = ours.ask(do="cost")["cost"]
            found["memory"] = plain.ask(do="memory")
            found["memory_drafted"] = drafted.ask(do="memory")
        return found


def take_turns(
    contestants: dict[str, tuple[Worker, list[list[int]], int]],
    members: dict[str, str],
    size: Size,
    servers: bool,
) -> dict[str, Any]:
    """Let contestants answer in turn, the first time for warmth; return speeds and responses."""
    speeds: dict[str, list[float]] = {}
    responses: dict[str, list[list[int]]] = {}
    unseen = 0.0

    def record(name: str, made: list[list[int]], seconds: float, warm: bool) -> None:
        responses[name] = made
        if warm:
            speeds.setdefault(name, []).append(sum(map(len, made)) / seconds)

    for turn in range(size.repeats + 1):
        for name, (worker, prompts, rows) in contestants.items():
            answer = worker.ask(do="generate", prompts=prompts, rows=rows, limit=size.limit)
            record(name, answer["tokens"], answer["seconds"], turn > 0)
    if servers:
        everything = next(iter(contestants.values()))[1]
        with Servers(members, environment()) as addresses:
            for turn in range(2):
                started = time.perf_counter()
                mixed = mixed_responses(addresses, everything, size.limit, stop=0)
                seconds = time.perf_counter() - started
                record("three servers, mixed", mixed.tokens, seconds, turn > 0)
                unseen = mixed.unseen
    exact = responses["eft-vllm"]
    return {
        "tokens_per_second": speeds,
        "equal_responses": {
            name: sum(a == b for a, b in zip(made, exact, strict=False)) / len(made)
            for name, made in responses.items()
        },
        "steps_with_unseen_tokens": unseen if servers else None,
    }


def prompts_of(folder: str, count: int) -> list[list[int]]:
    """Return token sequences of the demo's questions."""
    from transformers import AutoTokenizer

    from eft_eval.demo.language import dialogue, question_text
    from eft_eval.demo.questions import knowledge_questions
    from eft_eval.demo.world import make_world

    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = [dialogue(question_text(one)) for one in knowledge_questions(make_world())]
    return [tokenizer(text).input_ids for text in texts[:count]]


def ratios(found: dict[str, Any]) -> dict[str, float]:
    """Return what the targets are about."""
    speed = {name: statistics.median(one) for name, one in found["tokens_per_second"].items()}
    pairs = {
        "eft-vllm over three servers": ("eft-vllm", "three servers, mixed"),
        "eft-vllm over the transformers engine": (
            "eft-vllm",
            f"transformers engine, batch {OURS_ROWS}",
        ),
        "drafted over plain, eft-vllm, batch 1": (
            "eft-vllm, drafted, batch 1",
            "eft-vllm, batch 1",
        ),
        "drafted over plain, eft-vllm, whole batch": ("eft-vllm, drafted", "eft-vllm"),
    }
    result = {
        name: speed[one] / speed[other]
        for name, (one, other) in pairs.items()
        if one in speed and other in speed
    }
    for name in ("memory", "memory_drafted"):
        memory = found[name]
        result[f"peak {name} over weights and caches"] = memory["peak"] / (
            memory["weights"] + memory["caches"]
        )
    return result


def main(words: Sequence[str] | None = None) -> dict[str, Any]:
    """Parse the command line, measure, print; return all figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", type=Path, help="write all figures here")
    parser.add_argument("--smoke", action="store_true", help="tiny members, no servers: does it run?")
    options = parser.parse_args(words)
    found = measure(SMOKE if options.smoke else FULL, servers=not options.smoke)
    found["ratios"] = ratios(found)
    for name, speeds in found["tokens_per_second"].items():
        equal = found["equal_responses"][name]
        print(f"{name:38} {statistics.median(speeds):9.1f} tokens/s, {equal:.0%} as eft-vllm")
    for name, value in found["ratios"].items():
        print(f"{name:48} {value:.2f}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    return found


if __name__ == "__main__":
    main()
