"""Decoding on one GPU: models of real sizes whose drafts are accepted as trained models' are.

    python -m benchmarks.gpu --json gpu.json [--wheels FOLDER] [--budget SECONDS] [--smoke]

Runs from the repository's root on a bare machine with torch and transformers; lm-eval is not
needed and nothing is downloaded. Of what eft-eval needs besides, only pydantic is used here. Where
it is missing, fetch it elsewhere, for the Python of the machine, and carry the folder there:

    pip download --dest wheels --only-binary :all: --python-version 3.12 pydantic

The demo's trained members are laid into random weights of a 7B, a 1.5B, a 0.5B and a 135M model's
shape (`benchmarks.widening`; always four key-value heads, as those of the demo), so that they say
what they were trained to say. First come bfloat16's flips: first differences per 1,000 tokens from
the trained members in float32. Then tokens per second, the median of up to three runs after one
for warmth, and what share that is of what the measured memory bandwidth allows: weights and caches
of all passes that were made, read once each. The table's lines appear as they are measured, and
the JSON is written after each; what no longer fits the budget is skipped, and said to be. Besides,
speculative decoding is measured without CUDA graphs, and without the fixed shapes that they need.
"""

from __future__ import annotations

import argparse
import gc
import json
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_pairs import PAIRS, TINY, Pair, Scale, trained_responses
from benchmarks.machine import Machine, bandwidth_of, use_wheels, versions

RIVALS = (
    "plain", "base alone", "base alone, compiled", "assisted generation",
    "speculative, no graphs", "speculative, no fixed shapes",
)  # fmt: skip
FULL = Scale(PAIRS, (1, 32, 8), 64, 32, 3)
SMOKE = Scale((TINY,), (1, 4), 16, 4, 1)


class Report:
    """What was measured so far, on the terminal and on disk, and the time that is left.

    Args:
        path: Of the JSON; None: none.
        budget: Seconds.
    """

    def __init__(self, path: Path | None, budget: float) -> None:
        self.found: dict[str, Any] = {"lines": [], "skipped": [], "failed": {}}
        self._path, self._end = path, time.monotonic() + budget
        self._took: dict[str, float] = {}

    def add(self, name: str, kind: str, work: Callable[[], dict[str, Any]]) -> None:
        """Do some work and keep what it returns as a line, if there is time.

        Args:
            name: Of the line.
            kind: Work of one kind takes about as long as the last of it did.
            work: Returns the line's figures.
        """
        start = time.monotonic()
        if start + self._took.get(kind, 0.0) > self._end:
            self.found["skipped"].append(name)
            self._tell(name, "skipped: no time left")
            return
        try:
            figures = work()
        except Exception as error:  # noqa: BLE001  # the others are still to be measured
            line = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            self.found["failed"][name] = line
            self._tell(name, f"failed: {line}")
            return
        self._took[kind] = max(self._took.get(kind, 0.0), time.monotonic() - start)
        self.found["lines"].append({"name": name, **figures})
        self._tell(name, "  ".join(f"{key} {_short(value)}" for key, value in figures.items()))

    def set(self, name: str, value: Any) -> None:
        """Keep a figure that is no line."""
        self.found[name] = value
        self._tell(name, _short(value))

    def keep(self, name: str, value: Any) -> None:
        """Keep what is printed elsewhere."""
        self.found[name] = value
        self._write()

    def _tell(self, name: str, text: str) -> None:
        print(f"{name:44} {text}", flush=True)
        self._write()

    def _write(self) -> None:
        if self._path is not None:
            self._path.write_text(json.dumps(self.found, indent=1) + "\n")


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def measure(report: Report, scale: Scale, device: torch.device, dtype: torch.dtype) -> None:
    """Measure everything, most wanted first."""
    cuda = device.type == "cuda"
    report.set("device", torch.cuda.get_device_name(device) if cuda else "cpu")
    report.set("versions", versions())
    report.set("dtype", str(dtype).removeprefix("torch."))
    machine = Machine(device, dtype, bandwidth_of(device, (1 << 31) if cuda else (1 << 25)))
    report.set("bytes_per_second", machine.bandwidth)
    truth = trained_responses(scale, device)
    for sizes in scale.pairs:
        made: list[Pair] = []
        with tempfile.TemporaryDirectory() as folder:
            make = partial(Pair, sizes, scale, Path(folder), machine)
            report.add(f"{sizes.name}: parameters", "build", partial(_build, make, made))
            if made:
                _contest(report, scale, made.pop(), truth)
        gc.collect()
        if cuda:
            torch.cuda.empty_cache()
    _compare(report)


def _as_it_stands(work: Callable[[], None]) -> Callable[[], None]:
    return work


def _build(make: Callable[[], Pair], made: list[Pair]) -> dict[str, Any]:
    made.append(make())
    models = made[0].models.items()
    return {role: f"{model.num_parameters() / 1e6:.0f} M" for role, model in models}


def _contest(report: Report, scale: Scale, pair: Pair, truth: list[list[int]]) -> None:
    name = pair.name
    report.add(f"{name}: flips per 1,000 tokens", "flips", partial(pair.flips, truth))
    static = {"cache_implementation": "static"}
    for rows in scale.rows:
        at = f"{name}, batch {rows}"
        report.add(f"{at}: plain", "plain", partial(pair.decoded, 0, rows))
        report.add(f"{at}: speculative", "speculative", partial(pair.decoded, "auto", rows))
        report.add(f"{at}: speculative, T = 1", "sampled", partial(pair.decoded, "auto", rows, 1.0))
        report.add(f"{at}: base alone", "base", partial(pair.base_alone, rows))
        if rows == 1:
            for without, record in (("no graphs", _as_it_stands), ("no fixed shapes", None)):
                work = partial(pair.decoded, "auto", rows, record=record)
                report.add(f"{at}: speculative, {without}", "launched", work)
            report.add(f"{at}: assisted generation", "assisted", pair.assisted)
    for rows in scale.rows:  # compiling takes long
        line = f"{name}, batch {rows}: base alone, compiled"
        report.add(line, "compiled", partial(pair.base_alone, rows, **static))


def _compare(report: Report) -> None:
    """Print the ratios that the targets are about."""
    speed = {one["name"]: one.get("tokens_per_second") for one in report.found["lines"]}
    ratios = {}
    for name, value in speed.items():
        at, _, contestant = name.rpartition(": ")
        if contestant != "speculative" or value is None:
            continue
        for other in RIVALS:
            if rival := speed.get(f"{at}: {other}"):
                ratios[f"{at}: speculative over {other}"] = value / rival
    for name, ratio in ratios.items():
        print(f"{name:64} {ratio:.2f}")
    report.keep("ratios", ratios)


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="write all figures here, after each")
    parser.add_argument("--wheels", type=Path, help="a folder of wheels that may be missing here")
    parser.add_argument("--budget", type=float, default=330.0, help="seconds for all of it")
    parser.add_argument("--smoke", action="store_true", help="tiny shapes, on a CPU")
    parser.add_argument("--dtype", default="bfloat16")
    given = parser.parse_args()
    if not (given.smoke or torch.cuda.is_available()):
        parser.error("there is no CUDA device here; --smoke runs tiny shapes on a CPU")
    device = torch.device("cpu" if given.smoke else "cuda")
    report = Report(given.json, given.budget)
    with tempfile.TemporaryDirectory() as unpacked:
        if given.wheels is not None:
            report.set("wheels", use_wheels(given.wheels, Path(unpacked)))
        scale = SMOKE if given.smoke else FULL
        measure(report, scale, device, getattr(torch, given.dtype))


if __name__ == "__main__":
    main()
