"""What a token costs over prompt length, batch and vocabulary, and what bounds it.

    python -m benchmarks.curves --json curves.json

Three members of random weights (`benchmarks.vocabulary`, 6 layers of 384, the base 12), float32,
one thread. Reading is timed once; then the median of ``--rounds`` rounds of plain decoding, T = 1.
What a round's work takes on this machine is told beside: to multiply all rows by the layers' and by
the output layers' weights (their bytes, at the speed of a large product of as many rows: few rows
wait for memory, many for arithmetic), to read all rows' keys and values (at the speed of a copy),
to launch the passes (those of models of the same depth, and hardly any width), the loop's own part
(sums over the vocabulary, noise, choice; measured), and what is left. The largest bounds the point.
Points whose prompts would take longer to read than ``--most`` seconds are left out, and said to be.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.deepening import cost_per_token
from benchmarks.machine import bandwidth_of, product_seconds
from benchmarks.vocabulary import make_members

PROMPTS, ROWS, VOCABULARIES = (128, 512, 2048, 8192), (1, 8, 32), (32_768, 131_072, 262_144)
DEVICE = torch.device("cpu")
COPIED = 1 << 28  # bytes, far more than caches hold


class Speeds(NamedTuple):
    """What was measured of the machine.

    Attributes:
        bandwidth: Bytes per second of a copy.
        products: By rows, seconds per byte of weights that they are multiplied by.
    """

    bandwidth: float
    products: dict[int, float]


class Work(NamedTuple):
    """What the members' passes take together.

    Attributes:
        layers: Bytes of the layers' weights.
        output: Bytes of the output layers'.
        cached: Bytes of keys and values for each token that was read.
        attended: Operations for each token that was read.
        launching: Seconds to launch a pass of each.
    """

    layers: int
    output: int
    cached: int
    attended: int
    launching: float


def work_of(models: Sequence[Any]) -> Work:
    """Return what passes of Llamas take; of an embedding one row is read."""
    output = [one.lm_head.weight.nbytes for one in models]
    embedded = [one.get_input_embeddings().weight.nbytes for one in models]
    whole = [sum(weights.nbytes for weights in one.parameters()) for one in models]
    depths = [(one.config.num_hidden_layers, one.config.head_dim, one.config) for one in models]
    return Work(
        sum(whole) - sum(output) - sum(embedded),
        sum(output),
        sum(2 * n * size * config.num_key_value_heads * 4 for n, size, config in depths),
        sum(4 * n * size * config.num_attention_heads for n, size, config in depths),
        sum(cost_per_token([_narrow(n) for n, _, _ in depths])),
    )


def _narrow(layers: int) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = {"hidden_size": 8, "intermediate_size": 8, "vocab_size": 8, "num_attention_heads": 1}
    return LlamaForCausalLM(LlamaConfig(num_hidden_layers=layers, **shape)).eval()


def measured(composite: Any, rows: int, length: int, rounds: int) -> dict[str, float]:
    """Return milliseconds: of reading per row, then of a token, and the loop's own part of that."""
    from eft_eval.decoding.loop import Decoder
    from eft_eval.decoding.requests import Request, SamplingRule

    prompts = [[(5 + row + 7 * n) % 1000 for n in range(length - row % 3)] for row in range(rows)]
    requests = [Request((prompt,) * 3, row) for row, prompt in enumerate(prompts)]
    decoder = Decoder(composite, 0)
    going = decoder.rounds(requests, SamplingRule(1.0), rounds + 2)
    start = time.perf_counter()
    next(going)
    read = time.perf_counter() - start
    seen = decoder.statistics
    own_before, took = seen.own_seconds, []
    for _ in range(rounds):
        start = time.perf_counter()
        next(going)
        took.append(time.perf_counter() - start)
    return {
        "reading_ms_per_row": 1e3 * read / rows,
        "ms_per_token": 1e3 * statistics.median(took) / rows,
        "own_ms_per_token": 1e3 * (seen.own_seconds - own_before) / rounds / rows,
    }


def point(
    composite: Any, work: Work, speeds: Speeds, where: tuple[int, int, int], given: Any
) -> dict[str, Any]:
    """Measure at one vocabulary, prompt length and number of rows."""
    size, length, rows = where
    found: dict[str, Any] = {"vocabulary": size, "prompt": length, "rows": rows}
    most = max(speeds.products)
    fastest = 2 * speeds.products[most] / most  # seconds per operation
    reading = rows * length * (work.layers / 2 + work.attended * length / 2) * fastest
    if reading > given.most:
        return {**found, "left_out": f"its prompts take about {reading:.0f} s"}
    found |= measured(composite, rows, length, given.rounds)
    product, read = speeds.products[rows], rows * (length + given.rounds // 2)
    kind = "multiplied" if product > 2 * min(speeds.products.values()) else "read"
    parts = {
        f"layers' weights, {kind}": work.layers * product,
        f"output layers' weights, {kind}": work.output * product,
        "keys and values": read * work.cached / speeds.bandwidth,
        "launches": work.launching,
    }
    shares = {name: 1e3 * took / rows for name, took in parts.items()}
    shares["the vocabulary's own work"] = found["own_ms_per_token"]
    shares["the rest"] = found["ms_per_token"] - sum(shares.values())
    return {**found, "parts_ms": shares, "bound_by": max(shares, key=shares.__getitem__)}


def line_of(found: dict[str, Any]) -> str:
    """Return a line of the table."""
    where = f"{found['vocabulary']:8} {found['prompt']:6} {found['rows']:3}"
    if "left_out" in found:
        return f"{where}  left out: {found['left_out']}"
    parts = ", ".join(f"{name} {took:.2f}" for name, took in found["parts_ms"].items())
    return (
        f"{where}  {found['reading_ms_per_row']:9.1f} {found['ms_per_token']:8.2f}  "
        f"{found['bound_by']} ({parts})"
    )


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--shape", default="small", help="of benchmarks.vocabulary")
    parser.add_argument("--prompts", type=int, nargs="+", default=PROMPTS)
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS)
    parser.add_argument("--vocabularies", type=int, nargs="+", default=VOCABULARIES)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--most", type=float, default=60.0, help="seconds of reading prompts")
    parser.add_argument("--json", type=Path, help="write all figures here")
    given = parser.parse_args()
    from eft_eval import Composite

    torch.set_num_threads(1)
    products = {rows: product_seconds(DEVICE, rows) for rows in given.rows}
    speeds = Speeds(bandwidth_of(DEVICE, COPIED), products)
    print(f"a copy {speeds.bandwidth / 1e9:.1f} GB/s; weights times rows, GB/s:", end=" ")
    print(", ".join(f"{rows}: {1e-9 / took:.1f}" for rows, took in products.items()))
    print("vocabulary prompt rows  reading ms per row, ms per token, bound by (ms per token)")
    points = []
    for size in given.vocabularies:
        # the vocabulary's work is the same after any prompt: larger ones after the shortest alone
        lengths = given.prompts if size == min(given.vocabularies) else given.prompts[:1]
        with tempfile.TemporaryDirectory() as folder:
            composite = Composite.load(make_members(Path(folder), size, given.shape), device="cpu")
            work = work_of([view.member.model for view in composite.views])
            measured(composite, 1, 8, 1)  # how the members are read is tried out at first
            for length in lengths:
                for rows in given.rows:
                    where = size, length, rows
                    points.append(point(composite, work, speeds, where, given))
                    print(line_of(points[-1]), flush=True)
            del composite
    if given.json:
        told = {"machine": speeds._asdict(), "rounds": given.rounds, "points": points}
        given.json.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
