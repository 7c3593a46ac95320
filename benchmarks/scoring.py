"""Scoring a composite of three members against three `--model hf` runs of the same members.

    python -m benchmarks.scoring --json scoring.json
    python -m benchmarks.scoring --shared --json shared.json
    python -m benchmarks.scoring --against WHEEL

Makes random Llama folders (one base, two small ones), scores the same requests with the same
batch size, alternates the contestants and prints medians of ratios within the run. Peak memory is
measured in processes of their own, over what the imports take. With ``--shared``: few-shot multiple
choice, each shared prefix read once, against every row read as it is. With ``--against``: the same
few-shot questions by this build and by another, in turn, each in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from benchmarks.builds import Answer, Job, alternating, builds, medians, serve

ROLES = {"base": (8, 384), "tuned": (3, 192), "reference": (3, 192)}
VOCABULARY = 16_000
BATCH = 8
QUESTIONS = 12
WORKLOADS = {
    "multiple choice: 8 contexts of 128 tokens, 4 answers of 8": (8, 128, 4, 8),
    "rolling: 8 texts of 256 tokens": (8, 1, 1, 255),
}


def make_folders(folder: Path) -> dict[str, str]:
    """Save random models of the same vocabulary; return their paths by role."""
    import torch
    from tokenizers import Tokenizer, models
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    vocabulary = {"<s>": 0, "</s>": 1} | {f"t{i}": i for i in range(2, VOCABULARY)}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(vocabulary, unk_token="<s>")),
        bos_token="<s>",
        eos_token="</s>",
        pad_token="</s>",
    )
    paths = {}
    for seed, (role, (layers, hidden)) in enumerate(ROLES.items()):
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=hidden,
            intermediate_size=2 * hidden,
            num_hidden_layers=layers,
            num_attention_heads=8,
            max_position_embeddings=2048,
            bos_token_id=0,
            eos_token_id=1,
        )
        paths[role] = str(folder / role)
        LlamaForCausalLM(config).save_pretrained(paths[role])
        tokenizer.save_pretrained(paths[role])
    return paths


def requests(workload: str) -> list[tuple[tuple[str, str], list[int], list[int]]]:
    """Return (text pair, context, continuation) as lm-eval hands them to a model."""
    contexts, length, answers, answer_length = WORKLOADS[workload]
    draw = random.Random(0)

    def tokens(count: int) -> list[int]:
        return [draw.randrange(2, VOCABULARY) for _ in range(count)]

    rows = []
    for number in range(contexts):
        context = tokens(length)
        rows += [((str(number), "x"), context, tokens(answer_length)) for _ in range(answers)]
    return rows


def few_shot() -> list[tuple[tuple[str, str], list[int], list[int]]]:
    """Return questions of 40 to 100 tokens with 4 answers each, all after the same 600 tokens."""
    draw = random.Random(1)

    def tokens(least: int, most: int) -> list[int]:
        return [draw.randrange(2, VOCABULARY) for _ in range(draw.randint(least, most))]

    shots, rows = tokens(600, 600), []
    for number in range(QUESTIONS):
        context = [*shots, *tokens(40, 100)]
        rows += [((str(number), "x"), context, tokens(2, 10)) for _ in range(4)]
    return rows


def measure_shared(repeats: int, batch: int) -> dict[str, Any]:
    """Score few-shot questions with shared prefixes read once, and with every row as it is."""
    from eft_eval.engine.prefixes import order_by_prefix
    from eft_eval.model_adapters import scoring

    def by_length(rows: Sequence[tuple[int, ...]]) -> dict[tuple[int, ...], int]:
        order = sorted(set(rows), key=lambda row: (-len(row), row))
        return {row: rank for rank, row in enumerate(order)}

    rows = few_shot()
    raw: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        paths = make_folders(Path(folder))
        now, before = (make_model("eft", paths, batch) for _ in range(2))
        for view in before.composite.views:  # found out once and kept: it is told otherwise
            view.member.engine.__dict__["_trees_fail"] = "as before"

        def timed(model: Any) -> tuple[float, list[tuple[float, bool]]]:
            vars(scoring)["order_by_prefix"] = order_by_prefix if model is now else by_length
            start = time.perf_counter()
            found = model._loglikelihood_tokens(rows, disable_tqdm=True)
            return time.perf_counter() - start, found

        (_, one), (_, other) = timed(now), timed(before)
        raw["largest difference"] = max(
            abs(a - b) for (a, _), (b, _) in zip(one, other, strict=True)
        )
        pairs = [(timed(before)[0], timed(now)[0]) for _ in range(repeats)]
        raw["seconds, as they are and shared"] = pairs
    ratios = {"few_shot_as_before_to_shared": statistics.median(a / b for a, b in pairs)}
    return {"ratios": ratios, "raw": raw, "repeats": repeats}


@lru_cache(maxsize=1)
def _kept_model(paths: str) -> Any:
    return make_model("eft", json.loads(paths))


def score(job: Job) -> Answer:
    """Score the few-shot questions; the body of a build's process."""
    model = _kept_model(json.dumps(job["paths"]))
    wall, cpu = time.perf_counter(), time.process_time()
    found = model._loglikelihood_tokens(few_shot(), disable_tqdm=True)
    return {
        "wall": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
        "scores": [float(value) for value, _ in found],
    }


