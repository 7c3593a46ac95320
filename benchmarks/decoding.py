"""Speculative against plain composites, the base alone, and what transformers alone can do.

    python -m benchmarks.decoding --json decoding.json [--device cuda --dtype bfloat16]

The demo family's trained models, the base made deeper without changing what it says until it costs
12 times the tuned member per token, so that acceptance is the trained models' own. Contestants
alternate within a run; ratios are medians over the repeats. Times are for the same prompts, until
the response ends or reaches the limit; speeds are tokens of responses per second.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

COST = 12.0
LIMIT = 64
Speed = Callable[[], float]


def make_family(folder: Path, device: str, dtype: str, cost: float) -> dict[str, str]:
    """Save the demo's members, the base deepened; return their folders by role."""
    import torch

    from benchmarks.deepening import deepen, depth_for_cost
    from eft_eval.recipe.locations import location_of

    source = {
        "base": str(location_of("demo:large-base")),
        "tuned": str(location_of("demo:small-tuned")),
        "reference": str(location_of("demo:small-base")),
    }
    depth = depth_for_cost(source["base"], source["tuned"], cost, device, dtype)
    layers = {"base": depth, "tuned": 0, "reference": 0}
    return {
        role: deepen(name, folder / role, layers[role], getattr(torch, dtype))
        for role, name in source.items()
    }


def make_useless(paths: dict[str, str], folder: Path, dtype: str) -> dict[str, str]:
    """Return the family with small members of random weights: hardly a draft stands."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    found = {"base": paths["base"]}
    for seed, role in enumerate(("tuned", "reference")):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(paths[role]))
        model.to(getattr(torch, dtype)).save_pretrained(folder / role)
        AutoTokenizer.from_pretrained(paths[role]).save_pretrained(folder / role)
        found[role] = str(folder / role)
    return found


class Contest:
    """The contestants over one family, and the prompts.

    Args:
        paths: The members' folders by role.
        device: Where they run.
        dtype: What they compute in.
        texts: Prompts; None: the demo's questions.
        limit: Tokens of a response.
    """

    def __init__(
        self,
        paths: dict[str, str],
        device: str,
        dtype: str,
        texts: Sequence[str] | None = None,
        limit: int = LIMIT,
    ) -> None:
        import torch

        from eft_eval.api import Composite
        from eft_eval.demo.language import dialogue, question_text
        from eft_eval.demo.questions import knowledge_questions
        from eft_eval.demo.world import make_world
        from eft_eval.engine.loading import LoadOptions
        from eft_eval.recipe import parse_recipe

        spec = {role: {"model": path, "dtype": dtype} for role, path in paths.items()}
        deltas = [{"tuned": spec["tuned"], "reference": spec["reference"]}]
        recipe = parse_recipe({"base": spec["base"], "deltas": deltas})
        self.composite = Composite(recipe, LoadOptions(device=torch.device(device)))
        self.limit = limit
        self.texts = list(texts or ())
        if texts is None:
            asked = knowledge_questions(make_world())
            self.texts = [dialogue(question_text(one)) for one in asked]
        self.prompts = [self.composite.tokenizer(text).input_ids for text in self.texts]
        self.models = [
            self.composite.members[role].model for role in ("base", "tuned", "reference")
        ]

        self._decoders: dict[Any, Any] = {}

    def ours(self, block: Any, rows: int, count: int, temperature: float = 0.0) -> float:
        """Return the tokens per second of our decoder."""
        from eft_eval.composite.mathematics import request_seed
        from eft_eval.decoding.requests import Request, SamplingRule

        decoder = self.decoder(block, rows, temperature)
        requests = [
            Request((prompt,) * 3, request_seed(0, text, 0))
            for prompt, text in zip(self.prompts[:count], self.texts, strict=False)
        ]
        rule = SamplingRule(temperature)

        def run() -> list[list[int]]:
            made = decoder.generate(requests, rule, self.limit, batch_size=rows)
            return [one.tokens for one in made]

        return self._timed(run)

    def decoder(self, block: Any, rows: int, temperature: float) -> Any:
        """Return a decoder, kept as over the requests of a task: it goes on with what it learnt."""
        from eft_eval.decoding.loop import Decoder

        key = block, rows, temperature
        return self._decoders.setdefault(key, Decoder(self.composite, block))

    def base_alone(self, count: int, temperature: float = 0.0) -> float:
        """Return the tokens per second of transformers' generate on the base."""
        return self._generate(self.models[0], count, temperature)

    def assisted(self, count: int, temperature: float = 0.0) -> float:
        """Return those of transformers' assisted generation on a composite module."""
        from benchmarks.rivals import CompositeModule

        module = CompositeModule(*self.models)
        return self._generate(module, count, temperature, assistant_model=self.models[1])

    def side_by_side(self, rows: int, count: int) -> float:
        """Return those of three models stepped with their own caches."""
        from benchmarks.rivals import SideBySide, as_shipped

        rival = SideBySide(*self.models, stop=self.composite.tokenizer.eos_token_id)
        prompts = self.prompts[:count]
        batches = [prompts[start : start + rows] for start in range(0, count, rows)]
        with as_shipped(self.models):
            return self._timed(
                lambda: [row for b in batches for row in rival.generate(b, self.limit)]
            )

    def _generate(self, model: Any, count: int, temperature: float = 0.0, **options: Any) -> float:
        import torch

        from benchmarks.rivals import as_shipped

        how: dict[str, Any] = {"do_sample": False}
        if temperature:
            how = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}

        def run() -> list[list[int]]:
            made = []
            for prompt in self.prompts[:count]:
                tokens = torch.tensor([prompt], device=model.device)
                out = model.generate(
                    tokens, attention_mask=torch.ones_like(tokens), pad_token_id=0,
                    max_new_tokens=self.limit, **how, **options,
                )  # fmt: skip
                made.append(out[0, len(prompt) :].tolist())
            return made

        with as_shipped(self.models):
            return self._timed(run)

    def _timed(self, run: Callable[[], Sequence[Sequence[int]]]) -> float:
        import torch

        start = time.perf_counter()
        tokens = sum(map(len, run()))
        if self.composite.device.type == "cuda":
            torch.cuda.synchronize()
        return tokens / (time.perf_counter() - start)


