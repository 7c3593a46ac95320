"""Greedy tokens of a bfloat16 model that are not those of float64, per 1,000, and its time.

    python -m benchmarks.precision MODEL PROMPTS.jsonl --json precision.json

MODEL is a folder, a hub id or a GGUF file, PROMPTS a JSON Lines file with `prompt`, `question` or,
as in Anthropic's HH, `chosen`. The float64 model writes a greedy response to each prompt, in its
chat template; the others read the same tokens, and their best token at every position is compared.
Times are those of one decoding step, medians of alternating rounds.
"""

from __future__ import annotations

import argparse
import gzip
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from eft_eval import Composite
from eft_eval.composite.scoring import ScoredRow, continuation_log_probs
from eft_eval.decoding import Decoder, Request, SamplingRule

WAYS = {
    "float32": {"dtype": "float32"},
    "bfloat16, head_dtype=model": {"dtype": "bfloat16", "head_dtype": "model"},
    "bfloat16, head_dtype=float32": {"dtype": "bfloat16", "head_dtype": "float32"},
}
ROWS = (1, 8)


def prompts_in(file: Path, count: int) -> list[str]:
    """Return the first human turns of a JSON Lines file, gzipped or not."""
    opened = gzip.open if file.suffix == ".gz" else open
    found = []
    with opened(file, "rt", encoding="utf-8") as lines:
        for line in lines:
            record = json.loads(line)
            text = record.get("prompt") or record.get("question")
            if text is None:
                text = record["chosen"].partition("\n\nHuman:")[2].partition("\n\nAssistant:")[0]
            found.append(str(text).strip())
            if len(found) == count:
                break
    return found


def encoded(composite: Composite, prompts: list[str]) -> list[list[int]]:
    """Return the prompts as tokens, in the model's chat template where it has one."""
    tokenizer = composite.tokenizer
    if not tokenizer.chat_template:
        return [composite.encoding.tokens(prompt) for prompt in prompts]
    texts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
        )
        for prompt in prompts
    ]
    return [composite.encoding.tokens(text) for text in texts]


def best_tokens(composite: Composite, rows: list[ScoredRow]) -> tuple[list[int], int]:
    """Return the best token at every position of the continuations, and how often two tie."""
    found, ties = [], 0
    for start in range(0, len(rows), 8):
        for scores in continuation_log_probs(composite, rows[start : start + 8], 10**6):
            two = scores.topk(2, dim=-1).values
            ties += int((two[:, 0] == two[:, 1]).sum())
            found += scores.argmax(dim=-1).tolist()
    return found, ties


@torch.inference_mode()
def steps(composites: dict[str, Composite], rows: int, rounds: int) -> dict[str, list[float]]:
    """Return seconds of one step after a prompt of 64 tokens, by model, per round."""
    states: dict[str, Any] = {}
    for name, composite in composites.items():
        engine = composite.views[0].member.engine
        states[name] = engine.row_state(rows, 65)
        states[name].join([[3] * 65] * rows)
        states[name].forward(torch.full((rows, 1), 3))
        states[name].rewind([64] * rows)
    seconds: dict[str, list[float]] = {name: [] for name in composites}
    for _ in range(rounds):
        for name, state in states.items():
            begun = time.perf_counter()
            state.forward(torch.full((rows, 1), 3))
            seconds[name].append(time.perf_counter() - begun)
            state.rewind([64] * rows)
    return seconds


def main() -> None:
    """Print the figures, and write them where `--json` says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model")
    parser.add_argument("prompts", type=Path)
    parser.add_argument("--count", type=int, default=24, help="prompts")
    parser.add_argument("--tokens", type=int, default=64, help="of a response, at most")
    parser.add_argument("--rounds", type=int, default=25, help="of the times")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    exact = Composite.load({"base": arguments.model, "dtype": "float64"}, device="cpu")
    read = encoded(exact, prompts_in(arguments.prompts, arguments.count))
    made = Decoder(exact).generate(
        [Request((tokens,), 0) for tokens in read], SamplingRule(), arguments.tokens, batch_size=8
    )
    rows = [ScoredRow((tokens,), one.tokens) for tokens, one in zip(read, made, strict=True)]
    expected, _ = best_tokens(exact, rows)
    del exact
    composites = {
        name: Composite.load({"base": arguments.model, **way}, device="cpu")
        for name, way in WAYS.items()
    }
    figures: dict[str, Any] = {"positions": len(expected)}
    for name, composite in composites.items():
        found, ties = best_tokens(composite, rows)
        flips = sum(one != other for one, other in zip(found, expected, strict=True))
        figures[name] = {
            "flips per 1,000": 1000 * flips / len(expected),
            "ties per 1,000": 1000 * ties / len(expected),
        }
        print(name, figures[name], flush=True)
    for count in ROWS:
        seconds = steps(composites, count, arguments.rounds)
        for name, taken in seconds.items():
            figures[name][f"ms, {count} rows"] = 1000 * statistics.median(taken)
        wide, own = (seconds[f"bfloat16, head_dtype={head}"] for head in ("float32", "model"))
        ratios = [a / b for a, b in zip(wide, own, strict=True)]
        figures[f"bfloat16, time with float32 over without, {count} rows"] = statistics.median(
            ratios
        )
    text = json.dumps(figures, indent=1)
    print(text)
    if arguments.json is not None:
        arguments.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