def measure_against(wheel: Path, repeats: int) -> dict[str, Any]:
    """Score few-shot questions with this build and with a rival's."""
    with tempfile.TemporaryDirectory() as name:
        job = {"paths": make_folders(Path(name))}
        with builds("benchmarks.scoring", wheel, Path(name)) as started:
            answers = alternating(started, job, repeats)
    this, rival = answers["this"], answers["rival"]
    ratios = {
        f"few_shot_rival_to_this_{clock}": medians(rival, clock)[0] / medians(this, clock)[0]
        for clock in ("wall", "cpu")
    }
    pairs = zip(this[0]["scores"], rival[0]["scores"], strict=True)
    return {
        "ratios": ratios,
        "largest difference": max(abs(a - b) for a, b in pairs),
        "raw": answers,
        "repeats": repeats,
    }


def make_model(who: str, paths: dict[str, str], batch: int = BATCH) -> Any:
    """Return the lm-eval model `eft` of all members, or `hf` of one."""
    if who == "eft":
        from eft_eval.model_adapters.eft import EFTLM

        return EFTLM(**paths, batch_size=batch, device="cpu")
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=paths[who], batch_size=batch, device="cpu")


def seconds(model: Any, workload: str) -> float:
    """Return the seconds that scoring the workload takes."""
    rows = requests(workload)
    start = time.perf_counter()
    model._loglikelihood_tokens(rows, disable_tqdm=True)
    return time.perf_counter() - start


def peak_bytes(who: str, workload: str, paths: dict[str, str]) -> int:
    """Return the peak resident memory of a process that loads and scores, less its imports."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.scoring",
        "--peak",
        who,
        workload,
        json.dumps(paths),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout.strip().splitlines()[-1])


def print_peak(who: str, workload: str, paths: dict[str, str]) -> None:
    """Body of the process that `peak_bytes` starts."""
    import lm_eval.models.huggingface  # noqa: F401  # its memory is not counted

    import eft_eval.model_adapters.eft  # noqa: F401  # nor is this

    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of the imports (Linux)
    before = memory("VmRSS")
    make_model(who, paths)._loglikelihood_tokens(requests(workload), disable_tqdm=True)
    print(memory("VmHWM") - before)


def memory(kind: str) -> int:
    """Return this process's resident memory (VmRSS) or its peak (VmHWM), in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(kind + ":"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {kind}")


def measure(repeats: int) -> dict[str, Any]:
    """Run everything; return the ratios and what they came from."""
    ratios, raw = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        paths = make_folders(Path(folder))
        contestants = {who: make_model(who, paths) for who in (*ROLES, "eft")}
        for workload in WORKLOADS:
            for model in contestants.values():
                seconds(model, workload)  # loads weights, warms up
            rounds = [
                {who: seconds(model, workload) for who, model in contestants.items()}
                for _ in range(repeats)
            ]
            short = workload.split(":")[0].replace(" ", "_")
            ratios[f"{short}_time_eft_to_sum_of_hf"] = statistics.median(
                r["eft"] / sum(r[role] for role in ROLES) for r in rounds
            )
            peaks = {who: peak_bytes(who, workload, paths) for who in contestants}
            ratios[f"{short}_peak_memory_eft_to_sum_of_hf"] = peaks["eft"] / sum(
                peaks[role] for role in ROLES
            )
            raw[workload] = {"seconds": rounds, "peak_bytes": peaks}
    return {"ratios": ratios, "raw": raw, "batch_size": BATCH, "repeats": repeats}


def main() -> None:
    """Parse the command line and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--json", type=Path, help="write ratios and raw figures here")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--shared", action="store_true", help="shared prefixes against rows")
    parser.add_argument("--batch", type=int, default=BATCH, help="rows, with --shared")
    parser.add_argument("--against", type=Path, help="wheel of another build")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--peak", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        who, workload, paths = options.peak
        print_peak(who, workload, json.loads(paths))
        return
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    if options.serve:
        serve(score)
        return
    if options.against:
        found = measure_against(options.against, options.repeats)
    elif options.shared:
        found = measure_shared(options.repeats, options.batch)
    else:
        found = measure(options.repeats)
    for name, value in found["ratios"].items():
        print(f"{name:55} {value:.3f}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
