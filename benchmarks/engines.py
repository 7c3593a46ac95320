"""Engines of composites on a CPU: vLLM, our own over transformers, three servers mixed outside.

    python -m benchmarks.engines --json engines.json        (in an environment with vLLM)
    python -m benchmarks.engines --drafts 2 4 6 8

The demo family's trained members in realistic shapes (`benchmarks.widening`): a vocabulary of
32,000, heads of 32, a base of over ten times the tuned member's cost. Every contestant is a process
of its own, kept alive; they take turns, and ratios are medians over the repeats. Times are for the
same prompts, greedily, until the response ends or reaches the limit; processor time, of all
processes of a contestant, says the same on a machine with other work.

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

from benchmarks.mixing_client import Servers, mixed_responses, processor_seconds

__all__ = ["Size", "main", "make_members"]

ROLES = {"base": "large-base", "tuned": "small-tuned", "reference": "small-base"}


class Size(NamedTuple):
    """How much is measured."""

    base: tuple[int, int, int, int]
    """Hidden width, heads, neurons and layers of the base."""
    small: tuple[int, int, int, int]
    """The same of the others."""
    vocabulary: int
    prompts: int
    limit: int
    repeats: int


FULL = Size((512, 16, 1408, 20), (128, 4, 352, 2), 32_000, 64, 32, 2)
SMOKE = Size((160, 4, 336, 4), (96, 4, 160, 2), 2_000, 4, 6, 1)
OURS_ROWS = 32
DRAFTED_ROWS = 8  # when lengths of drafts are compared
HEAD = 32  # the smallest that vLLM's kernels for CPUs take
POSITIONS = 512
CACHE_TOKENS = 128  # a page of vLLM's caches on a CPU: what a row takes at least


def make_members(folder: Path, size: Size) -> dict[str, str]:
    """Save the members; return their folders by role."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from benchmarks.widening import Shape, widen
    from eft_eval.recipe.locations import location_of

    found = {}
    for role, name in ROLES.items():
        source, target = str(location_of(f"demo:{name}")), folder / role
        trained = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
        hidden, heads, inner, layers = size.base if role == "base" else size.small
        shape = Shape(
            hidden, inner, layers, heads, heads, HEAD, size.vocabulary, True, role == "reference"
        )
        model = widen(trained, shape, POSITIONS, torch.device("cpu"), torch.float32)
        model.save_pretrained(target)
        AutoTokenizer.from_pretrained(source).save_pretrained(target)
        name_unused(target / "tokenizer.json", size.vocabulary)
        found[role] = str(target)
    return found


