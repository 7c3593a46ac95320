"""Plans against runs: what `eft-eval plan` says of memory and time, and what is measured here.

    python -m benchmarks.plans --json plans.json        (with vLLM: of both engines)

The members of `benchmarks.engines`. The CPU's bandwidth and arithmetic are measured in the process
that runs, as ``--hardware CPU`` does; a plan is told the lengths of the run's prompts and responses
and its acceptance, and nothing else. One thread, and processor time in place of time, so that a
machine with other work gives the same figures.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.engines import FULL, SMOKE, Size, Worker, cache_bytes, make_members, prompts_of
from eft_eval.plans.processor import Processor

__all__ = ["Case", "compare", "main"]


class Case(NamedTuple):
    """A run."""

    engine: str
    block: int
    rows: int
    prompts: int

    def __str__(self) -> str:
        drafts = f"{self.block} drafted" if self.block else "plain"
        return f"{self.engine}, {drafts}, {self.rows} rows"


CASES = (
    Case("eft", 0, 1, 3),
    Case("eft", 0, 8, 24),
    Case("eft", 0, 32, 64),
    Case("eft", 4, 1, 3),
    Case("eft", 4, 8, 24),
    Case("eft-vllm", 0, 1, 3),
    Case("eft-vllm", 0, 8, 24),
    Case("eft-vllm", 0, 32, 64),
    Case("eft-vllm", 4, 1, 3),
    Case("eft-vllm", 4, 8, 24),
)


def libraries(engine: str) -> dict[str, Any]:
    """Return what a process of an engine holds beside tiny members and their caches, in bytes."""
    with tempfile.TemporaryDirectory() as folder:
        members = make_members(Path(folder), SMOKE)
        job = {
            "members": members,
            "rows": 1,
            "caches": cache_bytes(members, 1),
            "engine": "vllm" if engine == "eft-vllm" else "transformers",
            "block": 0,
        }
        with Worker(job, threads=1) as worker:
            for _ in range(2):
                worker.ask(do="generate", prompts=prompts_of(members["tuned"], 1), rows=1, limit=4)
            memory = worker.ask(do="memory")
        own = sum(file.stat().st_size for file in Path(folder).glob("*/*.safetensors"))
    own += memory.get("tables", 0) + memory.get("caches", 0)
    return {"engine": engine, "libraries": memory["imports"] + memory["peak"] - own}


def compare(case: Case, members: dict[str, str], size: Size) -> dict[str, Any]:
    """Run a case and plan it; return both."""
    from eft_eval.plans.hardware import Device, Hardware
    from eft_eval.plans.layout import Spread, laid_out, rank_memory
    from eft_eval.plans.members import planned_composite
    from eft_eval.plans.speed import Workload, speed_of
    from eft_eval.recipe import parse_recipe

    prompts = prompts_of(members["tuned"], case.prompts)
    job = {
        "members": members,
        "rows": case.rows,
        "caches": cache_bytes(members, case.rows),
        "engine": "vllm" if case.engine == "eft-vllm" else "transformers",
        "block": case.block,
    }
    with Worker(job, threads=1) as worker:
        worker.ask(do="generate", prompts=prompts[:1], rows=1, limit=4)
        before = worker.ask(do="hardware")["processor"]
        runs = [
            worker.ask(do="generate", prompts=prompts, rows=case.rows, limit=size.limit)
            for _ in range(2)
        ]
        memory = worker.ask(do="memory")
        after = worker.ask(do="hardware")["processor"]
    best = min(runs, key=lambda one: float(one["processor"]))
    processor = _mean(before, after)
    device = Device("CPU", 1 << 40, processor.bandwidth, processor.compute, True, processor)
    tokens = sum(map(len, best["tokens"]))
    read = sum(map(len, prompts)) / len(prompts)
    longest = max(map(len, prompts)) + size.limit
    work = Workload(len(prompts), read, tokens / len(prompts), 0, 0, longest)
    layout = laid_out(
        planned_composite(parse_recipe({**members, "block": case.block})), case.engine
    )
    spread = Spread(1, case.rows, longest)
    acceptance = memory["statistics"]["acceptance"] or 0.0
    speed = speed_of(layout, spread, Hardware(device, 1, 1), work, acceptance)
    planned = rank_memory(layout, spread, device)
    return {
        "case": str(case),
        "planned_tokens_per_second": tokens / speed.generation_seconds,
        "measured_tokens_per_second": tokens / best["processor"],
        "planned_memory": planned.total,
        "measured_memory": memory["imports"] + memory["peak"],
        "measured_beyond_imports": memory["peak"],
        "parts": {
            "weights": sum(planned.weights.values()), "caches": sum(planned.caches.values()),
            "draft": planned.draft, "scores": planned.scores, "activations": planned.activations,
            "libraries": planned.runtime,
        },
        "acceptance": acceptance,
        "processor": processor,
    }  # fmt: skip


def _mean(*measured: Any) -> Processor:
    products = [
        (column[0][0], sum(one[1] for one in column) / len(column))
        for column in zip(*(products for products, _ in measured), strict=True)
    ]
    return Processor(tuple(products), sum(layer for _, layer in measured) / len(measured))


def main(words: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Parse the command line, compare, print; return all figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", type=Path, help="write all figures here")
    parser.add_argument("--smoke", action="store_true", help="tiny members, one case an engine")
    parser.add_argument("--libraries", action="store_true", help="what tiny members leave over")
    parser.add_argument("--only", default="", help="cases whose name begins with this")
    options = parser.parse_args(words)
    size = SMOKE if options.smoke else FULL
    cases = [one for one in CASES if str(one).startswith(options.only)]
    if find_spec("vllm") is None:
        cases = [one for one in cases if one.engine == "eft"]
    if options.libraries:
        engines = dict.fromkeys(one.engine for one in cases)
        found = [libraries(engine) for engine in engines]
        print(*found, sep="\n", flush=True)
        cases = []
    else:
        found = []
    if options.smoke:
        cases = [one for one in cases if one.rows == 1 and not one.block]
    with tempfile.TemporaryDirectory() as folder:
        members = make_members(Path(folder), size)
        for case in cases:
            found.append(compare(case, members, size))
            print(_line(found[-1]), flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    return found


def _line(one: dict[str, Any]) -> str:
    speed = one["planned_tokens_per_second"], one["measured_tokens_per_second"]
    memory = one["planned_memory"] / 2**20, one["measured_memory"] / 2**20
    return (
        f"{one['case']:30} tokens/s planned {speed[0]:8.1f} measured {speed[1]:8.1f} "
        f"ratio {speed[0] / speed[1]:.2f}   MiB planned {memory[0]:7.0f} measured {memory[1]:7.0f} "
        f"ratio {memory[0] / memory[1]:.2f}"
    )


if __name__ == "__main__":
    main()
