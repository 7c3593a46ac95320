"""What the loop does beside the members' passes, by size of the vocabulary and sampling rule.

    python -m benchmarks.vocabulary [--against PYTHON] [--shape smollm2] [--vocabulary 151936]

Three members of random weights whose next-token distributions are about as peaked as a language
model's, in speculative decoding. Own time is all of a round's but that of members' passes, in
milliseconds per row and token; the share is that of the whole. ``--against`` names the
interpreter of an environment with another build of eft-eval: both alternate, and the ratio of the
medians stands beside.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

RULES: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0.0},
    "T = 1": {"temperature": 1.0},
    "T = 1, top-p 0.95": {"temperature": 1.0, "top_p": 0.95},
    "T = 0.7, top-k 50, top-p 0.9": {"temperature": 0.7, "top_k": 50, "top_p": 0.9},
}
SHAPES = {
    "tiny": {"hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 128, "heads": 4},
    "smollm2": {"hidden_size": 576, "num_hidden_layers": 30, "intermediate_size": 1536, "heads": 9},
}
SPREAD = 7.0  # standard deviation of a row's logits
LIMIT = 24


def make_member(folder: Path, vocabulary: int, shape: str) -> str:
    """Save a Llama of random weights with a tokenizer of bytes; return its folder."""
    import torch
    from tokenizers import Tokenizer, models
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    size = dict(SHAPES[shape])
    heads = size.pop("heads")
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            num_attention_heads=heads,
            num_key_value_heads=heads,
            max_position_embeddings=512,
            eos_token_id=None,
            bos_token_id=None,
            **size,
        )
    )
    torch.nn.init.normal_(model.lm_head.weight, std=SPREAD / size["hidden_size"] ** 0.5)
    model.save_pretrained(folder)
    words = {f"w{number}": number for number in range(vocabulary)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
    return str(folder)


def measure(folder: str, rows: int) -> dict[str, dict[str, float]]:
    """Return per rule the own milliseconds per row and token, and the share of all time."""
    import torch

    from eft_eval import Composite
    from eft_eval.decoding.loop import Decoder
    from eft_eval.decoding.requests import Request, SamplingRule

    torch.set_num_threads(1)
    composite = Composite.load({"base": folder, "tuned": folder, "reference": folder}, device="cpu")
    found = {}
    for name, rule in RULES.items():
        decoder = Decoder(composite, 4)
        requests = [Request(([5 + row, 9, 3],) * 3, row) for row in range(rows)]
        for _ in range(2):  # the first is warm-up
            before = decoder.statistics.total_seconds, sum(decoder.statistics.seconds.values())
            tokens = decoder.statistics.tokens
            decoder.generate(requests, SamplingRule(**rule), LIMIT, batch_size=rows)
        total = decoder.statistics.total_seconds - before[0]
        own = total - (sum(decoder.statistics.seconds.values()) - before[1])
        made = decoder.statistics.tokens - tokens
        found[name] = {"own_ms": 1e3 * own / made, "share": own / total}
    return found


def main() -> None:
    """Measure, and print a table; ``--one FOLDER`` is what the alternating processes run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--vocabulary", type=int, default=151936)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--shape", choices=SHAPES, default="tiny")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--against", help="interpreter of an environment with another build")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(given.one, given.rows)))
        return
    builds = {"this": sys.executable, **({"other": given.against} if given.against else {})}
    runs: dict[str, list[dict[str, dict[str, float]]]] = {name: [] for name in builds}
    with tempfile.TemporaryDirectory() as folder:
        member = make_member(Path(folder), given.vocabulary, given.shape)
        for _ in range(given.repeats):
            for name, python in builds.items():
                command = [python, __file__, "--one", member, "--rows", str(given.rows)]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                runs[name].append(json.loads(done.stdout.splitlines()[-1]))
    for rule in RULES:
        own = {n: statistics.median(run[rule]["own_ms"] for run in r) for n, r in runs.items()}
        share = {n: statistics.median(run[rule]["share"] for run in r) for n, r in runs.items()}
        line = f"{rule:30} own {own['this']:7.3f} ms per row and token, share {share['this']:.3f}"
        if given.against:
            ratio = own["other"] / own["this"]
            line += f"; other {own['other']:7.3f}, {share['other']:.3f}: {ratio:.1f} x"
        print(line)


if __name__ == "__main__":
    main()
