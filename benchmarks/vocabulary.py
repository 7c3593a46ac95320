"""Speculative decoding over real vocabularies: speed, and the loop's own share of time.

    python -m benchmarks.vocabulary --shape smollm2 --vocabulary 49152 [--against WHEEL]

Three members of random weights whose next-token distributions are about as peaked as a language
model's. They differ by noise in the output layer, so that a draft stands about as often as between
real models of two sizes; the base has twice the layers. Own time is all of a round's but that of
members' passes. ``--against`` names a wheel of another build of eft-eval: both alternate, each in a
process of its own, and ratios of medians stand beside, of wall and of processor time.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from benchmarks.builds import Answer, Job, alternating, builds, medians, serve

RULES: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0.0},
    "T = 1": {"temperature": 1.0},
    "T = 1, top-p 0.95": {"temperature": 1.0, "top_p": 0.95},
    "T = 0.7, top-k 50, top-p 0.9": {"temperature": 0.7, "top_k": 50, "top_p": 0.9},
}
SHAPES = {
    "tiny": {"hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 128, "heads": (4, 4)},
    "small": {
        "hidden_size": 384,
        "num_hidden_layers": 6,
        "intermediate_size": 1024,
        "heads": (6, 2),
    },
    "smollm2": {
        "hidden_size": 576,
        "num_hidden_layers": 30,
        "intermediate_size": 1536,
        "heads": (9, 3),
    },
}
SPREAD = 7.0  # standard deviation of a row's logits
DIFFERENCE = 0.7  # of the base's and the reference's logits from the tuned member's


def make_members(folder: Path, vocabulary: int, shape: str) -> dict[str, str]:
    """Save three Llamas of random weights with a tokenizer of words; return them by role."""
    import torch
    from tokenizers import Tokenizer, models
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from benchmarks.deepening import grow

    size: dict[str, Any] = dict(SHAPES[shape])
    heads, groups = size.pop("heads")
    torch.manual_seed(0)
    model: Any = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            num_attention_heads=heads,
            num_key_value_heads=groups,
            max_position_embeddings=8192 + 512,
            eos_token_id=None,
            bos_token_id=None,
            **size,
        )
    )
    width = size["hidden_size"] ** 0.5
    torch.nn.init.normal_(model.lm_head.weight, std=SPREAD / width)
    own = model.lm_head.weight.detach().clone()
    words = {f"w{number}": number for number in range(vocabulary)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))
    depth, found = size["num_hidden_layers"], {}
    for role, layers, noise in (
        ("tuned", depth, 0.0),
        ("reference", depth, DIFFERENCE),
        ("base", 2 * depth, DIFFERENCE),
    ):
        grow(model, layers)
        with torch.no_grad():
            model.lm_head.weight.copy_(own + torch.randn_like(own) * (noise / width))
        found[role] = str(folder / role)
        model.save_pretrained(found[role])
        PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(found[role])
    return found


@lru_cache(maxsize=1)
def _composite(members: str) -> Any:
    from eft_eval import Composite

    return Composite.load(json.loads(members), device="cpu")


@lru_cache
def _decoder(members: str, block: int | str, rows: int, rule: str) -> Any:
    """Return a decoder that goes on with what it learnt, as over the requests of a task."""
    from eft_eval.decoding.loop import Decoder

    return Decoder(_composite(members), block)  # type: ignore[arg-type]  # "auto" is a literal


def decode(job: Job) -> Answer:
    """Generate; return tokens per second of wall and of processor time, and the shares of time."""
    from eft_eval.decoding.requests import Request, SamplingRule

    rule = json.dumps(job["rule"])
    decoder = _decoder(json.dumps(job["members"]), job["block"], job["rows"], rule)
    requests = [
        Request(([(5 + row + 7 * place) % 1000 for place in range(4)],) * 3, row)
        for row in range(job["rows"])
    ]
    seen = decoder.statistics
    before = seen.total_seconds, sum(seen.seconds.values()), seen.tested, seen.accepted
    wall, cpu = time.perf_counter(), time.process_time()
    made = decoder.generate(
        requests, SamplingRule(**job["rule"]), job["limit"], batch_size=job["rows"]
    )
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    total = seen.total_seconds - before[0]
    own = total - (sum(seen.seconds.values()) - before[1])
    count = sum(len(one.tokens) for one in made)
    tested = seen.tested - before[2]
    return {
        "wall": wall,
        "cpu": cpu,
        "count": count,
        "own_ms": 1e3 * own / count,
        "share": own / total,
        "acceptance": (seen.accepted - before[3]) / tested if tested else 0.0,
        "drafted": tested,
        "tokens": [one.tokens for one in made],
    }


def compare(answers: dict[str, list[Answer]]) -> dict[str, Any]:
    """Return the medians of this build's answers and the ratios to the rival's."""
    wall, cpu, share, own, acceptance = medians(
        answers["this"], "wall", "cpu", "share", "own_ms", "acceptance"
    )
    found: dict[str, Any] = {
        "tokens_per_second": answers["this"][0]["count"] / wall,
        "own_share": share,
        "own_ms": own,
        "acceptance": acceptance,
    }
    if "rival" in answers:
        old_wall, old_cpu, old_share, old_own = medians(
            answers["rival"], "wall", "cpu", "share", "own_ms"
        )
        pairs = [
            (one, other)
            for first, second in zip(
                answers["this"][0]["tokens"], answers["rival"][0]["tokens"], strict=True
            )
            for one, other in zip(first, second, strict=False)
        ]
        found |= {
            "faster": old_wall / wall,
            "faster_cpu": old_cpu / cpu,
            "rival_share": old_share,
            "rival_own_ms": old_own,
            "same_tokens": sum(a == b for a, b in pairs) / len(pairs),
        }
    return found


def line_of(name: str, found: dict[str, Any]) -> str:
    """Return a line of the table."""
    line = (
        f"{name:40} {found['tokens_per_second']:7.2f} tokens/s, own share {found['own_share']:.3f},"
        f" {found['own_ms']:6.2f} ms per token, acceptance {found['acceptance']:.2f}"
    )
    if "faster" in found:
        line += (
            f"; rival: share {found['rival_share']:.3f}, {found['rival_own_ms']:6.2f} ms; faster "
            f"{found['faster']:.2f} x, in processor time {found['faster_cpu']:.2f} x; same tokens "
            f"{found['same_tokens']:.3f}"
        )
    return line


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print a table; ``--serve`` is what the alternating processes run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--vocabulary", type=int, default=151936)
    parser.add_argument("--rows", type=int, nargs="+", default=[8])
    parser.add_argument("--shape", choices=SHAPES, default="tiny")
    parser.add_argument("--rules", nargs="+", choices=RULES, default=list(RULES))
    parser.add_argument("--block", default="auto", help="auto or a number")
    parser.add_argument("--limit", type=int, default=24, help="tokens per response")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--against", type=Path, help="wheel of another build")
    parser.add_argument("--json", type=Path, help="write all figures here")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.serve:
        serve(decode)
        return
    block = given.block if given.block == "auto" else int(given.block)
    figures = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        members = make_members(folder, given.vocabulary, given.shape)
        with builds("benchmarks.vocabulary", given.against, folder) as started:
            for rows in given.rows:
                for rule in given.rules:
                    job = {
                        "members": members, "rows": rows, "rule": RULES[rule], "block": block,
                        "limit": given.limit,
                    }  # fmt: skip
                    found = compare(alternating(started, job, given.repeats))
                    figures[f"{rule}, batch {rows}"] = found
                    print(line_of(f"{rule}, batch {rows}", found), flush=True)
    if given.json:
        given.json.write_text(json.dumps({**vars(given), "figures": figures}, default=str))


if __name__ == "__main__":
    main()