def alternate(speeds: dict[str, Speed], repeats: int) -> dict[str, list[float]]:
    """Run every contestant once for warmth, then ``repeats`` times in turn."""
    for speed in speeds.values():
        speed()
    rounds = [{name: speed() for name, speed in speeds.items()} for _ in range(repeats)]
    return {name: [one[name] for one in rounds] for name in speeds}


def measure(repeats: int, device: str, dtype: str) -> dict[str, Any]:
    """Run everything; return the ratios and what they came from."""
    with tempfile.TemporaryDirectory() as folder:
        paths = make_family(Path(folder), device, dtype, COST)
        contest = Contest(paths, device, dtype)
        from benchmarks.deepening import cost_per_token

        costs = cost_per_token(contest.models)
        ours = contest.ours
        useless = Contest(make_useless(paths, Path(folder) / "u", dtype), device, dtype).ours
        speeds = alternate(
            {
                "plain_b1_greedy": partial(ours, 0, 1, 4),
                "speculative_b1_greedy": partial(ours, "auto", 1, 4),
                "plain_b1_t1": partial(ours, 0, 1, 4, 1.0),
                "speculative_b1_t1": partial(ours, "auto", 1, 4, 1.0),
                "base_alone_b1": partial(contest.base_alone, 4),
                "assisted_b1": partial(contest.assisted, 4),
                "plain_b16": partial(ours, 0, 16, 48),
                "speculative_b16": partial(ours, "auto", 16, 48),
                "side_by_side_b4": partial(contest.side_by_side, 4, 12),
                "speculative_b4": partial(ours, "auto", 4, 12),
                "plain_useless_draft_b1": partial(useless, 0, 1, 4),
                "auto_useless_draft_b1": partial(useless, "auto", 1, 4),
            },
            repeats,
        )
        detail = details(contest)
        flips = flip_rates(contest)
    ratios = {
        "speculative_over_plain_b1_greedy": ("speculative_b1_greedy", "plain_b1_greedy"),
        "speculative_over_plain_b1_t1": ("speculative_b1_t1", "plain_b1_t1"),
        "speculative_over_base_alone_b1": ("speculative_b1_greedy", "base_alone_b1"),
        "speculative_over_plain_b16": ("speculative_b16", "plain_b16"),
        "ours_over_side_by_side_b4": ("speculative_b4", "side_by_side_b4"),
        "ours_over_assisted_generation_b1": ("speculative_b1_greedy", "assisted_b1"),
        "auto_over_plain_useless_draft_b1": ("auto_useless_draft_b1", "plain_useless_draft_b1"),
    }
    found = {
        name: statistics.median(a / b for a, b in zip(speeds[one], speeds[other], strict=True))
        for name, (one, other) in ratios.items()
    }
    found["own_time_share"] = detail["speculative_b1"]["own_time_share"]
    return {
        "ratios": found,
        "tokens_per_second": speeds,
        "statistics": detail,
        "flips_per_1000_tokens": flips,
        "base_layers": len(contest.models[0].model.layers),
        "cost_per_token_over_tuned": [cost / costs[1] for cost in costs],
        "device": device,
        "dtype": dtype,
        "repeats": repeats,
    }


