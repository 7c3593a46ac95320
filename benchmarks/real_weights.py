"""Real weights at batch 1: ours against plain decoding, the base alone and assisted generation.

    python -m benchmarks.real_weights MODEL PROMPTS.jsonl --json real.json

MODEL is one trained model of Llama's form (a folder, or a GGUF file, which is unpacked), PROMPTS as
in `benchmarks.precision`. The tuned member is the model, the reference the model without some of
its layers, which has learnt less; the base is the model made deeper by layers that add nothing, up
to ``--depth``. So the composite says more of what the whole model knows better than the cut one,
and its text and acceptance are those of trained weights. ``--cut`` sets the acceptance, ``--depth``
the base's cost. Then the small members give way to models of random weights, of whose drafts hardly
one stands. Contestants alternate; ratios are medians over the repeats.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.decoding import Contest, alternate, make_useless

RATIOS = {
    "speculative over plain, greedy": ("speculative", "plain"),
    "speculative over plain, T = 1": ("speculative, T = 1", "plain, T = 1"),
    "speculative over the base alone, greedy": ("speculative", "base alone"),
    "speculative over assisted generation, greedy": ("speculative", "assisted"),
    "speculative over assisted generation, T = 1": ("speculative, T = 1", "assisted, T = 1"),
    "useless draft, auto over plain": ("useless, auto", "useless, plain"),
}


def make_members(source: str, folder: Path, depth: int, cut: int) -> dict[str, str]:
    """Save the model, a deeper one and one without some layers; return their folders by role."""
    from transformers import LlamaForCausalLM

    from benchmarks.deepening import grow
    from eft_eval import Composite

    (loaded,) = set(Composite.load({"base": source}, device="cpu").members.values())
    config = copy.deepcopy(loaded.model.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config  # of a GGUF file; what was unpacked is none of its kind
    whole: Any = LlamaForCausalLM(config)
    whole.load_state_dict(loaded.model.state_dict())
    found = {}
    for role in ("tuned", "reference", "base"):
        model = whole if role == "base" else copy.deepcopy(whole)
        if role == "base":
            grow(model, depth)
        if role == "reference" and cut:  # of late layers, the last two apart
            stack = model.model.layers
            del stack[len(stack) - 2 - cut : len(stack) - 2]
            for number, layer in enumerate(stack):
                layer.self_attn.layer_idx = number
            model.config.num_hidden_layers = len(stack)
        found[role] = str(folder / role)
        model.save_pretrained(found[role])
        loaded.tokenizer.save_pretrained(found[role])
    return found


def texts_of(folder: str, file: Path, count: int) -> list[str]:
    """Return prompts in the model's chat template, where it has one."""
    from transformers import AutoTokenizer

    from benchmarks.precision import prompts_in

    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompts = prompts_in(file, count)
    if not tokenizer.chat_template:
        return prompts
    return [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
        )
        for prompt in prompts
    ]


def accepted(contest: Contest, count: int, temperature: float) -> dict[str, Any]:
    """Return what the decoder learnt while it was measured."""
    seen = contest.decoder("auto", 1, temperature).statistics
    blocks = sum(block * rounds for block, rounds in seen.blocks.items())
    return {
        "acceptance": seen.accepted / seen.tested if seen.tested else None,
        "tokens_per_round": seen.tokens / seen.rounds,
        "drafted_per_round": blocks / seen.rounds,
        "own_time_share": seen.own_seconds / seen.total_seconds,
    }


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Run everything; return the ratios and what they came from."""
    from benchmarks.deepening import cost_per_token

    count = given.count
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = make_members(given.model, folder, given.depth, given.cut)
        texts = texts_of(paths["tuned"], given.prompts, count)
        useless_paths = make_useless(paths, folder / "useless", "float32")
        contest, useless = (
            Contest(one, "cpu", "float32", texts, given.limit) for one in (paths, useless_paths)
        )
        costs = cost_per_token(contest.models, 8)
        contestants = {
            "plain": partial(contest.ours, 0, 1, count),
            "speculative": partial(contest.ours, "auto", 1, count),
            "assisted": partial(contest.assisted, count),
            "base alone": partial(contest.base_alone, count),
            "plain, T = 1": partial(contest.ours, 0, 1, count, 1.0),
            "speculative, T = 1": partial(contest.ours, "auto", 1, count, 1.0),
            "assisted, T = 1": partial(contest.assisted, count, 1.0),
            "useless, plain": partial(useless.ours, 0, 1, count, 1.0),
            "useless, auto": partial(useless.ours, "auto", 1, count, 1.0),
        }
        chosen = {name: contestants[name] for name in given.only or contestants}
        speeds = alternate(chosen, given.repeats)
        detail = {
            f"T = {temperature:g}": accepted(contest, count, temperature)
            for temperature, name in ((0.0, "speculative"), (1.0, "speculative, T = 1"))
            if name in chosen
        }
    ratios = {
        name: statistics.median(a / b for a, b in zip(speeds[one], speeds[other], strict=True))
        for name, (one, other) in RATIOS.items()
        if {one, other} <= speeds.keys()
    }
    return {
        "ratios": ratios,
        "tokens_per_second": speeds,
        "statistics": detail,
        "cost_per_token_over_tuned": [cost / costs[1] for cost in costs],
    }


def main() -> None:
    """Measure, and print the ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("model", help="folder, hub id or GGUF file")
    parser.add_argument("prompts", type=Path)
    parser.add_argument("--depth", type=int, default=120, help="layers of the base")
    parser.add_argument("--cut", type=int, default=2, help="layers that the reference lacks")
    parser.add_argument("--count", type=int, default=2, help="prompts")
    parser.add_argument("--limit", type=int, default=20, help="tokens per response")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="+", help="contestants; default: all")
    parser.add_argument("--json", type=Path, help="write ratios and raw figures here")
    given = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    found = measure(given)
    for name, value in found["ratios"].items():
        print(f"{name:46} {value:.3f}")
    for name, value in found["statistics"].items():
        print(name, {key: one if one is None else round(one, 3) for key, one in value.items()})
    print("costs of base, tuned and reference per token, over tuned:", end=" ")
    print(*(f"{cost:.2f}" for cost in found["cost_per_token_over_tuned"]))
    if given.json:
        told = {key: str(value) for key, value in vars(given).items()}
        given.json.write_text(json.dumps({**told, **found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
