"""A base with sliding windows: drafted, against the plain static batches it had to run in before.

    python -m benchmarks.windows --json windows.json [--repeats 5]

The demo family's trained models, the base made deeper as in `benchmarks.decoding`. Its layers are
a Gemma 3's: five with a window of 32 tokens to one that sees all; those that were trained see all,
so that the model says what it said and acceptance is the trained models' own. Contestants
alternate within a run; ratios are medians over the repeats.
"""

from __future__ import annotations

import statistics
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.decoding import COST, LIMIT, Contest, alternate, make_family, run

WINDOW = 32
PATTERN = 6  # every sixth layer sees all
BEFORE = "as before: what a window forgot cannot be taken back"


def windowed(source: str, target: Path, trained: int) -> str:
    """Save a Llama as a Ministral, which is the same sum, with windows."""
    from transformers import AutoTokenizer, LlamaForCausalLM, MinistralConfig, MinistralForCausalLM

    model: Any = LlamaForCausalLM.from_pretrained(source)
    shape = model.config.to_dict()
    whole = [n < trained or n % PATTERN == PATTERN - 1 for n in range(shape["num_hidden_layers"])]
    for name in ("model_type", "architectures", "layer_types", "sliding_window"):
        shape.pop(name, None)
    kinds = ["full_attention" if one else "sliding_attention" for one in whole]
    config: Any = MinistralConfig(**shape, layer_types=kinds, sliding_window=WINDOW)
    made: Any = MinistralForCausalLM(config).to(model.dtype)
    made.load_state_dict(model.state_dict())
    made.save_pretrained(target)
    AutoTokenizer.from_pretrained(source).save_pretrained(target)
    return str(target)


def against_before(
    now: Contest, before: Contest, told: dict[str, str], repeats: int
) -> dict[str, list[float]]:
    """Return tokens per second now and as before, when the base's engine said that it cannot.

    Args:
        now: Our engine as it is.
        before: The same family; it is told.
        told: Why it cannot, by the engine's attribute for that.
        repeats: How often each is timed.
    """
    # what the engine says of itself is tried out once and kept: it is told otherwise
    before.composite.members["base"].engine.__dict__.update(told)
    return alternate(
        {
            "before_b1": partial(before.ours, 0, 1, 4),
            "plain_b1": partial(now.ours, 0, 1, 4),
            "speculative_b1": partial(now.ours, "auto", 1, 4),
            "before_b16": partial(before.ours, 0, 16, 48),
            "plain_b16": partial(now.ours, 0, 16, 48),
            "speculative_b16": partial(now.ours, "auto", 16, 48),
        },
        repeats,
    )


def measure(repeats: int, device: str, dtype: str) -> dict[str, Any]:
    """Run everything; return the ratios and what they came from."""
    from transformers import AutoConfig

    from eft_eval.recipe.locations import location_of

    trained = AutoConfig.from_pretrained(str(location_of("demo:large-base"))).num_hidden_layers
    with tempfile.TemporaryDirectory() as folder:
        paths = make_family(Path(folder), device, dtype, COST)
        paths["base"] = windowed(paths["base"], Path(folder) / "windowed", trained)
        now, before = Contest(paths, device, dtype), Contest(paths, device, dtype)
        speeds = against_before(now, before, {"_windows_fail": BEFORE}, repeats)
        counts = {name: decoded(contest) for name, contest in (("now", now), ("before", before))}
    return {
        "ratios": median_ratios(speeds),
        "tokens_per_second": speeds,
        "acceptance": counts["now"].acceptance,
        "why_plain_before": counts["before"].plain_reason,
        "base_layers": len(now.models[0].model.layers),
        "repeats": repeats,
    }


def median_ratios(speeds: dict[str, list[float]]) -> dict[str, float]:
    """Return what plain and speculative decoding gain over what was there before, by batch."""
    return {
        f"{one}_over_before_b{rows}": statistics.median(
            a / b for a, b in zip(speeds[f"{one}_b{rows}"], speeds[f"before_b{rows}"], strict=True)
        )
        for one in ("plain", "speculative")
        for rows in (1, 16)
    }


def decoded(contest: Contest) -> Any:
    """Return the statistics of a run at batch 1."""
    from eft_eval.decoding.loop import Decoder
    from eft_eval.decoding.requests import Request, SamplingRule

    decoder = Decoder(contest.composite, "auto")
    requests = [Request((prompt,) * 3) for prompt in contest.prompts[:4]]
    decoder.generate(requests, SamplingRule(), LIMIT, batch_size=1)
    return decoder.statistics.record()


if __name__ == "__main__":
    told = run(__doc__, measure)
    print(f"acceptance {told['acceptance']}; before: {told['why_plain_before']}")