def details(contest: Contest) -> dict[str, Any]:
    """Return the decoder's own statistics, of a run each at batch 1 and 16."""
    from eft_eval.decoding.loop import Decoder
    from eft_eval.decoding.requests import Request, SamplingRule

    found = {}
    for rows, count in ((1, 6), (16, 48)):
        decoder = Decoder(contest.composite, "auto")
        requests = [Request((prompt,) * 3) for prompt in contest.prompts[:count]]
        decoder.generate(requests, SamplingRule(), LIMIT, batch_size=rows)
        found[f"speculative_b{rows}"] = decoder.statistics.record().as_dict()
    return found


def flip_rates(contest: Contest) -> dict[str, float]:
    """Return first differences per 1,000 tokens: bfloat16 against float32, and block against plain.

    Two responses are compared up to their first difference, which is one flip.
    """
    import torch

    from eft_eval.decoding.loop import Decoder
    from eft_eval.decoding.requests import Request, SamplingRule

    def responses(dtype: Any, block: Any) -> list[list[int]]:
        for model in contest.models:
            model.to(dtype)
        requests = [Request((prompt,) * 3) for prompt in contest.prompts[:48]]
        decoder = Decoder(contest.composite, block)
        made = decoder.generate(requests, SamplingRule(), LIMIT, batch_size=16)
        return [one.tokens for one in made]

    before = contest.models[0].dtype
    whole = responses(torch.float32, 0)
    whole_drafted = responses(torch.float32, 8)
    half = responses(torch.bfloat16, 0)  # from here on the weights are rounded
    half_drafted = responses(torch.bfloat16, 8)
    for model in contest.models:
        model.to(before)
    return {
        "bfloat16_against_float32": flips(half, whole),
        "bfloat16_block_8_against_plain": flips(half_drafted, half),
        "float32_block_8_against_plain": flips(whole_drafted, whole),
    }


def flips(one: list[list[int]], other: list[list[int]]) -> float:
    flips, compared = 0, 0
    for first, second in zip(one, other, strict=True):
        same = 0
        while same < min(len(first), len(second)) and first[same] == second[same]:
            same += 1
        flips += first != second
        compared += same + (first != second)
    return 1000 * flips / compared


def run(description: str, measure: Callable[[int, str, str], dict[str, Any]]) -> dict[str, Any]:
    """Parse the command line, measure, print the ratios and write all where asked; return all."""
    parser = argparse.ArgumentParser(description=description.split("\n", 1)[0])
    parser.add_argument("--json", type=Path, help="write ratios and raw figures here")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    options = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    found = measure(options.repeats, options.device, options.dtype)
    for name, value in found["ratios"].items():
        print(f"{name:40} {value:.3f}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    return found


if __name__ == "__main__":
    run(__doc__, measure)