def name_unused(file: Path, size: int) -> None:
    """Give a tokenizer names for tokens that no text has, up to a vocabulary's size."""
    kept = json.loads(file.read_text())
    vocabulary = kept["model"]["vocab"]
    for number in range(max(vocabulary.values()) + 1, size):
        vocabulary[f"\u0000unused{number}"] = number
    file.write_text(json.dumps(kept, ensure_ascii=False))


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

    def __init__(self, job: dict[str, Any], threads: int | None = None) -> None:
        given = {} if threads is None else {"OMP_NUM_THREADS": str(threads)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.engine_worker", json.dumps(job)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=environment() | given,
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
    """Return what contestants run in: Intel's OpenMP, no binding to cores unless told."""
    unless = {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    given = {"VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1", "KMP_BLOCKTIME": "5"}
    openmp = Path(sys.prefix) / "lib" / "libiomp5.so"
    if openmp.is_file():
        given["LD_PRELOAD"] = str(openmp)
    return unless | os.environ | given


def measure(size: Size, servers: bool) -> dict[str, Any]:
    """Run all contestants; return the figures."""
    with tempfile.TemporaryDirectory() as folder:
        members = make_members(Path(folder), size)
        prompts = prompts_of(members["tuned"], size.prompts)
        job = job_of(members, size)
        found: dict[str, Any] = {"size": size._asdict()}
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
            found["equal_responses"] = equal_responses(found.pop("responses"))
        return found


def draft_lengths(size: Size, blocks: Sequence[int]) -> dict[str, Any]:
    """Run eft-vllm plainly and with each length of drafts, one after the other."""
    from eft_eval.plans.members import planned_composite
    from eft_eval.recipe import parse_recipe
    from eft_eval.vllm.arguments import drafted_tokens

    found: dict[str, Any] = {"size": size._asdict(), "acceptance": {}}
    with tempfile.TemporaryDirectory() as folder:
        members = make_members(Path(folder), size)
        found["auto"] = drafted_tokens(planned_composite(parse_recipe(members)))[0]
        prompts = prompts_of(members["tuned"], 3 * DRAFTED_ROWS)
        for block in (0, *blocks):
            job = job_of(members, size._replace(prompts=DRAFTED_ROWS))
            name = f"eft-vllm, {block} drafted" if block else "eft-vllm"
            with Worker(job | {"engine": "vllm", "block": block}) as worker:
                contestants = {
                    name: (worker, prompts, DRAFTED_ROWS),
                    f"{name}, batch 1": (worker, prompts[:3], 1),
                }
                turns = take_turns(contestants, members, size, servers=False)
                for key in ("tokens_per_second", "processor_ms_per_token", "responses"):
                    found.setdefault(key, {}).update(turns[key])
                statistics = worker.ask(do="memory")["statistics"]
                found["acceptance"][block] = statistics["acceptance"]
    found["equal_responses"] = equal_responses(found.pop("responses"))
    return found


def job_of(members: dict[str, str], size: Size) -> dict[str, Any]:
    """Return what a contestant has to know."""
    caches = cache_bytes(members, size.prompts)
    return {"members": members, "rows": size.prompts, "caches": caches}


def take_turns(
    contestants: dict[str, tuple[Worker, list[list[int]], int]],
    members: dict[str, str],
    size: Size,
    servers: bool,
) -> dict[str, Any]:
    """Let contestants answer in turn, the first time for warmth; return speeds and responses."""
    speeds: dict[str, list[float]] = {}
    responses: dict[str, list[list[int]]] = {}
    processor: dict[str, list[float]] = {}
    unseen = 0.0

    def record(name: str, answer: dict[str, Any], warm: bool) -> None:
        responses[name] = answer["tokens"]
        tokens = sum(map(len, answer["tokens"]))
        print(f"turn {turn}, {name}: {tokens} tokens, {answer['seconds']:.2f} s", file=sys.stderr)
        if warm:
            speeds.setdefault(name, []).append(tokens / answer["seconds"])
            processor.setdefault(name, []).append(1000 * answer["processor"] / tokens)

    for turn in range(size.repeats + 1):
        for name, (worker, prompts, rows) in contestants.items():
            answer = worker.ask(do="generate", prompts=prompts, rows=rows, limit=size.limit)
            record(name, answer, turn > 0)
    if servers:
        everything = next(iter(contestants.values()))[1]
        with Servers(members, environment()) as addresses:
            for turn in range(2):
                spent, started = processor_seconds(), time.perf_counter()
                mixed = mixed_responses(addresses, everything, size.limit, stop=0)
                seconds = time.perf_counter() - started
                answer = {"tokens": mixed.tokens, "seconds": seconds}
                answer["processor"] = processor_seconds() - spent  # other contestants sleep
                record("three servers, mixed", answer, turn > 0)
                unseen = mixed.unseen
    return {
        "tokens_per_second": speeds,
        "processor_ms_per_token": processor,
        "responses": responses,
        "steps_with_unseen_tokens": unseen if servers else None,
    }


def equal_responses(responses: dict[str, list[list[int]]]) -> dict[str, float]:
    """Return each contestant's share of responses that are those of eft-vllm."""
    exact = responses["eft-vllm"]
    return {
        name: sum(a == b for a, b in zip(made, exact, strict=False)) / len(made)
        for name, made in responses.items()
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
    spent = {n: statistics.median(one) for n, one in found["processor_ms_per_token"].items()}
    pairs = [("eft-vllm", name) for name in speed if not name.startswith("eft-vllm")]
    for name in speed:
        if "drafted" in name:
            pairs.append((name, "eft-vllm, batch 1" if name.endswith("batch 1") else "eft-vllm"))
    result = {}
    for one, other in pairs:
        result[f"{one} over {other}"] = speed[one] / speed[other]
        result[f"{one} over {other}, by processor time"] = spent[other] / spent[one]
    for name in ("memory", "memory_drafted"):
        if name in found:
            memory = found[name]
            held = memory["weights"] + memory["caches"]
            result[f"peak {name} over weights and caches"] = memory["peak"] / held
    return result


def main(words: Sequence[str] | None = None) -> dict[str, Any]:
    """Parse the command line, measure, print; return all figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", type=Path, help="write all figures here")
    parser.add_argument("--smoke", action="store_true", help="tiny members, no servers")
    parser.add_argument("--drafts", type=int, nargs="+", help="compare these lengths of drafts")
    options = parser.parse_args(words)
    size = SMOKE if options.smoke else FULL
    if options.drafts:
        found = draft_lengths(size, options.drafts)
    else:
        found = measure(size, servers=not options.smoke)
    found["ratios"] = ratios(found)
    for name, speeds in found["tokens_per_second"].items():
        equal = found["equal_responses"][name]
        spent = statistics.median(found["processor_ms_per_token"][name])
        print(
            f"{name:32} {statistics.median(speeds):9.1f} tokens/s, {spent:7.2f} ms of processors a "
            f"token, {equal:.0%} of responses as eft-vllm's"
        )
    for name, value in found["ratios"].items():
        print(f"{name:64} {value:.2f}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    return found


if __name__ == "__main__":
    main()
