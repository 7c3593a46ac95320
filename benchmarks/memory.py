"""Peak memory of generation over weights, live caches and one block of scores.

    python -m benchmarks.memory --json memory.json

Each case runs in a process of its own: the peak of its resident memory over what it had before the
weights were there, as Linux counts it, over the sum of the weights, the caches at the end and the
scores of one block, rows x (block + 1) x V x 4 bytes for the sum, the noise and each view. A base
with sliding windows and one of equal shape without tell what dropping entries saves.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROWS, PROMPT, NEW, BLOCK, VOCABULARY, WINDOW = 8, 1500, 48, 4, 8192, 256
SHAPE = {"hidden_size": 512, "intermediate_size": 1536, "num_attention_heads": 8, "head_dim": 64}
CASES = {"full attention": None, "windows": WINDOW}


def save(folder: Path, layers: int, window: int | None, seed: int) -> str:
    """Save a random model, five layers with a window to one without; return its folder."""
    import torch
    from transformers import AutoTokenizer, MinistralConfig, MinistralForCausalLM

    from eft_eval.recipe.locations import location_of

    kinds = ["sliding_attention" if window and n % 6 != 5 else "full_attention"
             for n in range(layers)]  # fmt: skip
    config: Any = MinistralConfig(
        **SHAPE, vocab_size=VOCABULARY, num_hidden_layers=layers, num_key_value_heads=8,
        layer_types=kinds, sliding_window=window or 4096, max_position_embeddings=4096,
    )  # fmt: skip
    torch.manual_seed(seed)
    model: Any = MinistralForCausalLM(config)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(str(location_of("demo:small-base"))).save_pretrained(folder)
    return str(folder)


def resident(which: str) -> int:
    """Return this process's memory now (``VmRSS``) or at its peak (``VmHWM``), in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(which)).split()[1]) * 1024


def one(paths: dict[str, str]) -> dict[str, float]:
    """Generate in this process; return peak and what it should be made of, in MB."""
    import torch

    from eft_eval.api import Composite
    from eft_eval.decoding import Decoder, Request, SamplingRule
    from eft_eval.engine.footprint import cache_bytes
    from eft_eval.engine.loading import LoadOptions
    from eft_eval.recipe import parse_recipe

    composite = Composite(parse_recipe(paths), LoadOptions(device=torch.device("cpu")))
    warm = Composite(parse_recipe({"base": paths["tuned"]}), LoadOptions())
    Decoder(warm, 0).generate([Request(([5, 6],))], SamplingRule(), 2)  # what libraries keep
    del warm
    gc.collect()
    before = resident("VmRSS")
    models = [composite.members[role].model for role in ("base", "tuned", "reference")]
    weights = sum(w.numel() * w.element_size() for m in models for w in m.parameters())
    prompts = [[(31 * r + 7 * i) % 250 + 5 for i in range(PROMPT - 9 * r)] for r in range(ROWS)]
    Path("/proc/self/clear_refs").write_text("5")
    requests = [Request((prompt,) * 3) for prompt in prompts]
    Decoder(composite, BLOCK).generate(requests, SamplingRule(), NEW, batch_size=ROWS)
    peak = resident("VmHWM") - before
    caches = sum(
        cache_bytes(view.member, ROWS, PROMPT + NEW + BLOCK + 1) for view in composite.views
    )
    scores = ROWS * (BLOCK + 1) * VOCABULARY * 4 * 5
    return {
        "peak_over_parts": peak / (weights + caches + scores),
        "peak": peak / 1e6,
        "weights": weights / 1e6,
        "caches": caches / 1e6,
        "scores": scores / 1e6,
    }


def main() -> None:
    """Run every case in a process of its own, print the figures and write them where asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(json.loads(options.one))))
        return
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for case, window in CASES.items():
            place = Path(folder) / case
            paths = {
                role: save(place / role, layers, window, seed)
                for seed, (role, layers) in enumerate(
                    {"base": 12, "tuned": 3, "reference": 3}.items()
                )
            }
            command = [sys.executable, "-m", "benchmarks.memory", "--one", json.dumps(paths)]
            made = subprocess.run(command, check=True, capture_output=True, text=True)
            found[case] = json.loads(made.stdout.splitlines()[-1])
            print(case, {name: round(value, 2) for name, value in found[case].items()}, flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
